"""Audit logs that are larger than is read: what can be had is published, and what cannot is said."""

from __future__ import annotations

import json

import httpx
import pytest
import structlog

from tests.integration.capture.refresh.test_log_pages import (
    ENTRIES,
    ORDER_AUDIT,
    RECORDS,
    entry,
    judged,
    proof,
    serving,
    told,
    waiting,
)
from tests.support.faulty_gateway import Liar, Watch, orders, watching
from tests.support.page import page_of
from worker.admin.status import StatusCollector
from worker.admin.verdict import advice
from worker.app import announce
from worker.capture.health import Health
from worker.capture.reconcile.progress import CUT, Coverage
from worker.capture.scan import nested
from worker.config.settings import Settings
from worker.errors import ResponseTooLarge, Unaddressable
from worker.ordermesh.http import pages
from worker.redis.connections import answer
from worker.telemetry.status_metrics import samples

pytestmark = pytest.mark.anyio


async def make_due(watch: Watch) -> None:
    """The logs that wait for another try are read at once."""
    key = watch.account.keys.refresh_queue("order_audit")
    waiting = await answer(watch.place.redis.zrange(key, 0, -1))
    await answer(watch.place.redis.zadd(key, dict.fromkeys(waiting, 1)))


async def test_an_entry_that_is_too_long_is_withheld_alone(redis_url: str) -> None:
    """The event says that there is an entry and how long one may be; the entries beside it are published as served."""
    liar = Liar(records=orders(1), logs={"o00000": [entry("o00000", number) for number in range(3)]})
    liar.logs["o00000"][1]["note"] = "x" * 2_000
    async with watching(liar, redis_url, max_record_bytes=1_024) as watch:
        await watch.poll()
        for _ in range(2):  # read again, it is no new entry
            assert (await watch.poll(ORDER_AUDIT)).outcome == "complete"
            first, long, last = [json.loads(event.data) for event in await watch.events("order_audit")]
            assert [first, last] == [liar.logs["o00000"][0], liar.logs["o00000"][2]]
            assert long == {"withheld": "the entry has more than the 1024 bytes that are read"}
            liar.change(0)
            await watch.poll()


@pytest.mark.parametrize(
    ("limit", "most", "why"),
    [("MAX_BYTES", 6_000, "it has more than 6000 bytes"), ("MAX_PAGES", 2, "it has more than 2 pages")],
)
async def test_a_log_that_is_too_large_is_cut(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, limit: str, most: int, why: str
) -> None:
    """The pages up to the limit are published, and nothing is said to be complete."""
    monkeypatch.setattr(nested, limit, most)
    async with serving(redis_url, largest=25, size=25) as watch:
        assert (await watch.poll()).outcome == "complete"
        run = await watch.poll(ORDER_AUDIT)
        assert run.outcome == "suspicious"
        assert why in run.error
        shown = {len(ids) for ids in (await told(watch)).values()}
        assert shown == {50 if limit == "MAX_PAGES" else 75}
        assert len(await waiting(watch)) == RECORDS
        assert (await judged(watch, "order_audit"))[0] is Health.DEGRADED
        gaps = await Coverage(watch.place.redis, watch.account.keys, "orders").gaps()
        assert {gap.why for gap in gaps.values()} <= {CUT}


async def test_a_page_of_a_log_with_too_many_entries_is_not_read(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails alone, with an error that names the limit, and stays due; the logs of other orders are published."""
    liar = Liar(records=orders(3), logs={one["id"]: [entry(one["id"], 0)] for one in orders(3)})
    liar.logs["o00001"] = [entry("o00001", number) for number in range(ENTRIES)]
    async with watching(liar, redis_url) as watch:
        await watch.poll()
        with monkeypatch.context() as limited, structlog.testing.capture_logs() as lines:
            limited.setattr(pages, "MAX_RECORDS", ENTRIES - 1)
            await watch.poll(ORDER_AUDIT)
        assert {event.subject for event in await watch.events("order_audit")} == {"o00000", "o00002"}
        (failed,) = [line for line in lines if line["event"] == "follow_up_failed"]
        assert (failed["member"], failed["error_code"]) == ("of:o00001", ResponseTooLarge.code)
        assert failed["error"] == "orders.audit_logs: the response has more than 119 records"
        await make_due(watch)
        await watch.poll(ORDER_AUDIT)
        assert len((await told(watch))["o00001"]) == ENTRIES


@pytest.mark.parametrize("odd", ["..;", ".", "..", ";a", "a" * 2_001])
async def test_a_log_at_no_possible_path_is_not_asked_for(redis_url: str, odd: str) -> None:
    """The order is published; an error says why its log cannot be read, which stays due; others are published."""
    liar = Liar(records=orders(3), logs={one["id"]: [entry(one["id"], 0)] for one in orders(3)})
    liar.records[1]["id"] = odd
    async with watching(liar, redis_url) as watch:
        await watch.poll()
        assert {event.subject for event in await watch.events()} == {"o00000", odd, "o00002"}
        with structlog.testing.capture_logs() as lines:
            assert (await watch.poll(ORDER_AUDIT)).usage.requests == 2
        assert {event.subject for event in await watch.events("order_audit")} == {"o00000", "o00002"}
        (failed,) = [line for line in lines if line["event"] == "follow_up_failed"]
        assert failed["error_code"] == Unaddressable.code
        assert failed["error"].endswith(f"{odd[:100]!r} cannot be used as orderId in a path")
        due = await answer(watch.place.redis.zrange(watch.account.keys.refresh_queue("order_audit"), 0, -1))
        assert [member.decode() for member in due] == [failed["member"]]


@pytest.mark.parametrize("cause", ["unaddressable", "too many entries"])
async def test_what_is_said_of_a_log_that_is_never_read(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    """After minutes row, page and metrics name it, since when, and the refusal; logs of others are published."""
    liar = Liar(records=orders(3), logs={one["id"]: [entry(one["id"], 0)] for one in orders(3)})
    if cause == "unaddressable":
        liar.records[1]["id"], why = "..;", "'..;' cannot be used as orderId in a path"
    else:
        liar.logs["o00001"] = [entry("o00001", number) for number in range(ENTRIES)]
        monkeypatch.setattr(pages, "MAX_RECORDS", ENTRIES - 1)
        why = "the response has more than 119 records"
    text = "the worker has failed to read some audit logs for 5 min, and tries again; all others are read. The last"
    async with watching(liar, redis_url) as watch:
        await announce(watch.place)
        watch.clock.offset = -300  # five minutes ago, by the clock of Redis
        await watch.poll()
        for _ in range(2):  # as a log of the past, and as one that is due
            await watch.poll(ORDER_AUDIT)
            await make_due(watch)
        watch.clock.offset = 0
        liar.change(0)
        await watch.poll()
        run = await watch.poll(ORDER_AUDIT)
        assert run.outcome == "complete"
        rows = await StatusCollector(watch.place.redis, Settings()).rows()
        row = next(row for row in rows if row["resource"] == "order_audit")
        assert (row["health"], row["cause_code"]) == ("degraded", "unread_logs")
        assert row["cause"].startswith(text)
        assert why in row["cause"]
        assert row["part_s"] >= 300
        assert advice(row, name_account=False) == ["ordersync runs order_audit", "ordersync contract probe"]
        assert ("cause", ("default", "order_audit", "degraded", "unread_logs"), 1) in list(samples(rows))
        async with page_of(redis_url) as served, httpx.AsyncClient(trust_env=False) as browser:
            assert text in (await browser.get(served.url)).text


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("odd", ["..;", "a" * 2_001])
async def test_a_record_at_no_possible_path_ends_no_comparison(redis_url: str, odd: str, place: int) -> None:
    """Nothing can be proven of it, which is said of it alone, also where it is the first that would be asked for."""
    liar = Liar(records=orders(2), logs={one["id"]: [entry(one["id"], 0)] for one in orders(2)})
    liar.records[place]["id"] = odd
    async with watching(liar, redis_url) as watch:
        await watch.poll()
        known = await watch.found()
        assert known is not None
        assert (known.audit.supported, known.single.supported) == (True, True)
        progress = await proof(watch)
        assert (progress.off, progress.error) == ("", "")
        gaps = await Coverage(watch.place.redis, watch.account.keys, "orders").gaps()
        assert gaps[odd].why == Unaddressable.code
        assert len(gaps) == 1
        health, cause = await judged(watch, "orders")
        assert health is Health.DEGRADED
        assert "cannot be proven that every change of 1 record was published" in cause
