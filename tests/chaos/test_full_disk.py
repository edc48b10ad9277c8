"""The disk of the embedded server is full for a while: nothing missed, nothing twice, and no restart by hand."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.support.gateway import Gateway, Judge
from tests.support.programs import Program
from tests.support.servers import free_port
from tests.support.small_disk import fill, small_disk
from tests.support.waiting import PATIENCE, eventually
from worker.redis.embedded import find
from worker.service import heartbeat
from worker.service.heartbeat import Beat, ResourceBeat

pytestmark = pytest.mark.anyio


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    with small_disk(tmp_path / "disk") as place:
        yield place


def test_the_heartbeat_names_the_full_disk(disk: Path) -> None:
    """There is no room for another file, so the last heartbeat is written over, however long the new one is."""
    beat = Beat(worker="w", pid=os.getpid(), at=1000.0, started=1.0)
    heartbeat.write(disk, beat)
    fill(disk)
    for size in (10, 100_000):
        resources = [ResourceBeat("default", "orders", "ok", "x" * size)]
        with pytest.raises(OSError, match="No space left"):
            heartbeat.write(disk, msgspec.structs.replace(beat, at=1000.0 + size, resources=resources))
        read = heartbeat.newest(disk)
        assert read is not None
        assert (read.at, read.problem) == (1000.0 + size, heartbeat.DISK_FULL)


def names_the_disk(data_dir: Path) -> bool:
    """True if the heartbeat names the full disk."""
    beat = heartbeat.newest(data_dir)
    return beat is not None and heartbeat.DISK_FULL in beat.problem


async def tells_of_redis(port: str) -> bool:
    """True if the page and the metrics of the worker say that Redis cannot write to its disk."""
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False
    ) as client:
        page, metrics = await client.get("/"), await client.get("/metrics")
    return "cannot write to its disk" in page.text and "ordersync_redis_up 0.0" in metrics.text


@pytest.mark.slow
async def test_a_disk_that_is_full_and_free_again(tmp_path: Path, disk: Path) -> None:
    """The daemon says that Redis refuses writes, and goes on by itself when there is room."""
    with Gateway(orders=150) as gateway:
        settings = gateway.settings("", disk)
        del settings["redis__url"]
        settings["metrics__port"] = str(free_port())
        with Program(tmp_path, **settings) as daemon:
            running = await eventually(lambda: find(disk))
            with Judge(gateway, running.url) as judge:
                await judge.recovered()
                for _ in range(2):
                    filler = fill(disk)
                    for _ in range(3):
                        gateway.history.change("orders", gateway.history.ids("orders")[::10])
                        gateway.history.create("orders", 1)
                        await asyncio.sleep(1.0)
                    await eventually(partial(names_the_disk, disk))
                    await eventually(partial(tells_of_redis, settings["metrics__port"]))
                    filler.unlink()
                    await judge.recovered()
                assert daemon.process.poll() is None
                assert judge.verdict().counts == {}
