"""Audit logs of the past: read where they are wanted, behind all that is due, and never from the beginning again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.capture.refresh.test_audit_logs import logs, told
from tests.support.worker import Bench, BenchMaker
from worker.admin.status import StatusCollector
from worker.app import announce
from worker.capture.health import Health, judge
from worker.capture.refresh.backlog import AT_ONCE
from worker.capture.registry import AUDIT_LOGS
from worker.capture.state.cursor import BACKLOG_DONE, Cursor
from worker.capture.state.position import ScanPosition, parse_position, share_done, text_of
from worker.capture.state.store import StateStore
from worker.cli.render.status import screen
from worker.clock import parse_time
from worker.config.settings import Settings
from worker.redis.connections import answer
from worker.sandbox import FaultRule

pytestmark = pytest.mark.anyio

ORDER_AUDIT = AUDIT_LOGS["order_audit"]
BOTH = {"orders": 1.0, "order_audit": 1.0}


async def cursor_of(b: Bench) -> Cursor:
    """Return where the audit logs stand."""
    return await StateStore(b.redis, b.account.keys, ORDER_AUDIT).load_cursor()


async def subjects(b: Bench) -> list[str]:
    """Return whose entries were published, in order, each once."""
    return list(dict.fromkeys(event.subject for event in await b.events("order_audit")))


async def row_of(b: Bench) -> dict[str, Any]:
    """Return what `status` says of the audit logs."""
    await announce(b.services)
    rows = await StatusCollector(b.redis, Settings()).rows()
    return next(row for row in rows if row["resource"] == "order_audit")


async def test_by_default_logs_of_changed_records_are_read(bench: BenchMaker) -> None:
    """None of the past costs a request; the first read of a log publishes all of it."""
    async with bench(intervals=BOTH, audit_history="changed") as b:
        await b.poll()
        run = await b.poll(ORDER_AUDIT)
        assert (run.usage.requests, await subjects(b)) == (0, [])
        changed = b.sandbox.store.change(3)
        await b.poll()
        await b.poll(ORDER_AUDIT)
        assert sorted(await subjects(b)) == sorted(changed)
        of_changed = {one: entries for one, entries in logs(b.sandbox).items() if one in changed}
        assert told(await b.events("order_audit")) == of_changed


async def test_a_change_during_the_first_scan_counts_as_one(bench: BenchMaker) -> None:
    """It is published as a snapshot, and its log is read all the same."""
    async with bench(intervals=BOTH, audit_history="changed", page_size=10) as b:
        pages = iter(range(100))
        await b.poll(stop=lambda: next(pages) > 1)
        (order,) = b.sandbox.store.change(1)
        await b.poll()
        await b.poll(ORDER_AUDIT)
        kinds = [event.type for event in await b.events() if event.subject == order]
        assert kinds[-1].endswith((".snapshot", ".updated"))
        assert await subjects(b) == [order]


async def test_logs_of_the_past_wait_for_those_that_are_due(bench: BenchMaker) -> None:
    """Whatever becomes due meanwhile is read next; each log is read once, also when the read is stopped and goes on."""
    async with bench(intervals=BOTH) as b:
        await b.poll()
        asked = iter(range(1000))
        await b.poll(ORDER_AUDIT, stop=lambda: next(asked) > 30)
        first = await subjects(b)
        assert 0 < len(first) <= 2 * AT_ONCE < 50
        late = next(one for one in b.sandbox.store.ids() if one not in first)
        b.sandbox.store.change([late])
        await b.poll()
        run = await b.poll(ORDER_AUDIT)
        rest = (await subjects(b))[len(first) :]
        assert rest.index(late) <= AT_ONCE  # behind those that the stop has interrupted
        assert sorted(first + rest) == sorted(b.sandbox.store.ids())
        assert run.usage.requests == 50 - len(first)
        assert (await cursor_of(b)).backlog == BACKLOG_DONE
        assert (await b.poll(ORDER_AUDIT)).usage.requests == 0


async def test_records_of_the_past_that_are_found_later(bench: BenchMaker) -> None:
    """When the backlog is done, an old record that a later scan finds has its log read as well."""
    async with bench(intervals=BOTH) as b:
        await b.poll()
        await b.poll(ORDER_AUDIT)
        (old,) = b.sandbox.store.create(1)
        b.sandbox.store.change_silently([old], createdAt="2020-01-02T03:04:05.000Z", updatedAt=None)
        await b.poll()
        assert (await b.events())[-1].type.endswith(".snapshot")
        await b.poll(ORDER_AUDIT)
        assert (await subjects(b))[-1] == old


async def test_the_past_is_wanted_later(bench: BenchMaker) -> None:
    """Turned on, off and on again: known logs are passed over, the others are read."""
    async with bench(intervals=BOTH, audit_history="changed") as b:
        await b.poll()
        changed = b.sandbox.store.change(5)
        await b.poll()
        await b.poll(ORDER_AUDIT)
        b.adjust(audit_history="all")
        assert (await b.poll(ORDER_AUDIT)).usage.requests == 50 - len(changed)
        b.adjust(audit_history="changed")
        await b.poll(ORDER_AUDIT)
        assert (await cursor_of(b)).backlog == ""
        b.adjust(audit_history="all")
        assert (await b.poll(ORDER_AUDIT)).usage.requests == 0
        assert (await cursor_of(b)).backlog == BACKLOG_DONE


async def test_the_past_that_is_not_published_costs_no_request(bench: BenchMaker) -> None:
    """Of records before the start date no log is read."""
    async with bench(intervals=BOTH) as b:
        await b.poll()
        times = sorted(event.time for event in await b.events())
        late = [event.subject for event in await b.events() if event.time >= times[40]]
        b.adjust(since=parse_time(times[40]))
        assert (await b.poll(ORDER_AUDIT)).usage.requests == len(late) < 50


async def test_a_silent_past_costs_no_request(bench: BenchMaker) -> None:
    """No entry of it would be published."""
    async with bench(intervals=BOTH, snapshot="silent") as b:
        await b.poll()
        assert (await b.poll(ORDER_AUDIT)).usage.requests == 0


async def test_how_far_the_past_is_read_is_shown(bench: BenchMaker) -> None:
    """In `status`, as a share and the time left; nothing is shown where none is read, or all was."""
    async with bench(intervals=BOTH, audit_history="changed") as b:
        await b.poll()
        await b.poll(ORDER_AUDIT)
        assert (await row_of(b))["backlog"] is None
        b.adjust(audit_history="all")
        asked = iter(range(1000))
        await b.poll(ORDER_AUDIT, stop=lambda: next(asked) > 30)
        row = await row_of(b)
        assert 0 < row["backlog"]["share"] < 1
        assert row["backlog"]["left_s"] >= 0
        assert any("audit logs of the past" in line and "left" in line for line in screen([row]))
        await b.poll(ORDER_AUDIT)
        row = await row_of(b)
        assert row["backlog"] == {"share": 1.0, "left_s": 0.0}
        assert not any("audit logs of the past" in line for line in screen([row]))


async def test_logs_are_no_fresher_than_their_records(bench: BenchMaker) -> None:
    """A gateway that is gone lets the age of the logs grow, though none of them is due."""
    async with bench(intervals=BOTH, attempts=1) as b:
        await b.poll()
        await b.poll(ORDER_AUDIT)
        as_of = (await cursor_of(b)).part_as_of
        assert as_of == (await b.cursor()).newest_as_of
        b.sandbox.faults.replace([FaultRule("status", code=503)])
        assert (await b.poll()).outcome == "failed"
        run = await b.poll(ORDER_AUDIT)
        assert run.usage.requests == 0
        cursor = await cursor_of(b)
        assert cursor.part_as_of == as_of
        verdict = judge(cursor, b.services.clock.now() + 162)
        assert verdict.health is Health.DEGRADED
        assert "records that the audit logs belong to were last read" in verdict.cause


async def test_logs_are_no_fresher_than_one_that_cannot_be_read(bench: BenchMaker) -> None:
    """A log that is due and refused holds back the freshness of all, until it is read."""
    async with bench(intervals=BOTH, attempts=1) as b:
        await b.poll()
        await b.poll(ORDER_AUDIT)
        before = (await cursor_of(b)).part_as_of
        b.sandbox.store.change(2)
        await b.poll()
        b.sandbox.faults.replace([FaultRule("status", operation="orders.audit_logs", times=1, code=500)])
        await b.poll(ORDER_AUDIT)
        await b.poll()
        await b.poll(ORDER_AUDIT)
        cursor = await cursor_of(b)
        assert (cursor.part_as_of, cursor.unread_since) == (before, before)
        assert "failed to read some audit logs" in judge(cursor, b.services.clock.now() + 200).cause
        key = b.account.keys.refresh_queue("order_audit")
        for member in await answer(b.redis.zrange(key, 0, -1)):
            await answer(b.redis.zadd(key, {member: 1.0}))
        await b.poll(ORDER_AUDIT)
        cursor = await cursor_of(b)
        assert (cursor.part_as_of > before, cursor.unread_since) == (True, 0.0)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("7:00ff", ScanPosition(7, "00ff")),
        ("", ScanPosition()),
        ("x:1", ScanPosition()),
        ("1:zz", ScanPosition()),
    ],
)
def test_positions(text: str, position: ScanPosition) -> None:
    """What another hand has written is the beginning."""
    assert parse_position(text) == position
    assert parse_position(text_of(position)) == position


def test_shares() -> None:
    """Between none and all of the buckets."""
    assert [share_done(text, 8) for text in ("", "0:", "4:aa", "9:", BACKLOG_DONE)] == [
        None,
        0.0,
        0.5,
        1.0,
        1.0,
    ]
