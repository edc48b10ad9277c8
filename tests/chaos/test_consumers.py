"""Consumers that are killed at random while the stream is trimmed hard: nothing missed, nothing done twice."""

from __future__ import annotations

import pytest

from tests.chaos.consuming import Plan, run
from tests.support.servers import Server

pytestmark = pytest.mark.anyio


@pytest.mark.timeout(600)  # seconds on an idle machine; it takes as long as the consumers need
async def test_killed_consumers(own_server: Server) -> None:
    """Four consumers of two groups: each event is handled by each group, its effect once, none trimmed unread."""
    report = await run(own_server.url, Plan(events=5_000))
    assert report.broken() == []
    assert len(report.written) == 5_000
    # It was as hard as it is meant to be:
    assert report.kills >= 10
    assert sum(report.spared.values()) >= 1
    assert report.removed >= 4_900
    assert report.longest < 5_000
