"""Node and packages of npm, for tests of programs in another language."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.tools import missing, program


@contextmanager
def installing(name: str) -> Iterator[Path]:
    """A folder to install packages into, kept between runs; one test at a time, also of several processes."""
    folder = ROOT / ".cache" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def modules_with(package: str, version: str, seconds: float = 100) -> Path:
    """A `node_modules` with a package in it, kept between runs. The test ends where it cannot be had."""
    program("node")
    npm = program("npm")
    with installing(package.strip("@").partition("/")[0]) as folder:
        modules = folder / "node_modules"
        if not (modules / package / "package.json").exists():
            quiet = (
                *("--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"),
                *("--prefix", str(folder)),
            )
            try:
                subprocess.run(
                    [npm, "install", *quiet, f"{package}@{version}"],
                    capture_output=True,
                    timeout=seconds,
                    check=True,
                )
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                missing(f"{package} cannot be installed: npm ended with {type(error).__name__}")
    return modules


def example(folder: Path, name: str = "read.mjs") -> tuple[str, ...]:
    """The command that runs an example in a folder: node looks for packages beside the script."""
    (folder / "node_modules").symlink_to(modules_with("ioredis", "5"), target_is_directory=True)
    shutil.copy(ROOT / "deploy" / "examples" / name, folder / name)
    return ("node", str(folder / name))
