"""Node with ioredis, for tests of programs in another language."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@contextmanager
def installing(name: str) -> Iterator[Path]:
    """A folder to install packages into, kept between runs; one test at a time, also of several processes."""
    folder = ROOT / ".cache" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def ioredis() -> Path:
    """A `node_modules` with ioredis in it, kept between runs. Skips the test where it cannot be had."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not on PATH")
    with installing("node") as folder:
        modules = folder / "node_modules"
        if not (modules / "ioredis" / "package.json").exists():
            quiet = (
                *("--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"),
                *("--prefix", str(folder)),
            )
            try:
                subprocess.run(
                    ["npm", "install", *quiet, "ioredis@5"], capture_output=True, timeout=60, check=True
                )
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                pytest.skip(f"ioredis cannot be installed: npm ended with {type(error).__name__}")
    return modules


def example(folder: Path, name: str = "read.mjs") -> tuple[str, ...]:
    """The command that runs an example in a folder: node looks for packages beside the script."""
    (folder / "node_modules").symlink_to(ioredis(), target_is_directory=True)
    shutil.copy(ROOT / "deploy" / "examples" / name, folder / name)
    return ("node", str(folder / name))
