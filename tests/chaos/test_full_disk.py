"""The disk of the embedded server is full for a while: nothing missed, nothing twice, and no restart by hand."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, Judge
from tests.support.programs import Program
from tests.support.waiting import eventually
from worker.redis.embedded import find

pytestmark = pytest.mark.anyio


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB; the test is skipped where it cannot be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system can only be mounted by root, where the machine lets root do so")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    """Write until the disk is full."""
    file = place / "filler"
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(os.urandom(1 << 16))
        except OSError:
            return file


async def test_a_disk_that_is_full_and_free_again(tmp_path: Path, small_disk: Path) -> None:
    """The daemon says that Redis refuses writes, and goes on by itself when there is room."""
    with Gateway(orders=150) as gateway:
        settings = gateway.settings("", small_disk)
        del settings["redis__url"]
        with Program(tmp_path, **settings) as daemon:
            running = await eventually(lambda: find(small_disk))
            with Judge(gateway, running.url) as judge:
                await judge.recovered()
                for _ in range(2):
                    filler = fill(small_disk)
                    for _ in range(3):
                        gateway.history.change("orders", gateway.history.ids("orders")[::10])
                        gateway.history.create("orders", 1)
                        await asyncio.sleep(1.0)
                    filler.unlink()
                    await judge.recovered(30)
                assert daemon.process.poll() is None
                assert judge.verdict().counts == {}
