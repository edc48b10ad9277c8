"""Servers of each kind, and an empty database whose lease is taken."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.commit_table import Table
from tests.support.servers import Server
from tests.support.tools import server_program
from worker.redis.connections import connect


@pytest.fixture(scope="module", params=["embedded", "redis-server"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The embedded Valkey, and the redis-server on PATH where there is one."""
    binary = server_program(request.param)
    one = Server(tmp_path_factory.mktemp("server"), binary)
    one.start()
    yield one
    one.stop(kill=True)


@pytest.fixture
async def table(server: Server) -> AsyncIterator[Table]:
    """An empty database with the lease taken."""
    client = connect(server.url)
    await client.flushall()
    table = Table(client)
    table.fence = (await table.lease("acquire"))[0]
    yield table
    await client.aclose()
