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

INSTALLING = 250.0
"""Seconds to wait for packages from a registry: a busy machine may take a minute, and others install as well."""


@contextmanager
def installing(name: str) -> Iterator[Path]:
    """A folder to install packages into, kept between runs; one test at a time, also of several processes."""
    folder = ROOT / ".cache" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def install(folder: Path, packages: tuple[str, ...], command: tuple[str, ...], seconds: float) -> None:
    """Install packages with a command, unless they are there. The test ends where they cannot be had."""
    done, wanted = folder / ".installed", "\n".join(packages)
    if done.exists() and done.read_text() == wanted:
        return
    try:
        subprocess.run([*command, *packages], capture_output=True, timeout=seconds, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        missing(f"{' '.join(packages)} cannot be installed: {command[0]} ended with {type(error).__name__}")
    done.write_text(wanted)


def modules_with(*packages: str, folder: str = "", seconds: float = INSTALLING) -> Path:
    """A `node_modules` with packages (`NAME@VERSION`) in it, kept between runs. The test ends without them."""
    program("node")
    npm = program("npm")
    with installing(folder or packages[0].strip("@").replace("/", "@").partition("@")[0]) as place:
        quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock", "--prefix", str(place))
        install(place, packages, (npm, "install", *quiet), seconds)
    return place / "node_modules"


def example(folder: Path, name: str = "read.mjs") -> tuple[str, ...]:
    """The command that runs an example in a folder: node looks for packages beside the script."""
    (folder / "node_modules").symlink_to(modules_with("ioredis@5"), target_is_directory=True)
    shutil.copy(ROOT / "deploy" / "examples" / name, folder / name)
    return ("node", str(folder / name))
