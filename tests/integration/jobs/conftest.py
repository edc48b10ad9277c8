"""The server of the schedule, as the tests look into it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from worker.redis.connections import connect


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    """A client of an empty server."""
    found = connect(redis_url)
    try:
        yield found
    finally:
        await found.aclose()
