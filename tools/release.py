"""Build the source distributions and the wheels, and check each in an environment of its own.

    python -m tools.release    what `make release` runs; docs/project/releasing.md says when

There are two distributions: ordermesh-sync, and its consumer kit. A wheel is built from the unpacked source
distribution, so a file that is missing there fails here. Nothing is uploaded and no tag is set.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.environments import DIST, ROOT, environment, pip_of, run, version_of
from tools.sbom import write as write_bill

ORDERS = 200
READ_ONCE = ("run", "--sandbox", "--once", "--orders", str(ORDERS), "--json")
"""Arguments of `ordersync` with which it reads a sandbox."""


def step(text: str) -> None:
    """Print a headline."""
    print(f"\n== {text}", flush=True)


@dataclass(frozen=True, slots=True)
class Built:
    """A distribution: its two files in `dist`, and where the source distribution was unpacked."""

    sdist: Path
    wheel: Path
    source: Path


def build(project: Path, name: str, folder: Path) -> Built:
    """Build a distribution into `dist`, which is unpacked below `folder`."""
    hatchling = (sys.executable, "-m", "hatchling", "build", "--directory", DIST, "--target")
    run(*hatchling, "sdist", cwd=project)
    (sdist,) = DIST.glob(f"{name}-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.glob(f"{name}-*")
    # For every machine, so without the compiled reader. An installation of the source distribution compiles it.
    run("env", "ORDERSYNC_COMPILED=off", *hatchling, "wheel", cwd=source)
    (wheel,) = DIST.glob(f"{name}-*.whl")
    return Built(sdist, wheel, source)


def try_it(programs: Path, kit: Path, package: Path, version: str, folder: Path) -> None:
    """Install the kit and a package without their dependencies, which are there, and read a sandbox with it."""
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", kit, package)
    run(*pip_of(programs), *install, cwd=folder)
    run(*pip_of(programs), "check", cwd=folder)
    ordersync = programs / "ordersync"
    shown = run(ordersync, "--version", cwd=folder, quiet=True).strip()
    if shown != f"ordersync {version}":
        sys.exit(f"release: {package.name} prints the version {shown!r} instead of {version}")
    print(f"{package.name}: {judge(run(ordersync, *READ_ONCE, cwd=folder, quiet=True))}", flush=True)


def judge(printed: str) -> str:
    """Return what `READ_ONCE` has read, in words.

    Args:
        printed: What the command printed: the runs of all resources as JSON.

    Raises:
        SystemExit: A run is not complete, or an order was not published once.

    """
    runs = {each["resource"]: each for each in json.loads(printed)}
    orders = runs["orders"]["records"], runs["orders"]["snapshot"]
    words = "{} orders read, {} events published".format(*orders)
    if partial := [
        f"{name} {each['outcome']}" for name, each in runs.items() if each["outcome"] != "complete"
    ]:
        sys.exit(f"release: every resource of the sandbox must be complete: {', '.join(partial)}")
    if not ORDERS <= orders[0] == orders[1]:
        sys.exit(f"release: every order of the sandbox must be read and published once: {words}")
    return words


def main() -> None:
    """Build and check. End with the first failure."""
    if changed := run("git", "status", "--porcelain", cwd=ROOT, quiet=True):
        sys.exit(
            f"release: commit or remove these files first, or they become part of the release:\n{changed}"
        )
    version = version_of(ROOT)
    if version_of(ROOT / "consumer") != version:
        sys.exit(f"release: consumer/pyproject.toml must have version {version} as well")
    with tempfile.TemporaryDirectory(prefix="ordersync-release-") as name:
        folder = Path(name)
        for inner in ("unpacked", "work"):
            (folder / inner).mkdir()
        step(f"Build version {version}")
        shutil.rmtree(DIST, ignore_errors=True)
        kit = build(ROOT / "consumer", "ordersync_consumer", folder / "unpacked")
        engine = build(ROOT, "ordermesh_sync", folder / "unpacked")
        packages = [kit.sdist, kit.wheel, engine.sdist, engine.wheel]

        step("Check the metadata")
        twine = environment(folder / "twine", "requirements-release.lock") / "twine"
        run(twine, "check", "--strict", *packages, cwd=folder)

        step("Install the wheel and read a sandbox")
        programs = environment(folder / "wheel", "requirements.lock")
        try_it(programs, kit.wheel, engine.wheel, version, folder / "work")

        step("Write the bill of materials")
        supply = environment(folder / "supply", "requirements-supply.lock")
        bill = write_bill(supply, programs, version, folder / "work")

        step("Install the source distribution, read a sandbox, run its unit tests")
        programs = environment(folder / "sdist", "requirements-dev.lock")
        try_it(programs, kit.sdist, engine.sdist, version, folder / "work")
        tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "tests/unit")
        run(programs / "python", *tests, cwd=engine.source)

    step("Done")
    for package in (*packages, bill):
        print(f"{hashlib.sha256(package.read_bytes()).hexdigest()}  dist/{package.name}")


if __name__ == "__main__":
    main()
