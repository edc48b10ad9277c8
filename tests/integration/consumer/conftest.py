"""Fixtures for tests of consumers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from tests.support.consuming import Stage
from tests.support.servers import Server
from tests.support.streams import KEYS, Writer
from tests.support.tools import server_program
from worker.keys import KeySpace
from worker.redis.connections import answer, connect


@pytest.fixture(scope="session", params=["embedded", "redis-server"])
def stage_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The embedded Valkey, and the redis-server on PATH where there is one."""
    binary = server_program(request.param)
    server = Server(tmp_path_factory.mktemp("stage"), binary)
    server.start()
    yield server
    server.stop(kill=True)


@pytest.fixture
def server(stage_server: Server) -> Server:
    """The same."""
    return stage_server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Redis]:
    """A client of an empty server, on which one account is known."""
    one = connect(server.url)
    await one.config_set("maxmemory", 0)
    await one.flushall()
    await answer(one.sadd(KeySpace().accounts, KEYS.account))
    yield one
    await one.aclose()


@pytest.fixture
def writer(client: Redis) -> Writer:
    """Writes events to the streams of that account."""
    return Writer(client)


@pytest.fixture
async def stage(stage_server: Server) -> AsyncIterator[Stage]:
    """An empty server."""
    client = connect(stage_server.url)
    await client.config_set("maxmemory", 0)
    await client.flushall()
    yield Stage(client)
    await client.aclose()
