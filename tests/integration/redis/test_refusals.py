"""What a real server says when it refuses a command, and what the worker makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.exceptions

from tests.support.commands import ordersync
from tests.support.servers import Server
from tests.support.waiting import wait_for
from tests.support.worker import BenchMaker
from worker.capture.health import Health
from worker.redis.refusals import explain
from worker.reporting import reporter

pytestmark = pytest.mark.anyio


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server whose snapshots go to a file that a test can block."""
    server = Server(tmp_path, None, "--dbfilename", "blocked")
    server.start()
    yield server
    server.stop(kill=True)


def refusal(client: redis.Redis, *command: str) -> str:
    """What is said about the refusal of a command."""
    with pytest.raises(redis.exceptions.RedisError) as caught:
        client.execute_command(*command)  # type: ignore[no-untyped-call]
    return explain(caught.value)


def break_disk(server: Server, client: redis.Redis) -> None:
    """Let a snapshot fail, so that the server refuses writes."""
    (server.folder / "blocked").mkdir()
    client.config_set("save", "3600 1")
    client.bgsave()
    wait_for(lambda: _persistence(client)["rdb_last_bgsave_status"] == "err")


def _persistence(client: redis.Redis) -> dict[str, Any]:
    facts: Any = client.info("persistence")
    return dict(facts)


def test_each_refusal(own_server: Server) -> None:
    """Each says what has happened, with the words of the server, and what to do."""
    with redis.Redis.from_url(own_server.url) as client:
        client.set("text", "value")
        client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+get")
        assert refusal(client, "LPUSH", "text", "x") == (
            "a key of the account contains a value that this program did not write (WRONGTYPE Operation against a key "
            "holding the wrong kind of value). `ordersync doctor` names the key. Restore the old value, or delete the "
            "key if you know what it is."
        )
        assert refusal(client, "EVAL", "return redis.call('LPUSH', KEYS[1], 'x')", "1", "text").startswith(
            "a key of the account contains a value that this program did not write ("
        )
        with redis.Redis(port=own_server.port, username="reader", password="secret") as reader:
            words = refusal(reader, "SET", "text", "x")
            assert words.startswith("the Redis user may not do this (")
            assert "deploy/redis/users.acl" in words
        with redis.Redis(port=own_server.port, username="reader", password="wrong") as stranger:
            words = refusal(stranger, "PING")
            assert words.startswith("Redis refuses the user name or the password (")
        break_disk(own_server, client)
        words = refusal(client, "SET", "text", "x")
        assert words.startswith("Redis cannot write to its disk and therefore refuses writes (MISCONF ")
        assert words.endswith("the worker continues when a snapshot succeeds (BGSAVE).")
        client.config_set("save", "")
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        words = refusal(client, "SET", "text", "x")
        assert words.startswith("the server is a replica and refuses writes (")
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.config_set("maxmemory", 1)
        assert refusal(client, "SET", "text", "x").startswith("Redis is full and refuses writes.")


def test_other_errors_stay_as_they_are() -> None:
    """An error that is not in the table is shown with its own words, or its name if it has none."""
    refused = "Error 111 connecting to 127.0.0.1:1. Connection refused."
    assert explain(redis.exceptions.ConnectionError(refused)) == refused
    assert explain(redis.exceptions.ConnectionError()) == "ConnectionError"


def test_doctor_gives_one_advice(own_server: Server, tmp_path: Path) -> None:
    """That of the refusal, not that of a server which does not answer as well."""
    with redis.Redis.from_url(own_server.url) as client:
        client.config_set("requirepass", "secret")
        done = ordersync(
            "doctor", cwd=tmp_path, redis__url=own_server.url, api__client_id="a", api__client_secret="b"
        )
        assert done.returncode == 3
        assert "Redis" in done.stdout
        assert "check the address, and that the server runs" not in done.stdout


async def test_a_poll_that_redis_refuses(bench: BenchMaker, own_server: Server) -> None:
    """The run and the health of the resource name the cause; afterwards the worker goes on, and nothing is lost."""
    async with bench(url=own_server.url) as b:
        await b.poll()
        with redis.Redis.from_url(own_server.url) as client:
            break_disk(own_server, client)
            b.sandbox.store.change(1, note="refused")
            run = await b.poll()
            assert (run.outcome.value, run.error_code) == ("failed", "redis_unavailable")
            assert run.error.startswith(
                "Redis cannot write to its disk and therefore refuses writes (MISCONF "
            )
            client.config_set("stop-writes-on-bgsave-error", "no")
        (beat,) = await reporter(b.services)()
        assert (beat.health, beat.unrecorded) == (Health.DEGRADED, True)
        assert beat.cause == f"the poll failed once: {run.error}"
        await b.poll()
        assert len(await b.events()) == 51
        (beat,) = await reporter(b.services)()
        assert (beat.health, beat.unrecorded) == (Health.OK, False)
