"""When a command is sent: before other tasks have their turn, so that the server works while they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import redis.exceptions
import uvloop
from redis.asyncio import Redis

from worker.redis.connections import connect

pytestmark = pytest.mark.anyio


async def test_a_command_is_sent_before_other_tasks_have_their_turn(redis_url: str) -> None:
    """As long as the system takes all of it at once, which nearly every command is small enough for."""
    began = asyncio.Event()

    async def work() -> None:
        began.set()

    client = connect(redis_url)
    try:
        connection = await client.connection_pool.get_connection()
        await connection.send_command("PING")  # the first command checks the connection
        assert await connection.read_response() == b"PONG"
        other = asyncio.ensure_future(work())  # begins with the next turn of the loop
        await connection.send_command("SET", "key", bytes(16_000))
        assert not began.is_set()
        assert await connection.read_response() == b"OK"
        await other
        await client.connection_pool.release(connection)
    finally:
        await client.aclose()
    async with Redis.from_url(redis_url) as reader:
        assert await reader.strlen("key") == 16_000


async def test_a_command_that_does_not_fit_is_sent_in_parts(redis_url: str) -> None:
    """The rest of one that is larger than what the system buffers follows."""
    client = connect(redis_url)
    try:
        assert await client.set("key", bytes(40_000_000))
        assert await client.strlen("key") == 40_000_000
        await client.delete("key")
    finally:
        await client.aclose()


async def use_after_abort(url: str) -> None:
    client = connect(url)
    try:
        connection = await client.connection_pool.get_connection()
        await connection.send_command("PING")
        assert await connection.read_response() == b"PONG"
        connection._writer.transport.abort()
        await asyncio.sleep(0.01)

        async def ping() -> object:
            await connection.send_command("PING")
            return await connection.read_response()

        with pytest.raises(redis.exceptions.ConnectionError):
            await ping()
        assert not connection.is_connected
        await client.connection_pool.release(connection)
        assert await client.ping()
    finally:
        await client.aclose()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_was_closed_is_opened_again(
    redis_url: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Uvloop refuses to write to it with RuntimeError, asyncio does not: the next command has a new one either way."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(use_after_abort(redis_url))
