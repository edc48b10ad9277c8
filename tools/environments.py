"""Programs, environments and versions, for the tools that build and describe a release."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"


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


def environment(folder: Path, lock: str) -> Path:
    """Create an environment with the packages of a lock, each file checked by its hash. Return its programs."""
    venv.create(folder, with_pip=True)
    run(*pip_of(folder / "bin"), "install", "--quiet", "--require-hashes", "-r", ROOT / lock, cwd=folder)
    return folder / "bin"


def pip_of(programs: Path) -> tuple[str | Path, ...]:
    """Return the command that runs the pip of an environment."""
    return programs / "python", "-m", "pip", "--disable-pip-version-check"


def version_of(project: Path) -> str:
    """Return the version in a pyproject.toml."""
    version: str = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    return version
