"""A small file system of its own, which a test may fill."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.tools import missing


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """Mount a file system of 8 MB at a new folder while the block runs; the test ends where that is impossible."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        missing("a file system can only be mounted by root, where the machine lets root do so")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """Write a file until the disk is full; return it."""
    file = place / "filler"
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(os.urandom(1 << 16))
        except OSError:
            return file
