"""`ordersync run` as people run it: a process of its own against a sandbox and a Valkey."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.commands import ordersync
from tests.support.log_lines import check_log
from tests.support.programs import Program, login_settings, program_env
from tests.support.servers import Server, free_port
from tests.support.waiting import PATIENCE, eventually
from worker.cancellation import end
from worker.clock import SystemClock, parse_time
from worker.keys import KeySpace
from worker.sandbox import CLIENT_SECRET, FaultRule, SandboxServer
from worker.sandbox.auth import IssuedCredentials
from worker.service import daemon as daemon_module
from worker.service.watchdog import HANG_STATUS, Watchdog

pytestmark = pytest.mark.anyio

STREAM = "ordersync:{default}:stream:orders"
LEASE = "ordersync:{default}:lease:orders"


@pytest.fixture
def settings(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> dict[str, str]:
    return login_settings(sandbox, redis_url, tmp_path / "data")


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as made:
        yield made


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
    assert client.zcard(KeySpace().queue(["default"])) >= 1
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


# --- the watchdog -----------------------------------------------------------------------------------

HANGING = """
import asyncio, sys, time
from worker import cli
from worker.service import daemon
daemon.Watchdog.__init__.__defaults__ = (3.0, *daemon.Watchdog.__init__.__defaults__[1:])
beat = daemon.Daemon._beat
async def hang(self):
    asyncio.get_running_loop().call_later(1, lambda: {block})
    await beat(self)
daemon.Daemon._beat = hang
sys.argv = ["ordersync", "run"]
cli.main()
"""


async def test_the_watchdog_ends_a_hung_process(settings: dict[str, str], tmp_path: Path) -> None:
    """Status 70, and the last line says which loops stand still and where."""
    script = HANGING.format(block="time.sleep(600)")
    with Program(tmp_path, sys.executable, "-c", script, **settings) as program:
        assert await program.ended() == 70
        last = program.logs()[-1]
        assert (last["event"], last["level"]) == ("worker_hangs", "critical")
        assert "loop" in last["stuck"]
        assert last["stack"].startswith("<lambda>:")
        check_log([last])


STUCK_JOB = """
import asyncio, sys
from jobs import poll
from worker import cli
from worker.service import daemon
from worker.capture.poll import Poller
seconds, end, _ = daemon.Watchdog.__init__.__defaults__
daemon.Watchdog.__init__.__defaults__ = (4.0, end, 2.0)
async def never(*_, **__):
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
Poller.poll = never
sys.argv = ["ordersync", "run"]
cli.main()
"""


async def test_the_watchdog_names_the_job_that_is_stuck(settings: dict[str, str], tmp_path: Path) -> None:
    """The loops turn, and a job does not end: status 70; the last line names it, since when, and where it stands."""
    with Program(tmp_path, sys.executable, "-c", STUCK_JOB, **settings) as program:
        began = time.time()
        assert await program.ended(60) == 70
        last = program.logs()[-1]
        check_log([last])
        job = f"{KeySpace().queue(['default'])}:poll:default:orders"
        assert (last["event"], last["stuck"]) == ("worker_hangs", [job])
        assert began - 1 < (parse_time(last["stuck_since"]) or 0) / 1000 < time.time() - last["seconds"] + 1
        (place,) = last["under_way"]
        assert re.fullmatch(
            rf"{job} for \d+ s at (wait:\d+ < )?never:\d+ < poll:\d+ < .*run_job:\d+.*", place
        )


async def test_the_watchdog_ends_a_process_that_hangs_in_its_log(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """The reader of the log has stopped reading: the loop holds the log's lock, and last words must not wait for it."""
    script = HANGING.format(block="[daemon.get_logger().error('x' * 100000) for _ in range(20)]")
    out, inn = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=tmp_path, env=program_env(**settings),
        stdout=asyncio.subprocess.DEVNULL, stderr=inn,
    )  # fmt: skip
    try:
        os.close(inn)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 70
    finally:
        os.close(out)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_process_that_was_frozen_is_not_hung(settings: dict[str, str], tmp_path: Path) -> None:
    """Ctrl-Z or `docker pause` for longer than the watchdog's time: it goes on afterwards."""
    script = HANGING.format(block="None")
    with Program(tmp_path, sys.executable, "-c", script, **settings) as program:
        await program.logged("poll_done")
        program.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(4.5)
        program.process.send_signal(signal.SIGCONT)
        polls = len(program.logs("poll_done"))
        await program.logged("poll_done", polls + 1)
        assert not program.logs("worker_hangs")


def test_the_watchdog_guards_what_has_beaten_and_was_not_forgotten() -> None:
    """A loop that has ended in order is no hung loop."""
    ended: list[int] = []
    over = threading.Event()

    def end(status: int) -> None:
        ended.append(status)
        over.set()

    watchdog = Watchdog(1.5, end)
    watchdog.beat("a")
    watchdog.beat("b")
    watchdog.forget("a")
    watchdog.start()
    for _ in range(40):
        time.sleep(0.05)
        watchdog.beat("b")
    assert ended == []
    assert over.wait(PATIENCE)
    assert ended == [HANG_STATUS]
    watchdog.stop()


async def test_a_queue_that_does_not_end_in_time_is_left(tmp_path: Path) -> None:
    """On a slow machine, or without an answer of Redis: the process ends, and that is no failure of the worker."""

    class Slow:
        """A worker that is never done with its last words."""

        async def close(self) -> None:
            await asyncio.sleep(600)

    async def nothing() -> Any:
        return []

    daemon = daemon_module.Daemon(
        worker_id="w", data_dir=tmp_path, make_worker=lambda: None, wait_for_redis=nothing, report=nothing,  # type: ignore[arg-type,return-value] # not used
        reload=nothing, grace=0, clock=SystemClock(),
    )  # fmt: skip
    over = False

    async def go_on() -> None:
        while not over:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(600)

    running = asyncio.ensure_future(go_on())
    await asyncio.sleep(0)
    await daemon._close(Slow(), running)  # type: ignore[arg-type] # duck-typed
    assert not running.done()
    over = True
    await end(running)


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
    """Exit 3 with the server's words and the settings to look at; the wrong secret is not repeated."""
    settings["api__client_secret"] = "hunter2-hunter2"
    done = ordersync("run", *mode, cwd=tmp_path, **settings)
    assert done.returncode == 3
    assert "The client id or the client secret is wrong." in done.stderr
    assert "ORDERSYNC_API__CLIENT_SECRET" in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


async def test_credentials_revoked_while_running(
    sandbox: SandboxServer, settings: dict[str, str], tmp_path: Path
) -> None:
    """Degraded, not dead: one line with the server's words, then a minute's pause, and status tells it."""
    with Program(tmp_path, **settings) as program:
        await program.logged("poll_done")
        sandbox.auth.credentials = IssuedCredentials(client_secret="another")
        sandbox.auth.revoke()
        line = await program.logged("poll_failed")
        assert line["error_code"] == "login_rejected"
        assert "The client id or the client secret is wrong." in line["error"]
        logins = sum(sandbox.requests.counts()["clients.token"].values())
        await asyncio.sleep(3)
        assert len(program.logs("poll_failed")) == 1
        assert sum(sandbox.requests.counts()["clients.token"].values()) == logins
        assert logins <= 4
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
    """It ends at once with the status of the signal and without a traceback."""
    settings = login_settings(sandbox, f"redis://127.0.0.1:{free_port()}/0", tmp_path)
    with Program(tmp_path, **settings) as program:
        await program.logged("waiting_for_redis")
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
    assert len(program.logs()) > 20
    for token in tokens | {CLIENT_SECRET}:
        assert token not in written
        assert token.rpartition(".")[2][:20] not in written
    for order in map(json.loads, sandbox.store.truth().values()):
        address = order["shippingAddress"]
        for name in ("email", "line1", "line2", "phone", "firstName", "lastName"):
            assert not address[name] or address[name] not in written
    assert "@example.com" not in written
