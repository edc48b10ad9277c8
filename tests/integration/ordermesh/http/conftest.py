"""Token sources at a Redis, and a scripted gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from tests.support.scripted_server import Lab, OwnClock, lab
from tests.support.tokens import CLIENT, KEYS, Maker, UserService
from worker.clock import Clock
from worker.ordermesh.http.auth import Credentials
from worker.ordermesh.http.tokens import TokenSource
from worker.redis.connections import connect


@pytest.fixture
async def source(redis_url: str) -> AsyncIterator[Maker]:
    """Makes token sources, each with a Redis client of its own, as so many processes would have."""
    async with AsyncExitStack() as stack:

        def make(
            login: UserService,
            credentials: Credentials = CLIENT,
            clock: Clock | None = None,
            url: str = redis_url,
            rotated: Callable[[], Credentials | None] = lambda: None,
        ) -> TokenSource:
            client = connect(url)
            stack.push_async_callback(client.aclose)
            return TokenSource(
                redis=client,
                keys=KEYS,
                credentials=credentials,
                base_url="http://gateway",
                login=login,
                clock=clock or OwnClock(),
                rotated=rotated,
            )

        yield make


@pytest.fixture
async def db(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def served() -> AsyncIterator[Lab]:
    """A scripted gateway."""
    async with lab() as running:
        yield running


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own proxy settings have no part in a test."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
