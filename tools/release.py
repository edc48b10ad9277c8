"""Build the source distribution and the wheel, and check each in an environment of its own.

    python -m tools.release    what `make release` runs; docs/project/releasing.md says when

The wheel is built from the unpacked source distribution, so a file that is missing there fails here. Nothing is
uploaded and no tag is set.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
ORDERS = 200


def run(*command: str | Path, cwd: Path, quiet: bool = False) -> str:
    """Run a program without this project's settings in its environment. Return its output; exit if it fails."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ORDERSYNC_", "PYTHON"))}
    env["ORDERSYNC_DATA_DIR"] = str(cwd / "data")
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"release: failed with exit code {done.returncode}: {' '.join(map(str, command))}")
    return done.stdout or ""


def step(text: str) -> None:
    """Print a headline."""
    print(f"\n== {text}", flush=True)


def build(folder: Path) -> tuple[Path, Path, Path]:
    """Build both into `dist`. Return the source distribution, the wheel, and where the first was unpacked."""
    shutil.rmtree(DIST, ignore_errors=True)
    hatchling = (sys.executable, "-m", "hatchling", "build", "--directory", DIST, "--target")
    run(*hatchling, "sdist", cwd=ROOT)
    (sdist,) = DIST.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    run(*hatchling, "wheel", cwd=source)
    (wheel,) = DIST.glob("*.whl")
    return sdist, wheel, source


def environment(folder: Path, lock: str) -> Path:
    """Create an environment with the packages of a lock, each file checked by its hash. Return its programs."""
    venv.create(folder, with_pip=True)
    run(*_pip(folder / "bin"), "install", "--quiet", "--require-hashes", "-r", ROOT / lock, cwd=folder)
    return folder / "bin"


def _pip(programs: Path) -> tuple[str | Path, ...]:
    return programs / "python", "-m", "pip", "--disable-pip-version-check"


def try_it(programs: Path, package: Path, version: str, folder: Path) -> None:
    """Install a package without its dependencies, which are there, and read a sandbox with it."""
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", package)
    run(*_pip(programs), *install, cwd=folder)
    run(*_pip(programs), "check", cwd=folder)
    ordersync = programs / "ordersync"
    shown = run(ordersync, "--version", cwd=folder, quiet=True).strip()
    if shown != f"ordersync {version}":
        sys.exit(f"release: {package.name} prints the version {shown!r} instead of {version}")
    once = ("run", "--sandbox", "--once", "--orders", str(ORDERS), "--json")
    (poll,) = json.loads(run(ordersync, *once, cwd=folder, quiet=True))
    outcome, records, events = poll["outcome"], poll["records"], poll["snapshot"]
    print(f"{package.name}: {outcome}, {records} records read, {events} events published", flush=True)
    if outcome != "complete" or not ORDERS <= records == events:
        sys.exit("release: every record of the sandbox must be read and published once")


def main() -> None:
    """Build and check. End with the first failure."""
    if changed := run("git", "status", "--porcelain", cwd=ROOT, quiet=True):
        sys.exit(
            f"release: commit or remove these files first, or they become part of the release:\n{changed}"
        )
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    with tempfile.TemporaryDirectory(prefix="ordersync-release-") as name:
        folder = Path(name)
        for inner in ("unpacked", "work"):
            (folder / inner).mkdir()
        step(f"Build version {version}")
        sdist, wheel, source = build(folder / "unpacked")

        step("Check the metadata")
        twine = environment(folder / "twine", "requirements-release.lock") / "twine"
        run(twine, "check", "--strict", sdist, wheel, cwd=folder)

        step("Install the wheel and read a sandbox")
        try_it(environment(folder / "wheel", "requirements.lock"), wheel, version, folder / "work")

        step("Install the source distribution, read a sandbox, run its unit tests")
        programs = environment(folder / "sdist", "requirements-dev.lock")
        try_it(programs, sdist, version, folder / "work")
        tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "tests/unit")
        run(programs / "python", *tests, cwd=source)

    step("Done")
    for package in (sdist, wheel):
        print(f"{hashlib.sha256(package.read_bytes()).hexdigest()}  dist/{package.name}")


if __name__ == "__main__":
    main()
