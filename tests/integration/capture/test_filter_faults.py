"""Gateways whose filter by modification lies, fails or goes quiet, and whose clock is another one."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.support.faulty_gateway import (
    DAY,
    FILTER,
    HOUR,
    Liar,
    Narrowing,
    Query,
    Record,
    Reply,
    believed,
    by_creation,
    modified,
    order,
    orders,
    reads_all,
    refused,
    since_modified,
    watching,
)
from worker.capture.probe.registry import FINISH_AFTER
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio


# The filter by modification


async def test_a_filter_that_holds_is_believed(redis_url: str) -> None:
    """The other tests prove something only if an honest filter is used: changes come through it in one request."""
    liar = Liar(records=orders(230), keeps=since_modified)
    async with watching(liar, redis_url) as watch:
        await reads_all(watch)
        assert await believed(watch) == FILTER
        liar.change(10)
        asked = len(liar.asked)
        await reads_all(watch, plan="window")
        assert len(liar.asked) == asked + 1


def by_change_alone(record: Record, since: int) -> bool:
    return record["updatedAt"] is not None and modified(record) >= since


def behind_the_day(record: Record, since: int) -> bool:
    return modified(record) // DAY > since // DAY


def from_the_day(record: Record, since: int) -> bool:
    return modified(record) // DAY >= since // DAY


def in_western_time(record: Record, since: int) -> bool:
    return modified(record) >= since + 5 * HOUR


def in_eastern_time(record: Record, since: int) -> bool:
    return modified(record) >= since - 5 * HOUR


LATE = orders(230, after=3 * DAY)

FILTERS: dict[str, tuple[Narrowing, dict[str, Any]]] = {
    "by creation": (by_creation, {}),
    "by creation, newest first": (by_creation, {"newest_first": True}),
    "leaves nulls out": (by_change_alone, {}),
    "leaves nulls out, newest first, a cap": (by_change_alone, {"newest_first": True, "cap": 50}),
    "leaves the day out": (behind_the_day, {}),
    "leaves the day out, changed days later": (behind_the_day, {"records": LATE}),
    "knows whole days": (from_the_day, {}),
    "takes the time for local, west": (in_western_time, {}),
    "takes the time for local, west, changed days later": (in_western_time, {"records": LATE}),
    "takes the time for local, east": (in_eastern_time, {}),
    "looks at a page at a time": (since_modified, {"after_paging": True}),
    "does not reduce the total": (since_modified, {"told": lambda _: 230}),
    "narrows the total to none or not at all": (since_modified, {"told": lambda count: count and 230}),
}


@pytest.mark.parametrize("narrowing", FILTERS)
async def test_a_filter_that_leaves_out_changes(redis_url: str, narrowing: str) -> None:
    """A filter of another meaning is not used, so that neither a change of an old order nor a new one is missed."""
    keeps, lies = FILTERS[narrowing]
    liar = Liar(**{"records": orders(230), "keeps": keeps, **copy.deepcopy(lies)})
    async with watching(liar, redis_url) as watch:
        await reads_all(watch)
        assert await believed(watch) is None
        liar.change(10)
        liar.change(100)
        liar.add(1)
        await reads_all(watch)
        await reads_all(watch)


@pytest.mark.parametrize(
    "records", [orders(230)[1::3], orders(230)[0::3]], ids=["never changed", "all changed"]
)
async def test_a_filter_without_a_witness_is_not_believed(redis_url: str, records: list[Record]) -> None:
    """Without an order that was changed, and one that never was, a filter cannot show what it means."""
    async with watching(Liar(records=records, keeps=since_modified), redis_url) as watch:
        await reads_all(watch)
        found = await watch.found()
        assert found is not None
        assert (found.since, found.filtering.supported) == (None, None)


async def test_a_filter_that_comes_to_mean_something_else_is_withdrawn(
    redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change that windows have passed by and the next complete read finds speaks against the filter."""
    logs.configure("json", "info")
    liar = Liar(records=orders(230), keeps=since_modified)
    async with watching(liar, redis_url) as watch:
        await reads_all(watch)
        liar.keeps = by_creation
        liar.change(10)
        watch.clock.offset += 300
        liar.records.append(order(900, int(watch.clock.now() * 1000)))
        assert (await watch.poll()).published == 1
        assert await watch.missing() == ["o00010"]
        watch.clock.offset += HOUR / 1000
        await reads_all(watch, plan="window+sweep")
        assert await believed(watch) is None
        liar.change(20)
        await reads_all(watch)
    assert '"event": "capability_withdrawn"' in capsys.readouterr().err


QUIET: dict[str, tuple[dict[str, Any], Narrowing]] = {
    "later": ({}, lambda _record, _since: False),
    "looks at a page at a time, no total": (
        {"after_paging": True, "cap": 20, "total": False},
        since_modified,
    ),
}


@pytest.mark.parametrize("quiet", QUIET)
async def test_what_a_quiet_filter_hides_is_read_within_the_hour(redis_url: str, quiet: str) -> None:
    """A filter that gives nothing cannot hide a change for longer than until the next complete read."""
    lies, keeps = QUIET[quiet]
    liar = Liar(records=orders(230), keeps=since_modified, **lies)
    async with watching(liar, redis_url) as watch:
        await reads_all(watch)
        assert await believed(watch) == FILTER
        liar.keeps = keeps
        liar.change(100)
        assert (await watch.poll()).published == 0
        watch.clock.offset += HOUR / 1000 + 1
        assert (await watch.poll()).outcome == "complete"
        assert await watch.missing() == []


@pytest.mark.parametrize("quiet", QUIET)
async def test_a_filter_that_goes_quiet_is_withdrawn(
    redis_url: str, capsys: pytest.CaptureFixture[str], quiet: str
) -> None:
    """The complete read that finds what a filter has hidden puts an end to its use."""
    logs.configure("json", "info")
    lies, keeps = QUIET[quiet]
    liar = Liar(records=orders(230), keeps=since_modified, **lies)
    async with watching(liar, redis_url) as watch:
        await reads_all(watch)
        assert await believed(watch) == FILTER
        liar.keeps = keeps
        liar.change(100)
        await watch.poll()
        watch.clock.offset += HOUR / 1000 + 1
        await reads_all(watch, plan="window+sweep")
        assert await believed(watch) is None
        liar.change(110)
        await reads_all(watch)
    assert '"event": "capability_withdrawn"' in capsys.readouterr().err


def null_list(_path: str, query: Query) -> Reply | None:
    return (200, {"orders": None, "total": 230}) if FILTER in query else None


def no_list(_path: str, query: Query) -> Reply | None:
    return (200, {"message": "made-up trouble"}) if FILTER in query else None


def no_json(_path: str, query: Query) -> Reply | None:
    return (200, b"<html></html>") if FILTER in query else None


def error_500(_path: str, query: Query) -> Reply | None:
    return refused(500) if FILTER in query else None


def error_500_later(_path: str, query: Query) -> Reply | None:
    return refused(500) if FILTER in query and query["page"] == "3" else None


TROUBLES = {
    "500": error_500,
    "500 on its third page": error_500_later,
    "null": null_list,
    "no list": no_list,
    "no JSON": no_json,
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_filter_that_fails_does_not_stop_the_polls(redis_url: str, trouble: str) -> None:
    """Where the filtered query fails and the list works, the list is read, and the filter looked at again later."""
    liar = Liar(records=orders(230), keeps=since_modified)
    async with watching(liar, redis_url, page_size=50) as watch:
        await reads_all(watch)
        assert await believed(watch) == FILTER
        liar.interfere = TROUBLES[trouble]
        for left in (FILTER, None):  # twice in a row it is more than a gateway that is ill for a moment
            for number in range(160):
                liar.change(number)
            await reads_all(watch, plan="window+sweep")
            assert await believed(watch) == left
        liar.change(7, status="Cancelled")
        await reads_all(watch)
        liar.interfere = None
        watch.clock.offset += FINISH_AFTER + 1
        await reads_all(watch, plan="window")
        assert await believed(watch) == FILTER


async def test_a_gateway_that_is_ill_for_a_moment_keeps_its_filter(redis_url: str) -> None:
    """A failure that has passed when everything is read says nothing of the filter, however often it comes."""
    liar = Liar(records=orders(230), keeps=since_modified)
    async with watching(liar, redis_url) as watch:
        await reads_all(watch)
        for number, trouble in enumerate((error_500, no_json, error_500)):
            liar.interfere = trouble
            liar.change(number)
            await reads_all(watch, plan="window+sweep")
            liar.interfere = None
            liar.change(number)
            await reads_all(watch, plan="window")
        assert await believed(watch) == FILTER


# Time


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_an_hour_off(redis_url: str, hours: int) -> None:
    """What is new is told by the times of the server alone: a worker whose clock differs from it misses nothing."""
    liar = Liar(records=orders(230), keeps=since_modified)
    async with watching(liar, redis_url) as watch:
        watch.clock.offset = hours * HOUR / 1000
        await reads_all(watch)
        for number in (10, 20, 30):
            liar.change(number)
            await reads_all(watch, plan="window")


@pytest.mark.parametrize("hours", [0, 1])
@pytest.mark.parametrize("year", [2099, 9999])
async def test_a_record_from_the_future(redis_url: str, year: int, hours: int) -> None:
    """One absurd time neither carries the mark beyond what was read, by whichever clock, nor spoils the filter."""
    liar = Liar(records=[*orders(230), {**order(900, 0), "createdAt": f"{year}-01-01T00:00:00Z"}])
    liar.keeps = since_modified
    async with watching(liar, redis_url) as watch:
        watch.clock.offset = hours * HOUR / 1000
        await watch.poll()  # it might have changed during the scan, so a second one has to agree
        await reads_all(watch, plan="window+sweep")
        assert await believed(watch) == FILTER
        for number in (10, 20):
            liar.change(number)
            await reads_all(watch, plan="window")
