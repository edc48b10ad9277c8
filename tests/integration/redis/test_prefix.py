"""`ORDERSYNC_REDIS__PREFIX`: every key begins with it, for the daemon, every command, consumers and the ACL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from ordersync_consumer import Consumer
from tests.support.commands import ordersync
from tests.support.deployment.deployed import make_secrets
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.waiting import eventually
from worker.keys import KeySpace
from worker.redis.connections import connect
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

PREFIX = "shop:sync:"
KEYS = KeySpace(PREFIX).of("default")


@pytest.fixture
def secrets(own_server: Server, tmp_path: Path) -> Path:
    """The secrets of a deployment with the prefix, whose users the server has."""
    folder = tmp_path / "secrets"
    make_secrets(folder, "--redis", f"127.0.0.1:{own_server.port}", "--prefix", PREFIX)
    with redis.Redis.from_url(own_server.url) as client:
        for line in (folder / "redis" / "users.acl").read_text(encoding="utf-8").splitlines():
            _, name, *rules = line.split()
            if name != "default":
                client.execute_command("ACL", "SETUSER", name, *rules)
    return folder


@pytest.fixture
def client(own_server: Server) -> Iterator[Any]:
    with redis.Redis.from_url(own_server.url) as made:
        yield made


async def test_every_key_has_the_prefix(
    sandbox: SandboxServer, secrets: Path, client: Any, tmp_path: Path
) -> None:
    """As the users of the deployment, who may not touch other keys: the daemon, a consumer, and what a person types."""
    settings = login_settings(sandbox, "", tmp_path / "data")
    del settings["redis__url"]
    worker, operator, consumer = (
        {**settings, "secrets_dir": str(secrets / user)} for user in ("worker", "operator", "consumer")
    )
    with Program(tmp_path, **worker, events__groups='{"warehouse": ["orders"]}') as program:
        await eventually(lambda: client.xlen(KEYS.stream("orders")) == 50)
        await program.logged("poll_done")
        for words in (
            ("status",), ("runs",), ("groups",), ("coverage",), ("dead", "list"), ("resyncs",),
            ("tail", "orders", "--no-follow"), ("pause", "orders", "--reason", "test"), ("resume", "orders"),
            ("resync", "orders", "--all", "--force", "--wait"), ("timeline", sandbox.store.ids()[0], "--offline"),
            ("replay", "--group", "warehouse", "--since", "1h", "orders"),
        ):  # fmt: skip
            done = ordersync(*words, cwd=tmp_path, **operator)
            assert (done.returncode, "NOPERM" in done.stderr) == (0, False), (words, done.stderr)
        (row,) = json.loads(ordersync("status", "--json", cwd=tmp_path, **operator).stdout)
        assert row["stream"] == KEYS.stream("orders")
        done = ordersync("consume", "--group", "g", "--once", "orders", "--", "cat", cwd=tmp_path, **consumer)
        assert done.returncode == 0, done.stderr
        assert ordersync("doctor", cwd=tmp_path, **worker).returncode == 0
        program.process.terminate()
        assert await program.ended() == 0
    foreign = [key for key in client.scan_iter(count=1000) if not key.startswith((PREFIX.encode(), b"arq:"))]
    assert foreign == []
    assert [entry for entry in client.acl_log() if entry["reason"] != "command"] == []


async def test_two_prefixes_know_nothing_of_each_other(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path
) -> None:
    """Two deployments on one server, with the same account: each publishes everything, to its own consumers."""
    settings = login_settings(sandbox, redis_url, tmp_path / "data")
    assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
    done = ordersync("run", "--once", "--json", cwd=tmp_path, **settings, redis__prefix=PREFIX)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)
    assert run["snapshot"] == 50
    client = connect(redis_url)
    for prefix in (PREFIX, "ordersync:"):
        consumer = Consumer(client, group="g", resources=["orders"], prefix=prefix, wait=False)
        async with consumer:
            subjects = []
            async for delivery in consumer:
                subjects.append(delivery.event.subject)
                await delivery.ack()
        assert len(subjects) == len(set(subjects)) == 50
    await client.aclose()


@pytest.mark.parametrize("prefix", ["a{b}", "a b", "*", "x" * 65])
def test_wrong_prefixes(tmp_path: Path, prefix: str) -> None:
    """Braces would change the hash tag of an account, and a pattern would match other keys."""
    done = ordersync("config", "show", cwd=tmp_path, redis__prefix=prefix)
    assert done.returncode == 2
    assert "ORDERSYNC_REDIS__PREFIX" in done.stderr
