"""A Redis that is away, does not answer, refuses the client, or restarts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis

from jobs.worker import make_lane_worker
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import BenchMaker
from worker.clock import SystemClock
from worker.errors import RedisUnavailable, SettingsError
from worker.redis.connections import answer, connect, pool, wait_until_up
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def black_hole() -> AsyncIterator[str] | Any:
    """A server that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


async def test_a_black_hole_does_not_hang_a_call(black_hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One timeout, not 64: redis-py retries a command, its connection and its handshake inside one another."""
    monkeypatch.setattr("ordersync_consumer.servers.connection.SOCKET_TIMEOUT", 0.5)
    monkeypatch.setattr("ordersync_consumer.servers.connection.RETRY_SECONDS", 0.25)
    client = connect(black_hole)
    try:
        began = time.monotonic()
        with pytest.raises(redis.TimeoutError):
            await client.ping()
        assert time.monotonic() - began < 20  # 64 of them are 32 s
    finally:
        await client.aclose()


async def test_a_black_hole_ends_the_worker_loop(
    bench: BenchMaker, black_hole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool of arq has no timeout and waits for good; ours fails, and the daemon builds the worker anew."""
    monkeypatch.setattr("ordersync_consumer.servers.connection.SOCKET_TIMEOUT", 0.5)
    monkeypatch.setattr("ordersync_consumer.servers.connection.RETRY_SECONDS", 0.25)
    async with bench() as b:
        worker = make_lane_worker(black_hole, b.services, "test-1")
        with pytest.raises(redis.RedisError):
            await asyncio.wait_for(worker.async_run(), PATIENCE)
        with contextlib.suppress(redis.RedisError):
            await asyncio.wait_for(worker.close(), PATIENCE)


async def test_a_restart_is_bridged_by_retries(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is tried again for a moment: a call that meets a restart succeeds."""
    monkeypatch.setattr("redis.backoff.random.random", lambda: 1.0)  # else the waits may be none
    client = connect(own_server.url)
    try:
        await client.ping()
        own_server.stop(kill=True)
        call = asyncio.ensure_future(answer(client.ping()))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(own_server.start)
        assert await call
    finally:
        await client.aclose()


async def test_waiting_for_redis_gives_up_with_the_setting(tmp_path: Path) -> None:
    """With patience it ends as exit 3 and names what to check; the password is not in it."""
    url = "redis://:hunter2-hunter2@127.0.0.1:1/0"
    client = connect(url)
    try:
        with pytest.raises(
            RedisUnavailable, match=r"redis://:\*\*\*@127.0.0.1:1/0 cannot be reached.*X__URL"
        ):
            await wait_until_up(client, url, SystemClock(), patience=0, setting="X__URL")
    finally:
        await client.aclose()


async def test_redis_that_refuses_the_client_is_not_waited_for(own_server: Server) -> None:
    """A wrong password or database does not become right by waiting."""
    client = connect(own_server.url)
    await client.config_set("requirepass", "right")
    await client.aclose()
    for url in (own_server.url, own_server.url.replace("//", "//:wrong@")):
        refused = connect(url)
        with pytest.raises(RedisUnavailable, match="refuses this client"):
            await wait_until_up(refused, url, SystemClock())
        await refused.aclose()


def test_an_unknown_option_of_the_address_is_a_wrong_setting() -> None:
    """Found at the start, not at the first call."""
    for option in ("colour=red", "socket_timeout=soon"):
        with pytest.raises(SettingsError, match=r"redis://:\*\*\*@host/0.* cannot be used"):
            pool(f"redis://:hunter2@host/0?{option}")


async def test_the_worker_goes_on_by_itself_after_a_restart_of_redis(
    own_server: Server, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """The worker of arq ends when Redis restarts; the daemon's polls go on, and every event stands once."""
    with Program(tmp_path, **login_settings(sandbox, own_server.url, tmp_path)) as daemon:
        await daemon.logged("poll_done")
        own_server.stop(kill=True)
        await asyncio.sleep(1)
        sandbox.store.change(5)
        own_server.start()
        with redis.Redis.from_url(own_server.url) as client:
            await eventually(lambda: int(client.xlen("ordersync:{default}:stream:orders")) >= 55)
        assert daemon.process.poll() is None
