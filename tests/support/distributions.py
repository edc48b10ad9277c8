"""Distributions of PyPI in a folder, for tests with other versions than those of the lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.node import INSTALLING, installing
from tests.support.tools import missing


def pip_into(folder: Path) -> tuple[str, ...]:
    """The command that installs distributions into a folder. Python compiles the few modules that a test imports."""
    options = ("--quiet", "--no-compile", "--disable-pip-version-check", "--upgrade", "--target", str(folder))
    return (sys.executable, "-m", "pip", "install", *options)


def distributions(name: str, *requirements: str, seconds: float = INSTALLING) -> Path:
    """A folder with these distributions and what they need, kept between runs. The test ends where they cannot be had.

    `name` names the folder, so it must say what is in it.
    """
    with installing(name) as folder:
        packages, done = folder / "packages", folder / "done"
        if not done.exists():
            try:
                subprocess.run(
                    [*pip_into(packages), *requirements],
                    capture_output=True,
                    timeout=seconds,
                    check=True,
                )
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                missing(
                    f"{', '.join(requirements)} cannot be installed: pip ended with {type(error).__name__}"
                )
            done.touch()
    return packages


def python_with(*folders: Path) -> tuple[list[str], dict[str, str]]:
    """A Python that sees these folders of packages and nothing of this environment: its command and environment."""
    base = getattr(sys, "_base_executable", sys.executable)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ORDERSYNC_"))}
    return [base, "-S", "-P"], env | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
