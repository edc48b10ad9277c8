"""A session: what one poll sends to Redis, when it is seen to have begun, and how it ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.support.waiting import eventually
from tests.support.worker import BenchMaker
from worker.cancellation import end
from worker.capture.gate import COMPLETE, PARTIAL, ReadResult, Stop, StopCause, end_run
from worker.capture.health import Health, judge
from worker.capture.registry import ORDERS
from worker.capture.session import PollSession
from worker.capture.state import lease as leases
from worker.capture.state.commit import Commit
from worker.capture.state.cursor import Cursor
from worker.capture.state.replicas import run_confirmed
from worker.capture.state.run import Outcome
from worker.capture.state.store import StateStore
from worker.queue.backpressure import PressureReport
from worker.redis.connections import answer
from worker.sandbox import FaultRule, SandboxServer, ServedContract

pytestmark = pytest.mark.anyio

FILTERS = ServedContract(since_honoured=True)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the commits of every source, and how often a cursor is loaded."""
    counts = Counter[str]()
    commit, load_cursor = StateStore.commit, StateStore.load_cursor

    async def counted_commit(store: StateStore, what: Commit) -> bool:
        counts["commits"] += 1
        return await commit(store, what)

    async def counted_load(store: StateStore) -> Cursor:
        counts["loads"] += 1
        return await load_cursor(store)

    monkeypatch.setattr(StateStore, "commit", counted_commit)
    monkeypatch.setattr(StateStore, "load_cursor", counted_load)
    return counts


async def test_what_a_poll_costs(bench: BenchMaker, calls: Counter[str]) -> None:
    """One commit for a quiet poll, two for one with a changed page; the cursor is loaded again by a full scan alone."""
    with SandboxServer(orders=50, contract=FILTERS) as sandbox:
        async with bench(sandbox, probe=True) as b:
            await b.poll()
            assert (await b.poll()).plan == "window"
            calls.clear()
            assert (await b.poll()).published == 0
            assert calls == {"commits": 1}  # its lease comes with the cursor
            calls.clear()
            sandbox.store.change(1)
            assert (await b.poll()).published == 1
            assert calls == {"commits": 2}
            b.adjust(complete_every=0.0)
            calls.clear()
            assert (await b.poll()).plan == "window+sweep"
            assert calls == {"commits": 2, "loads": 2}  # between the two reads, at the end of the scan


async def test_a_poll_is_recorded_as_begun_with_its_first_commit(bench: BenchMaker) -> None:
    """Health goes by it: it is there after every poll, whatever has come of it."""
    async with bench(attempts=1) as b:
        run = await b.poll()
        cursor = await b.cursor()
        assert (cursor.last_started, cursor.interval) == (run.started_at, 1.0)
        b.sandbox.faults.replace([FaultRule("status", operation="orders.search", code=503)])
        run = await b.poll()
        assert run.outcome is Outcome.FAILED
        assert (await b.cursor()).last_started == run.started_at


async def test_a_poll_that_takes_long_is_recorded_as_begun(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next renewal of its lease, though it has nothing to commit; it stays so if the worker is killed."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)
    async with bench() as b:
        await b.poll()
        before = await b.cursor()

        async def hangs(*_: Any, **__: Any) -> bytes:
            await asyncio.sleep(3600)
            raise AssertionError

        monkeypatch.setattr(b.account.client, "read_page", hangs)
        poll = asyncio.ensure_future(b.poll())

        async def begun() -> bool:
            return (await b.cursor()).last_started > before.last_started

        await eventually(begun)
        await end(poll)
        cursor = await b.cursor()
        assert cursor.due_at == before.due_at
        assert judge(cursor, cursor.last_started + 1).health is Health.OK
        assert judge(cursor, cursor.last_started + 400).health is Health.FAILING


async def test_a_lease_that_was_lost_is_not_recorded_as_begun(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fence refuses it, and the poll ends as any that has lost its lease."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)
    async with bench() as b:
        await b.poll()
        before = await b.cursor()
        read_page = b.account.client.read_page

        async def slow(*args: Any, **options: Any) -> bytes:
            await b.redis.hset(b.account.keys.lease("orders"), mapping={"fence": 10**6, "owner": "another"})
            await asyncio.sleep(0.3)
            return await read_page(*args, **options)

        monkeypatch.setattr(b.account.client, "read_page", slow)
        run = await b.poll()
        assert (run.outcome, run.error_code) == (Outcome.FAILED, "lease_lost")
        assert (await b.cursor()).last_started == before.last_started


@pytest.mark.parametrize("arrives", [True, False], ids=["its answer was lost", "it was late"])
async def test_another_worker_commits_before_the_last_commit_is_sent_again(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch, *, arrives: bool
) -> None:
    """A poll whose last commit was written is complete, and one whose was not has lost its lease."""
    sends = "worker.capture.state.committer.run_confirmed"
    async with bench() as b, bench(b.sandbox) as other:
        await b.poll()

        async def overtaken(*commit: Any) -> Any:
            monkeypatch.setattr(sends, run_confirmed)
            if arrives:
                assert (await run_confirmed(*commit))[0] == b"ok"
            else:
                await answer(b.redis.hset(b.account.keys.lease("orders"), "until", "0"))
            assert (await other.poll()).outcome is Outcome.COMPLETE
            return await run_confirmed(*commit)

        monkeypatch.setattr(sends, overtaken)
        run = await b.poll()
        ended = (Outcome.COMPLETE, "") if arrives else (Outcome.FAILED, "lease_lost")
        assert (run.outcome, run.error_code) == ended
        runs = [record[b"run_id"] for _, record in await b.redis.xrange(b.account.keys.runs)]
        assert runs.count(run.run_id.encode()) == int(arrives)
        assert len(runs) == len(set(runs)) == 2 + int(arrives)


BEHIND = PressureReport("group x has 5 entries to read", "x", 5, 0, 0, 0)


@pytest.mark.parametrize(
    ("results", "ended"),
    [
        ([COMPLETE], (Outcome.COMPLETE, "", "")),
        ([PARTIAL], (Outcome.PARTIAL, "", "")),
        ([ReadResult(Stop(StopCause.STOPPED))], (Outcome.STOPPED, "", "")),
        ([ReadResult(Stop(StopCause.PAUSED, "by me"))], (Outcome.PAUSED, "paused", "by me")),
        (
            [ReadResult(Stop(StopCause.BACKPRESSURE, report=BEHIND))],
            (Outcome.PAUSED, "backpressure", "polling is paused: group x has 5 entries to read"),
        ),
        ([ReadResult(suspicion="odd")], (Outcome.SUSPICIOUS, "suspicious", "odd")),
        ([ReadResult(suspicion="odd"), PARTIAL], (Outcome.PARTIAL, "suspicious", "odd")),
        ([ReadResult(suspicion="odd"), COMPLETE], (Outcome.COMPLETE, "", "")),
    ],
)
async def test_how_a_read_ends(
    bench: BenchMaker, results: list[ReadResult], ended: tuple[Outcome, str, str]
) -> None:
    """Each end has its outcome, and the error that a later read of the same run does not take back."""
    async with bench() as b:
        session = PollSession(b.account.poller.context, ORDERS, reason="test")
        for result in results:
            end_run(session.run, result)
        assert (session.run.outcome, session.run.error_code, session.run.error) == ended
