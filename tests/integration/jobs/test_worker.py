"""The traps of arq, each with the test that fails without its answer. See jobs/ and worker/connections.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from arq.constants import in_progress_key_prefix, job_key_prefix, result_key_prefix
from redis.asyncio import Redis

from jobs.poll import job_id
from jobs.queue import IN_PROGRESS_SECONDS
from jobs.tick import seconds_until_due, tick
from jobs.worker import make_poll_worker
from tests.support.arq_worker import QUEUE, queue_of, working
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import Bench, BenchMaker, account_for
from worker.app import open_services
from worker.cancellation import end
from worker.capture.state.run import Run
from worker.clock import SystemClock
from worker.errors import RedisUnavailable, SettingsError
from worker.redis.connections import answer, connect, pool, wait_until_up
from worker.sandbox import FaultRule, SandboxServer

pytestmark = pytest.mark.anyio

ORDERS_JOB = job_id(QUEUE, "default", "orders")


async def set_cursor(bench: Bench, **fields: float) -> None:
    await bench.redis.hset(bench.account.keys.cursor("orders"), mapping=fields)


class StillClock(SystemClock):
    """A clock whose time of day stands still."""

    def __init__(self) -> None:
        self._at = time.time()

    def now(self) -> float:
        """When it was made."""
        return self._at


class Polls:
    """Stands in for the poller where a test asks when it is called, not what it does."""

    def __init__(self, seconds: float = 0.0, bench: Bench | None = None) -> None:
        self.at: list[float] = []
        self.under_way = self.most_under_way = 0
        self._seconds, self._bench = seconds, bench

    async def poll(self, *_: Any, **__: Any) -> Run:
        """Takes its time and does nothing, but that it is not due for a while where it knows the cursor."""
        self.at.append(time.time())
        if self._bench:
            await set_cursor(
                self._bench, due_at=time.time() + 600, failures=1
            )  # a pause, longer than the interval
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self.under_way -= 1
        return Run("run", "default", "orders", "sweep", "poll", 0.0, 0.0)


def with_polls(bench: Bench, polls: Polls) -> None:
    bench.services.accounts = {"default": replace(bench.account, poller=polls)}  # type: ignore[arg-type] # duck-typed


# --- the tick ---------------------------------------------------------------------------------------


async def test_the_tick_only_enqueues(bench: BenchMaker, redis_url: str) -> None:
    """It asks the gateway nothing and publishes nothing: a tick that a deploy cuts short loses no work."""
    async with bench() as b, queue_of(b, redis_url) as queue:
        await tick({"services": b.services, "redis": queue})
        assert await b.redis.zrange(QUEUE, 0, -1) == [ORDERS_JOB.encode()]
        assert await b.events() == []
        assert b.sandbox.requests.counts() == {}


async def test_a_job_has_a_fixed_id_and_stands_in_the_queue_once(bench: BenchMaker, redis_url: str) -> None:
    """However often the tick finds the poll due: arq refuses the id while it is queued."""
    async with bench() as b, queue_of(b, redis_url) as queue:
        for _ in range(5):
            await tick({"services": b.services, "redis": queue})
        assert await b.redis.zcard(QUEUE) == 1
        assert f"{QUEUE}:poll:default:orders" == ORDERS_JOB


async def test_a_poll_that_is_not_due_is_left_alone(bench: BenchMaker, redis_url: str) -> None:
    """What is due is computed from the cursor; the next tick is put off to the time of what is due before it."""
    async with bench() as b, queue_of(b, redis_url) as queue:
        b.services.clock = clock = StillClock()
        await set_cursor(b, due_at=clock.now() + 1.5, interval=1)
        assert await tick({"services": b.services, "redis": queue}) == 1.0
        await set_cursor(b, due_at=clock.now() + 0.9)
        assert await tick({"services": b.services, "redis": queue}) == pytest.approx(0.9)
        assert await b.redis.zcard(QUEUE) == 0


async def test_a_stopping_worker_enqueues_nothing(bench: BenchMaker, redis_url: str) -> None:
    """What it enqueued it would not run."""
    async with bench() as b, queue_of(b, redis_url) as queue:
        b.services.stopping = lambda: True
        await tick({"services": b.services, "redis": queue})
        assert await b.redis.zcard(QUEUE) == 0


@pytest.mark.parametrize(
    ("due_at", "interval", "failures", "expected"),
    [
        (None, None, None, -1000.0),  # never read
        (b"1005", b"15", b"0", 5.0),
        (b"990", b"15", b"0", -10.0),
        (b"x", b"15", b"0", 0.0),
        (b"nan", b"15", b"0", 0.0),
        (b"9999999", b"15", b"0", 0.0),  # the clock was wrong when it was written
        (b"4600", b"3600", b"0", 15.0),  # the interval was made shorter: it counts at once
        (b"1005", b"5", b"0", 5.0),  # made longer: from the next poll on
        (b"1060", b"3600", b"2", 60.0),  # a pause after failures is no interval
        (b"1902", b"15", b"2", 0.0),  # no server gets a pause as long as this
        (b"1017", b"15", b"0", 0.0),  # nor is the interval as long
    ],
)
def test_when_a_poll_is_due(
    due_at: bytes | None, interval: bytes | None, failures: bytes | None, expected: float
) -> None:
    """By the cursor and the interval wanted now (15 s), at second 1000."""
    assert seconds_until_due(due_at, interval, failures, requested=15.0, now=1000.0) == expected


def test_a_poll_that_began_in_the_future_is_due() -> None:
    """The clock was put back since: the time of the next poll is as wrong."""
    for began, expected in ((b"1004", 5.0), (b"1006", 0.0)):
        assert seconds_until_due(b"1005", b"15", b"0", began, requested=15.0, now=1000.0) == expected


async def test_a_cursor_that_is_no_cursor_is_due_and_stops_nobody_else(
    bench: BenchMaker, redis_url: str
) -> None:
    """The poll says what is wrong with it; the tick goes on with the other resources."""
    async with bench() as b, queue_of(b, redis_url) as queue:
        await b.redis.set(b.account.keys.cursor("orders"), "in the way")
        await tick({"services": b.services, "redis": queue})
        assert await b.redis.zcard(QUEUE) == 1


async def test_missed_polls_are_made_up_by_one(bench: BenchMaker, redis_url: str) -> None:
    """An hour of missed polls is one poll, at once: arq makes up nothing, and a hundred help nobody."""
    async with bench() as b:
        polls = Polls(bench=b)
        with_polls(b, polls)
        await set_cursor(b, due_at=time.time() - 3600, interval=1)
        async with working(b, redis_url):
            await eventually(lambda: polls.at)
            await asyncio.sleep(1.5)
        assert len(polls.at) == 1


async def test_a_poll_starts_at_its_time(bench: BenchMaker, redis_url: str) -> None:
    """The tick before it waits for its due time: it starts then, and no sooner."""
    async with bench() as b:
        polls = Polls()
        with_polls(b, polls)
        due = time.time() + 1.8
        await set_cursor(b, due_at=due, interval=1)
        async with working(b, redis_url):
            await eventually(lambda: polls.at)
        assert polls.at[0] - due > -0.002  # arq counts in milliseconds


async def test_no_second_job_while_one_runs(bench: BenchMaker, redis_url: str) -> None:
    """A poll that takes longer than its interval is not started again beside itself, in no worker."""
    async with bench() as b:
        polls = Polls(seconds=2.5)
        with_polls(b, polls)
        async with working(b, redis_url), working(b, redis_url, "test-2"):
            await eventually(lambda: len(polls.at) >= 2)
        assert polls.most_under_way == 1


# --- what a job leaves behind ---------------------------------------------------------------------


async def test_no_result_is_kept_and_the_id_is_free_at_once(bench: BenchMaker, redis_url: str) -> None:
    """A kept result would make arq refuse the id for an hour, of a poll that failed as of one that did not."""
    async with bench() as b, queue_of(b, redis_url) as queue:
        with_polls(b, Polls())
        async with working(b, redis_url) as worker:
            await eventually(lambda: worker.jobs_complete >= 3)
            await queue.enqueue_job("poll", "too", "many", "arguments", _job_id="bad")
            await b.redis.zadd(QUEUE, {"expired": 1})  # an id without a body
            await eventually(lambda: worker.jobs_failed >= 2)
        assert await b.redis.keys(f"{result_key_prefix}*") == []


async def test_job_bodies_are_json(bench: BenchMaker, redis_url: str) -> None:
    """Arguments are ids only, of the account, the resource and the trace, readable by anybody."""
    async with bench() as b, queue_of(b, redis_url) as queue:
        await tick({"services": b.services, "redis": queue})
        body = await b.redis.get(job_key_prefix + ORDERS_JOB)
        job = json.loads(body)
        assert (job["f"], job["a"], list(job["k"])) == ("poll", ["default", "orders"], ["traceparent"])


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (Path.touch, (self._file,))


async def test_a_pickled_body_is_refused_and_harmless(
    bench: BenchMaker, redis_url: str, tmp_path: Path
) -> None:
    """Who can write to Redis cannot run code here, and the worker goes on."""
    async with bench() as b:
        polls = Polls()
        with_polls(b, polls)
        await b.redis.set(f"{job_key_prefix}bomb", pickle.dumps(Bomb(tmp_path / "ran")))
        await b.redis.zadd(QUEUE, {"bomb": 1})
        async with working(b, redis_url) as worker:
            await eventually(lambda: worker.jobs_failed)
            await eventually(lambda: polls.at)
        assert not (tmp_path / "ran").exists()
        assert await b.redis.zscore(QUEUE, "bomb") is None


async def test_bodies_of_another_shape_do_not_end_the_worker(bench: BenchMaker, redis_url: str) -> None:
    """Some would raise outside of arq's try, end its loop, and be met again after each restart."""
    bodies = (
        b'{"t":"x","f":"poll","a":[],"k":{},"et":1}',
        b'{"t":null,"f":5,"a":[],"k":{},"et":1}',
        b'{"t":null,"f":"poll","a":[],"k":[],"et":null}',
        b'{"t":null,"f":"poll","a":5,"k":{},"et":1}',
        b'{"t":null,"f":"nosuch","a":[],"k":{},"et":1}',
        b'{"t":null,"f":"poll","a":[],"k":{},"et":1}',
        b"[]",
        b"",
    )
    async with bench() as b:
        with_polls(b, Polls())
        for number, body in enumerate(bodies):
            await b.redis.set(f"{job_key_prefix}odd-{number}", body)
            await b.redis.zadd(QUEUE, {f"odd-{number}": 1})
        async with working(b, redis_url) as worker:
            await eventually(lambda: worker.jobs_failed == len(bodies))
        assert not [name for name in await b.redis.zrange(QUEUE, 0, -1) if name.startswith(b"odd-")]


@pytest.mark.parametrize("arguments", [("nobody", "orders"), ("default", "parcels")])
async def test_a_job_for_somebody_else_is_harmless(
    bench: BenchMaker, redis_url: str, arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An account or a resource that this worker does not know: said, dropped, nothing read."""
    async with bench() as b, queue_of(b, redis_url) as queue:
        polls = Polls()
        with_polls(b, polls)
        await set_cursor(b, due_at=time.time() + 60, interval=1)
        await queue.enqueue_job("poll", *arguments, _job_id="odd")
        async with working(b, redis_url) as worker:
            await eventually(lambda: worker.jobs_complete)
        assert polls.at == []
        assert worker.jobs_failed == 0


# --- life and death of a worker -------------------------------------------------------------------


async def test_the_in_progress_mark_is_short_and_renewed(
    bench: BenchMaker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark of arq would outlive a killed worker by 310 s; this one is kept alive by the lease's heartbeat."""
    monkeypatch.setattr("worker.capture.state.lease.RENEW_SECONDS", 0.2)
    async with bench(timeout=2 * PATIENCE) as b:
        b.sandbox.faults.replace((FaultRule("delay", operation="orders.search", seconds=PATIENCE, times=1),))
        mark = in_progress_key_prefix + ORDERS_JOB
        async with working(b, redis_url):
            await eventually(lambda: b.redis.exists(mark))
            left = await b.redis.pttl(mark)
            assert 0 < left <= IN_PROGRESS_SECONDS * 1000
            await b.redis.pexpire(mark, 4500)
            await eventually(lambda: _longer_than(b.redis, mark, 5000))


async def _longer_than(client: Redis, key: str, milliseconds: int) -> bool:
    return int(await client.pttl(key)) > milliseconds


async def test_a_killed_workers_job_is_taken_over_within_15_seconds(
    redis_url: str, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """SIGKILL in the middle of a first read: what it held runs out, the next worker carries on, nothing comes twice."""
    sandbox.faults.replace((FaultRule("hang", operation="orders.search", page=3),))  # the probe looks at 2
    values = login_settings(sandbox, redis_url, tmp_path, api__page_size="10")
    with redis.Redis.from_url(redis_url) as client:

        def published() -> int:
            return int(client.xlen("ordersync:{default}:stream:orders"))

        with Program(tmp_path, **values) as first:
            await eventually(published)
            first.process.kill()
            await first.ended()
        assert 0 < published() < 50
        assert client.pttl(in_progress_key_prefix + ORDERS_JOB) in {-2, *range(15_000)}  # gone, or soon
        lease_ends = int(client.hget("ordersync:{default}:lease:orders", "until"))
        assert lease_ends - time.time() * 1000 < 15_000
        sandbox.faults.replace(())
        with Program(tmp_path, **values):
            await eventually(lambda: published() >= 50)
        entries = client.xrange("ordersync:{default}:stream:orders")
        assert len({fields[b"subject"] for _, fields in entries}) == len(entries) == 50


async def test_a_cancelled_job_is_run_again(bench: BenchMaker, redis_url: str) -> None:
    """What a stopping worker cuts short stays in the queue, and is not failed for it."""
    async with bench() as b:
        polls = Polls(seconds=60)
        with_polls(b, polls)
        async with working(b, redis_url):
            await eventually(lambda: polls.at)
        assert await b.redis.zscore(QUEUE, ORDERS_JOB) is not None
        assert not await b.redis.exists(in_progress_key_prefix + ORDERS_JOB)
        async with working(b, redis_url, "test-2") as worker:
            await eventually(lambda: len(polls.at) >= 2)
            assert worker.jobs_failed == 0


async def test_a_closed_worker_leaves_no_job_behind(bench: BenchMaker, redis_url: str) -> None:
    """Nor one that takes longer to end than another: what the jobs use is closed next."""
    ended = asyncio.Event()

    class SlowToEnd(Polls):
        async def poll(self, *options: Any, **named: Any) -> Run:
            try:
                return await super().poll(*options, **named)
            finally:
                await asyncio.sleep(0.2)
                ended.set()

    async with bench() as b:
        polls = SlowToEnd(seconds=600)
        with_polls(b, polls)
        async with working(b, redis_url) as worker:
            await eventually(lambda: polls.at)
            worker.tasks["quick"] = asyncio.ensure_future(asyncio.sleep(600))
        assert ended.is_set()


async def test_each_worker_has_its_health_key(bench: BenchMaker, redis_url: str) -> None:
    """One that ends takes its own away, not that of the others; it lasts for seconds, not for an hour."""
    async with bench() as b:
        with_polls(b, Polls())
        first, second = f"{QUEUE}:health:test-1", f"{QUEUE}:health:test-2"
        async with working(b, redis_url):
            async with working(b, redis_url, "test-2"):
                await eventually(lambda: b.redis.exists(first, second))
                await eventually(lambda: _both(b.redis, first, second))
                assert await b.redis.ttl(first) <= 11
            assert not await b.redis.exists(second)
            assert await b.redis.exists(first)


async def _both(client: Redis, *keys: str) -> bool:
    return int(await client.exists(*keys)) == len(keys)


async def test_no_hook_is_set(bench: BenchMaker, redis_url: str) -> None:
    """A hook that raises ends arq's worker: there is none."""
    async with bench() as b, working(b, redis_url) as worker:
        hooks = (
            worker.on_startup,
            worker.on_shutdown,
            worker.on_job_start,
            worker.on_job_end,
            worker.after_job_end,
        )
        assert hooks == (None,) * 5
        assert worker.allow_abort_jobs is False
        assert worker.poll_delay_s == pytest.approx(0.1)
        assert worker.functions["poll"].max_tries is not None
        assert worker.functions["poll"].max_tries >= 20


# --- our own pool ----------------------------------------------------------------------------------


@pytest.fixture
def black_hole() -> AsyncIterator[str] | Any:
    """A server that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


async def test_a_black_hole_does_not_hang_a_call(black_hole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One timeout, not 64: redis-py retries a command, its connection and its handshake inside one another."""
    monkeypatch.setattr("worker.redis.connections.SOCKET_TIMEOUT", 0.5)
    monkeypatch.setattr("worker.redis.connections.RETRY_SECONDS", 0.25)
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
    monkeypatch.setattr("worker.redis.connections.SOCKET_TIMEOUT", 0.5)
    monkeypatch.setattr("worker.redis.connections.RETRY_SECONDS", 0.25)
    async with bench() as b:
        worker = make_poll_worker(black_hole, b.services, "test-1")
        with pytest.raises(redis.RedisError):
            await asyncio.wait_for(worker.async_run(), PATIENCE)
        with contextlib.suppress(redis.RedisError):
            await asyncio.wait_for(worker.close(), PATIENCE)


async def test_a_restart_is_bridged_by_retries(own_server: Server) -> None:
    """A refused connection is tried again for a moment: a call that meets a restart succeeds."""
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


async def test_workers_with_other_accounts_leave_each_others_jobs_alone(
    redis_url: str, sandbox: SandboxServer
) -> None:
    """Each set of accounts has a queue, ticks and job ids of its own: neither starves where both share a Redis."""
    places = []
    async with AsyncExitStack() as stack:
        for name in ("prod", "staging"):
            account = account_for(sandbox, name)
            place = await stack.enter_async_context(open_services([account], redis_url, SystemClock()))
            worker = make_poll_worker(redis_url, place, f"test-{name}")
            running = asyncio.ensure_future(worker.async_run())
            stack.push_async_callback(end_worker, worker, running)
            places.append(place)

        async def both_polled_twice() -> bool:
            lengths = [
                await place.redis.xlen(desk.keys.runs) for place in places for desk in place.accounts.values()
            ]
            return bool(min(lengths) >= 2)

        await eventually(both_polled_twice)


async def end_worker(worker: Any, running: asyncio.Future[None]) -> None:
    """As the daemon ends it."""
    await end(running)
    with contextlib.suppress(asyncio.CancelledError):
        await worker.close()
