"""`ordersync run` as people run it: a process of its own against a sandbox and a Valkey."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.commands import ordersync
from tests.support.programs import Program, login_settings
from tests.support.servers import Server, free_port
from tests.support.waiting import eventually
from worker.keys import KeySpace
from worker.sandbox import CLIENT_SECRET, FaultRule, SandboxServer
from worker.sandbox.auth import IssuedCredentials

pytestmark = pytest.mark.anyio

LEASE = "ordersync:{default}:lease:orders"


def events(client: Any, account: str = "default") -> int:
    return int(client.xlen(f"ordersync:{{{account}}}:stream:orders"))


async def test_events_appear_and_sigterm_ends_it_in_order(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """Snapshots, then changes; SIGTERM: exit 0 without cutting a job short, lease released, heartbeat removed."""
    heartbeats = tmp_path / "data" / "heartbeat"
    with Program(tmp_path, **settings) as program:
        await eventually(lambda: events(client) == 50)
        sandbox.store.change(1, status="Fulfilled")
        await eventually(lambda: events(client) == 51)
        assert [file.name for file in heartbeats.glob("*.json")] == [f"{program.process.pid}.json"]
        program.process.terminate()
        assert await program.ended() == 0
        told = [line["event"] for line in program.logs()]
        assert (told.count("stopping"), told[-1]) == (1, "stopped")
        assert "jobs_cut_short" not in told
    assert list(heartbeats.iterdir()) == []
    assert client.keys("ordersync:queue:*:health*") == []
    left = client.hgetall(LEASE) if client.type(LEASE) == b"hash" else {}
    assert not left.get(b"owner")


async def test_sigterm_lets_a_slow_page_go_after_the_grace_time(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """A page that does not come is not waited for; the lease is free, and the job stands for the next worker."""
    sandbox.faults.replace((FaultRule("hang", operation="orders.search"),))
    with Program(tmp_path, **settings, grace_seconds="0.5") as program:
        await eventually(lambda: sandbox.faults.fired()[0] >= 1)
        began = time.monotonic()
        program.process.terminate()
        assert await program.ended() == 0
        assert time.monotonic() - began > 0.4
        assert program.logs("jobs_cut_short")
    assert client.zcard(KeySpace().lane("scans")) >= 1
    assert not client.keys("arq:in-progress:ordersync:queue:*")
    sandbox.faults.replace(())
    done = ordersync("run", "--once", cwd=tmp_path, **settings)  # the lease is free: it need not wait
    assert done.returncode == 0, done.stderr


async def test_a_second_signal_ends_it_at_once(
    sandbox: SandboxServer, settings: dict[str, str], tmp_path: Path
) -> None:
    """Whoever is in a hurry signals twice, and need not use SIGKILL."""
    sandbox.faults.replace((FaultRule("hang", operation="orders.search"),))
    with Program(tmp_path, **settings, grace_seconds="60") as program:
        await eventually(lambda: sandbox.faults.fired()[0] >= 1)
        program.process.send_signal(signal.SIGINT)
        await program.logged("stopping")
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() == 130
        assert program.logs()[-1]["event"] == "stopped_at_once"


# --- credentials ------------------------------------------------------------------------------------


async def test_no_credentials(tmp_path: Path) -> None:
    """Exit 2, naming the settings and the sandbox as the way to try; no server is started for it."""
    done = ordersync("run", cwd=tmp_path, data_dir=str(tmp_path / "data"))
    assert done.returncode == 2
    for words in ("ORDERSYNC_API__CLIENT_ID", "ORDERSYNC_API__CLIENT_SECRET", "ordersync run --sandbox"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("mode", [(), ("--once",)])
async def test_wrong_credentials_at_start(
    settings: dict[str, str], tmp_path: Path, mode: tuple[str, ...]
) -> None:
    """Exit 2 with the server's words and the settings to look at; the wrong secret is not repeated.

    The unit of systemd does not start it again after exit 2 (`test_systemd.py`): each try might lock the login.
    """
    settings["api__client_secret"] = "hunter2-hunter2"
    done = ordersync("run", *mode, cwd=tmp_path, **settings)
    assert done.returncode == 2
    assert "The client id or the client secret is wrong." in done.stderr
    assert "ORDERSYNC_API__CLIENT_SECRET" in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


async def test_credentials_revoked_while_running(
    sandbox: SandboxServer, settings: dict[str, str], tmp_path: Path
) -> None:
    """Degraded, not dead: one line with the server's words, then a minute's pause, and status tells it."""
    settings |= {"reconcile__every": "1", "api__max_concurrency": "1"}
    with Program(tmp_path, **settings) as program:
        await program.logged("poll_done")
        sandbox.auth.credentials = IssuedCredentials(client_secret="another")
        sandbox.auth.revoke()
        await program.logged("reconcile_failed")
        line = await program.logged("poll_failed")
        assert line["error_code"] == "login_rejected"
        assert "The client id or the client secret is wrong." in line["error"]
        await asyncio.sleep(3)
        assert len(program.logs("poll_failed")) == 1
        # The poll and the reconciliation, which are due every second, have tried once each.
        assert sandbox.requests.counts()["clients.token"] == {"200": 1, "401": 2}
        done = ordersync("status", "--json", cwd=tmp_path, **settings)
        (row,) = json.loads(done.stdout)
        assert row["health"] == "degraded"
        assert "The client id or the client secret is wrong." in row["cause"]
        assert ordersync("health", cwd=tmp_path, **settings).returncode == 0
        assert program.process.poll() is None


# --- what it needs is away -----------------------------------------------------------------------------


async def test_redis_away_at_start(sandbox: SandboxServer, tmp_path: Path) -> None:
    """It waits, says what for, and begins by itself."""
    server = Server(tmp_path)
    with Program(tmp_path, **login_settings(sandbox, server.url, tmp_path / "data")) as program:
        line = await program.logged("waiting_for_redis")
        assert line["url"] == server.url
        try:
            await asyncio.to_thread(server.start)
            await program.logged("poll_done")
        finally:
            server.stop(kill=True)


async def test_redis_with_a_wrong_password(
    sandbox: SandboxServer, own_server: Server, tmp_path: Path
) -> None:
    """Exit 3: it does not become right by waiting."""
    with redis.Redis.from_url(own_server.url) as client:
        client.config_set("requirepass", "right")
    done = ordersync("run", cwd=tmp_path, **login_settings(sandbox, own_server.url, tmp_path))
    assert done.returncode == 3
    assert "ORDERSYNC_REDIS__URL" in done.stderr


async def test_sigterm_while_it_waits_at_the_start(sandbox: SandboxServer, tmp_path: Path) -> None:
    """It is alive, not ready; it ends at once with the status of the signal and without a traceback."""
    settings = login_settings(sandbox, f"redis://127.0.0.1:{free_port()}/0", tmp_path)
    with Program(tmp_path, **settings) as program:
        await program.logged("waiting_for_redis")
        for words, code in ((("health",), 1), (("health", "--live"), 0)):
            assert ordersync(*words, cwd=tmp_path, data_dir=str(tmp_path)).returncode == code
        program.process.terminate()
        assert await program.ended() == 143
        assert "Traceback" not in program.err


async def test_gateway_away_at_start(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """The daemon goes on trying, and reads as soon as the gateway is there; `--once` is exit 3."""
    sandbox.stop()
    settings["api__attempts"] = "1"
    done = ordersync("run", "--once", cwd=tmp_path, **settings)
    assert done.returncode == 3
    assert "ORDERSYNC_API__BASE_URL" in done.stderr
    with Program(tmp_path, **settings) as program:
        await program.logged("login_failed")
        await program.logged("poll_failed")
        sandbox.start()
        await eventually(lambda: events(client) == 50)


async def test_gateway_ill_at_start(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """A login that is answered with 503 is no reason to end either."""
    sandbox.faults.replace((FaultRule("status", operation="clients.token", code=503, times=1),))
    settings["api__attempts"] = "1"
    with Program(tmp_path, **settings) as program:
        await program.logged("login_failed")
        await eventually(lambda: events(client) == 50)


# --- once, many accounts, two servers --------------------------------------------------------------------


async def test_once(settings: dict[str, str], client: Any, tmp_path: Path) -> None:
    """Everything is read and committed, a line for people or JSON tells what was done, exit 0."""
    done = ordersync("run", "--once", cwd=tmp_path, **settings)
    assert done.returncode == 0
    assert re.fullmatch(
        r"default/orders: complete: 50 records read, 50 events published \(50 snapshot, 0 created, 0 updated, "
        r"0 deleted, 0 recorded\), "
        r"0 unchanged, 0 unreadable, \d+ requests in \d+\.\d s\n",
        done.stdout,
    )
    assert events(client) == 50
    done = ordersync("run", "--once", "--json", cwd=tmp_path, **settings)
    (summary,) = json.loads(done.stdout)
    assert (summary["outcome"], summary["records"], summary["unchanged"]) == ("complete", 50, 50)


async def test_once_that_fails(sandbox: SandboxServer, settings: dict[str, str], tmp_path: Path) -> None:
    """An answer that cannot be read is exit 1 with the operation, and the page once the list is known."""
    sandbox.faults.replace((FaultRule("garbage", operation="orders.search"),))
    done = ordersync("run", "--once", cwd=tmp_path, **settings)
    assert done.returncode == 1
    assert "orders.search: no list of orders at /order/v1/orders" in done.stderr
    assert "not a JSON list" in done.stderr
    assert "Traceback" not in done.stderr
    sandbox.faults.replace(())
    assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
    sandbox.faults.replace((FaultRule("garbage", operation="orders.search"),))
    done = ordersync("run", "--once", cwd=tmp_path, **settings)
    assert done.returncode == 1
    assert "orders.search page 0" in done.stderr


async def test_many_accounts(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """Each has its own keys, and its own line in status; one that is ill does not stop the other."""
    for name in ("api__client_id", "api__client_secret"):
        del settings[name]
    (tmp_path / "secret").write_text(CLIENT_SECRET)
    (tmp_path / "accounts.toml").write_text(
        "".join(
            f"[accounts.{name}.api]\nclient_id = 'sandbox-client'\nclient_secret_file = 'secret'\n"
            for name in ("eu", "us")
        )
    )
    settings["accounts_file"] = "accounts.toml"
    with Program(tmp_path, **settings):
        await eventually(lambda: events(client, "eu") == events(client, "us") == 50)
        client.set("ordersync:{us}:layout", "999")
        sandbox.store.change(3)
        await eventually(lambda: events(client, "eu") == 53)
        rows = json.loads(ordersync("status", "--json", cwd=tmp_path, **settings).stdout)
    assert [row["account"] for row in rows] == ["eu", "us"]
    assert events(client, "us") == 50


async def test_the_queue_on_another_server(
    settings: dict[str, str], client: Any, own_server: Server, tmp_path: Path
) -> None:
    """The keys of arq stand there, events and state here."""
    settings["redis__queue_url"] = own_server.url
    with redis.Redis.from_url(own_server.url) as queue, Program(tmp_path, **settings) as program:
        await eventually(lambda: events(client) == 50)
        await eventually(lambda: queue.keys("ordersync:queue:*:health:*"))
        assert client.keys("arq:*") == []
        assert client.keys("ordersync:queue*") == []
        assert all(key.startswith((b"arq:", b"ordersync:queue")) for key in queue.keys("*"))
        own_server.stop(kill=True)
        await program.logged("queue_lost")
        own_server.start()
        await program.logged("worker_started", 2)


async def test_an_address_of_the_queue_that_is_wrong(
    settings: dict[str, str], own_server: Server, tmp_path: Path
) -> None:
    """It ends the start, with the name of the setting: waiting would not mend it."""
    for wrong in (f"{own_server.url.rpartition('/')[0]}/99", own_server.url.replace("//", "//:nope@")):
        settings["redis__queue_url"] = wrong
        done = ordersync("run", cwd=tmp_path, **settings)
        assert (done.returncode, "ORDERSYNC_REDIS__QUEUE_URL" in done.stderr) == (3, True), done.stderr


async def test_nothing_of_a_customer_and_no_secret_reaches_the_log(
    sandbox: SandboxServer, settings: dict[str, str], client: Any, tmp_path: Path
) -> None:
    """A whole life at `debug`, with retries, a refused token, bad answers and a dead letter: neither appears."""
    settings["log__level"] = "debug"
    rules = [
        FaultRule(
            "status", operation="orders.search", code=503, times=1, body='{"message": "buyer1@example.com"}'
        ),
        FaultRule("garbage", operation="orders.search", times=1, after=4, body="Zoë Example, 5 Rua Nova"),
        FaultRule("truncate", operation="orders.search", times=1, after=6),
    ]
    with Program(tmp_path, **settings) as program:
        await program.logged("poll_done")
        sandbox.faults.replace(tuple(rules))
        sandbox.auth.revoke()
        sandbox.store.change(5)
        await program.logged("poll_failed")
        tokens = {t.decode() for t in sandbox.auth._access}
        await program.logged("poll_done", 2)
        program.process.terminate()
        await program.ended()
        written = program.err + program.out
    assert len(program.logs()) > 10
    for token in tokens | {CLIENT_SECRET}:
        assert token not in written
        assert token.rpartition(".")[2][:20] not in written
    for order in map(json.loads, sandbox.store.truth().values()):
        address = order["shippingAddress"]
        for name in ("email", "line1", "line2", "phone", "firstName", "lastName"):
            assert not address[name] or address[name] not in written
    assert "@example.com" not in written
