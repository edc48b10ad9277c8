"""A commit is sent at once: what other tasks have to do about further pages is done while the server works on it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ordersync_consumer.servers.connection import Following
from tests.support.worker import BenchContext
from worker.capture.session import PollSession
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


async def test_a_commit_waits_for_three_turns_of_the_loop(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for the task that protects it from cancellation, two for redis-py's look at an idle connection.

    Each further one may be that of a page's work. The first commits wait for more: connections, places of field names.
    """
    loop = asyncio.get_running_loop()
    turns, begun, waited = 0, 0, list[int]()
    ticking: asyncio.Handle

    def count() -> None:
        nonlocal turns, ticking
        turns += 1
        ticking = loop.call_soon(count)

    count()
    commit, pack = PollSession.commit, Following.pack_command

    async def noted(self: PollSession, *given: Any, **named: Any) -> bool:
        nonlocal begun
        begun = turns
        return await commit(self, *given, **named)

    def packed(self: Following, *words: Any) -> list[bytes]:
        if len(words) > 30:  # the data of each event is an argument of its own
            waited.append(turns - begun)
        return pack(self, *words)

    monkeypatch.setattr(PollSession, "commit", noted)
    monkeypatch.setattr(Following, "pack_command", packed)
    try:
        with SandboxServer(orders=200) as sandbox:
            async with BenchContext(sandbox, redis_url, {"page_size": 20}) as bench:
                run = await bench.poll()
    finally:
        ticking.cancel()
    assert run.published == 200
    assert len(waited) >= 9
    assert max(waited[4:]) <= 3
