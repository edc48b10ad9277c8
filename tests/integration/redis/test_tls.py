"""`rediss://`: the name in the certificate is compared by the daemon, its queue, consumers and commands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis.exceptions
from redis.asyncio import Redis

from jobs.arq_worker import make_queue
from ordersync_consumer import Consumer
from tests.support.commands import ordersync
from tests.support.programs import Program, login_settings
from tests.support.proxy import Proxy
from tests.support.servers import Server
from tests.support.tls import Certificate, certificate
from tests.support.waiting import eventually
from worker.cli.common import params
from worker.redis.connections import connect
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for the address of the server."""
    return certificate(tmp_path_factory.mktemp("right"), "IP:127.0.0.1")


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for another name."""
    return certificate(tmp_path_factory.mktemp("wrong"), "DNS:other.example")


@pytest.fixture
def right_url(shared_server: Server, redis_url: str, right: Certificate) -> Iterator[str]:
    """The address of a server with a certificate for its name."""
    with Proxy("127.0.0.1", shared_server.port, right.server()) as proxy:
        yield f"rediss://{proxy.address}/0?ssl_ca_certs={right.file}"


@pytest.fixture
def wrong_url(shared_server: Server, redis_url: str, wrong: Certificate) -> Iterator[str]:
    """The address of a server with a certificate of a known authority, for another name."""
    with Proxy("127.0.0.1", shared_server.port, wrong.server()) as proxy:
        yield f"rediss://{proxy.address}/0?ssl_ca_certs={wrong.file}"


async def test_the_name_is_compared(right_url: str, wrong_url: str) -> None:
    """By the client of the daemon and that of its queue; the address can say otherwise."""
    for make in (connect, lambda url: make_queue(url, "q")):
        client = make(right_url)
        assert await client.ping()
        await client.aclose(close_connection_pool=True)
        client = make(wrong_url)
        with pytest.raises((redis.exceptions.ConnectionError, OSError), match="certificate verify failed"):
            await client.ping()
        await client.aclose(close_connection_pool=True)
    for more in ("&ssl_check_hostname=false", "&ssl_cert_reqs=none"):
        client = connect(wrong_url + more)
        assert await client.ping()
        await client.aclose(close_connection_pool=True)


async def test_a_consumer_compares_the_name(wrong_url: str) -> None:
    """With a client that the program has made itself: the version of redis-py that arq needs does not do so."""
    client = Redis.from_url(wrong_url)
    Consumer(client, group="g", resources=["orders"])
    with pytest.raises((redis.exceptions.ConnectionError, OSError), match="certificate verify failed"):
        await client.ping()
    await client.aclose(close_connection_pool=True)


async def test_the_daemon_and_commands(
    sandbox: SandboxServer, right_url: str, wrong_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the right certificate everything works; with the wrong one nothing is sent, and the doctor says why."""
    settings = login_settings(sandbox, right_url, tmp_path / "data")
    with Program(tmp_path, **settings) as program:
        await program.logged("poll_done")
        assert not program.logs("waiting_for_redis")
        program.process.terminate()
        assert await program.ended() == 0
    assert ordersync("status", cwd=tmp_path, **settings).returncode == 0
    refused = settings | {"redis__url": wrong_url}
    for words in (("status",), ("tail", "orders", "--no-follow"), ("doctor",)):
        done = ordersync(*words, cwd=tmp_path, **refused)
        assert done.returncode == 3
        assert "IP address mismatch" in done.stdout + done.stderr
    monkeypatch.setattr(params, "TIMEOUT", 30.0)
    for url, offered in ((right_url, ["default"]), (wrong_url, [])):
        monkeypatch.setenv("ORDERSYNC_REDIS__URL", url)
        assert await asyncio.to_thread(params._from_redis, params._accounts) == offered


async def test_a_queue_with_the_wrong_name(
    sandbox: SandboxServer, right_url: str, wrong_url: str, tmp_path: Path
) -> None:
    """Arq does not connect either: the daemon waits, and says for what."""
    settings = login_settings(sandbox, right_url, tmp_path / "data", redis__queue_url=wrong_url)
    with Program(tmp_path, **settings) as program:
        line = await program.logged("waiting_for_redis")
        assert "IP address mismatch" in line["error"]
        await eventually(lambda: program.process.poll() is None)
        assert not program.logs("worker_started")
