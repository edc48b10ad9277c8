"""What the tests of several folders start with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.logged import LogReader, read_log
from tests.support.worker import Bench, BenchMaker


@pytest.fixture
def told() -> LogReader:
    """The lines of the log with an event."""
    return read_log()


@pytest.fixture
async def polled(bench: BenchMaker) -> AsyncIterator[Bench]:
    """A Redis with the snapshots of 50 orders, one creation and one update."""
    async with bench() as b:
        await b.poll()
        b.sandbox.store.create(1)
        b.sandbox.store.change(1, status="Fulfilled")
        await b.poll()
        yield b
