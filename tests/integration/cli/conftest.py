"""What the commands read: a stream, or what a worker has written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.consume_command import Shop
from tests.support.consuming import Stage
from tests.support.worker import Bench, BenchMaker
from worker.app import announce
from worker.redis.connections import connect


@pytest.fixture
async def shop(redis_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    """A stream that `ordersync consume` reads."""
    client = connect(redis_url)
    yield Shop(Stage(client), redis_url, tmp_path)
    await client.aclose()


@pytest.fixture
async def first_read(bench: BenchMaker) -> AsyncIterator[Bench]:
    """A Redis in which a worker has read 50 orders."""
    async with bench() as b:
        await announce(b.services)
        await b.poll()
        yield b
