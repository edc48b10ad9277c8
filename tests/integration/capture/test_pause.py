"""Pausing: who, since when and why; held by the schedule, by reads under way and by hand, over restarts."""

from __future__ import annotations

import getpass
import io
import json
import signal
import socket
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import redis

from tests.support.arq_worker import planned
from tests.support.commands import ordersync
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.waiting import eventually
from tests.support.worker import BenchMaker
from worker.app import announce
from worker.capture import gate
from worker.capture.health import Health, judge
from worker.capture.refresh import reader as follow_up
from worker.capture.registry import AUDIT_LOGS, ORDERS
from worker.capture.state.cursor import Cursor
from worker.capture.state.opening import Opener
from worker.capture.state.pauses import EVERYTHING, Pause, Pauses
from worker.capture.state.run import Outcome
from worker.keys import Keys
from worker.redis.connections import answer
from worker.reporting import reporter
from worker.sandbox import SandboxServer
from worker.service import heartbeat
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio

KEYS = Keys("default")
MOVING = Pause("orders", "the vendor migrates", "ops@desk", 1_772_448_067.5)
WORDS = "the resource is paused by ops@desk since 2026-03-02T10:41:07.500Z: the vendor migrates"


async def test_a_pause_after_an_answer_that_was_lost(bench: BenchMaker) -> None:
    """A session has its lease, does not hear of it, and asks again: the lease is given back, now that it is paused."""
    async with bench() as b:
        await b.poll()
        pauses, opener = Pauses(b.redis, b.account.keys), Opener(b.redis, b.account.keys, ORDERS)
        await opener.open("w1/1", memory=False)
        await pauses.begin([MOVING])
        assert await opener.open("w2/1", memory=False) == MOVING
        assert await answer(b.redis.hget(b.account.keys.lease("orders"), "owner")) == b"w1/1"
        assert await opener.open("w1/1", memory=False) == MOVING
        await pauses.end(["orders"])
        assert (await b.poll()).outcome is Outcome.COMPLETE


async def test_the_tick_leaves_out_what_is_paused(bench: BenchMaker, redis_url: str) -> None:
    """A resource alone, or with its account, until it is resumed. Both are logged once, with author and reason."""
    written = io.StringIO()
    logs.configure("json", "info", written)
    async with bench() as b:
        kept = Pauses(b.redis, b.account.keys)
        async with planned(b.services, redis_url) as schedule:
            await schedule.tick.run(lost=False)
            for resource in ("orders", EVERYTHING):
                await kept.begin([Pause(resource, MOVING.reason, MOVING.by, MOVING.at)])
                for _ in range(3):
                    await schedule.tick.run(lost=False)
                assert await schedule.listed() == []
                await kept.end([resource])
            await kept.begin([Pause("notes", "another resource", "ops", 1.0)])
            await schedule.tick.run(lost=False)
            assert await schedule.listed() == ["scans/poll:default:orders"]
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    told = [(line["event"], line["resource"]) for line in lines if line["event"].startswith("polling_")]
    assert told == [
        ("polling_paused", "orders"),
        ("polling_paused", "*"),
        ("polling_resumed", "orders"),
        ("polling_paused", "notes"),
        ("polling_resumed", "*"),
    ]
    (first, *_) = [line for line in lines if line["event"] == "polling_paused"]
    assert (first["by"], first["reason"]) == (MOVING.by, MOVING.reason)
    assert first["paused_at"] == "2026-03-02T10:41:07.500Z"


async def test_a_read_under_way_ends_behind_the_page_in_hand(
    bench: BenchMaker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has read is committed; it carries on there once it is resumed, and nothing comes twice."""
    monkeypatch.setattr(gate, "PAUSE_CHECK_SECONDS", 0.0)
    looked = 0
    with closing(redis.Redis.from_url(redis_url)) as client:

        def pause_at_the_third_page() -> bool:
            nonlocal looked
            looked += 1
            if looked == 3:
                client.hset(KEYS.paused, "orders", msgspec.json.encode(MOVING).decode())
            return False

        async with bench(page_size=5) as b:
            run = await b.poll(stop=pause_at_the_third_page)
            assert (run.outcome, run.error_code, run.error) == (Outcome.PAUSED, "paused", WORDS)
            assert 2 <= run.pages <= 4
            assert len(await b.events()) == run.records == run.pages * 5
            ((_, record),) = await b.redis.xrevrange(KEYS.runs, count=1)
            assert (record[b"outcome"], record[b"error"]) == (b"paused", WORDS.encode())

            asked = b.sandbox.requests.counts()
            again = await b.poll()
            assert (again.outcome, again.pages, again.error) == (Outcome.PAUSED, 0, WORDS)
            assert b.sandbox.requests.counts() == asked

            await Pauses(b.redis, KEYS).end(["orders"])
            assert (await b.poll()).outcome is Outcome.COMPLETE
            subjects = [event.subject for event in await b.events()]
            assert len(subjects) == len(set(subjects)) == 50


async def test_logs_that_are_being_read_wait_as_well(
    bench: BenchMaker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is due by id stays due while it is paused, and is read once it is resumed."""
    monkeypatch.setattr(gate, "PAUSE_CHECK_SECONDS", 0.0)
    monkeypatch.setattr(follow_up, "BATCH", 5)
    log, looked = AUDIT_LOGS["order_audit"], 0
    with closing(redis.Redis.from_url(redis_url)) as client:

        def pause_at_the_third_batch() -> bool:
            nonlocal looked
            looked += 1
            if looked == 3:
                client.hset(KEYS.paused, log.name, msgspec.json.encode(MOVING).decode())
            return False

        async with bench(intervals={"orders": 1.0, log.name: 1.0}) as b:
            await b.poll()
            b.sandbox.store.change(b.sandbox.store.ids())
            await b.poll()
            run = await b.poll(log, stop=pause_at_the_third_batch)
            assert (run.outcome, run.error_code, run.error) == (Outcome.PAUSED, "paused", WORDS)
            assert 10 <= run.usage.requests <= 20
            assert (await b.poll(log)).usage.requests == 0
            await Pauses(b.redis, KEYS).end([log.name])
            again = await b.poll(log)
            assert (again.outcome, again.usage.requests + run.usage.requests) == (Outcome.COMPLETE, 50)


def test_a_pause_comes_before_every_other_judgement() -> None:
    """However old what is published gets, and whatever fails: it is paused, and says by whom, and what to do."""
    verdict = judge(Cursor(failures=9, error="boom", last_started=1.0), 9e9, full=True, pause=MOVING)
    assert verdict.health is Health.PAUSED
    assert verdict.cause == f"{WORDS}. To continue: ordersync resume"
    assert verdict.health.alive


async def test_the_heartbeat_tells_it(bench: BenchMaker, tmp_path: Path) -> None:
    """`ordersync health` is 0 and names what is paused; a restart by a supervisor would help nobody."""
    async with bench() as b:
        await Pauses(b.redis, KEYS).begin([MOVING])
        (beat,) = await reporter(b.services)()
    assert (beat.health, beat.cause) == ("paused", f"{WORDS}. To continue: ordersync resume")
    heartbeat.write(tmp_path, heartbeat.Beat("w", 1, time.time(), 1.0, [beat]))
    done = ordersync("health", cwd=tmp_path, data_dir=str(tmp_path))
    assert done.returncode == 0
    assert done.stdout == f"healthy\ndefault/orders: {beat.cause}\n"


async def test_a_pause_of_another_hand_still_pauses(bench: BenchMaker) -> None:
    """Whoever sets the field by hand wants it to stop."""
    async with bench() as b:
        await b.redis.hset(KEYS.paused, "orders", "stop!")
        run = await b.poll()
    assert run.outcome is Outcome.PAUSED
    assert "paused by an unknown user: the pause was not written by this program" in run.error


async def test_the_commands(bench: BenchMaker, redis_url: str, tmp_path: Path) -> None:
    """Author, reason and time are kept; without `--by` it is who is logged in here."""
    async with bench() as b:
        await announce(b.services)

    def call(*words: str) -> tuple[int, str, str]:
        done = ordersync(*words, cwd=tmp_path, redis__url=redis_url, poll__preset="orders")
        return done.returncode, done.stdout, done.stderr

    me = f"{getpass.getuser()}@{socket.gethostname()}"
    assert call("pause", "orders", "--reason", "INC-1") == (0, f"default/orders was paused by {me}\n", "")
    (row,) = json.loads(call("status", "--json")[1])
    assert (row["health"], row["paused"].pop("since")[:2]) == ("paused", "20")
    assert row["paused"] == {"by": me, "reason": "INC-1", "scope": "resource"}

    code, out, _ = call("pause", "--reason", "INC-2", "--by", "night-shift", "--json")
    (row,) = json.loads(out)
    assert (code, row["account"], row["resource"], row["by"]) == (0, "default", None, "night-shift")
    code, out, err = call("resume", "orders", "notes")
    assert code == 1
    assert out.startswith("default/orders was resumed after ")
    assert out.endswith(f" s; {me} had paused it: INC-1\ndefault/notes was not paused\n")
    assert "the account is paused by night-shift since" in err
    assert "default/orders is paused: the account is paused by night-shift" in call("status")[1]
    code, out, _ = call("resume")
    assert (code, out.startswith("account default was resumed after")) == (0, True)
    assert call("resume") == (0, "Nothing in account default was paused.\n", "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("pause", "orders"), "--reason"),
        (("pause", "orders", "--reason", " "), "State why the resource is paused"),
        (("pause", "parcels", "--reason", "x"), "Unknown resource 'parcels'"),
        (("resume", "parcels"), "Unknown resource 'parcels'"),
    ],
)
def test_wrong_use(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    """Nothing is paused without a reason, and nothing that does not exist."""
    done = ordersync(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


async def test_over_restarts(own_server: Server, sandbox: SandboxServer, tmp_path: Path) -> None:
    """A daemon that is started anew, on a Redis that was too, reads nothing until it is resumed; nor by hand."""
    settings = login_settings(sandbox, own_server.url, tmp_path)
    assert ordersync("pause", "--reason", "INC-3", cwd=tmp_path, **settings).returncode == 0
    own_server.stop()
    own_server.start()
    for _ in range(2):
        with Program(tmp_path, **settings) as daemon:
            assert (await daemon.logged("polling_paused"))["reason"] == "INC-3"
            await eventually(lambda: "INC-3" in ordersync("health", cwd=tmp_path, **settings).stdout)
            daemon.process.send_signal(signal.SIGTERM)
            assert await daemon.ended() == 0
    done = ordersync("run", "--once", cwd=tmp_path, **settings)
    assert done.returncode == 1
    assert "INC-3" in done.stderr
    assert "orders.search" not in sandbox.requests.counts()
    with Program(tmp_path, **settings) as daemon:
        await daemon.logged("polling_paused")
        assert ordersync("resume", cwd=tmp_path, **settings).returncode == 0
        await daemon.logged("poll_done")
        order = [line["event"] for line in daemon.logs() if line["event"] in ("polling_resumed", "poll_done")]
        assert order[:2] == ["polling_resumed", "poll_done"]
