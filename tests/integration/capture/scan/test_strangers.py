"""Pages that show no known record: a burst of new ones, or the list of another account."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.faulty_gateway import (
    LIST_PATH,
    Liar,
    Query,
    Record,
    Reply,
    Watch,
    orders,
    since_modified,
    watching,
)
from worker.capture.health import Health, judge
from worker.capture.registry import ORDERS
from worker.capture.scan.withheld import SAMPLED, with_sample
from worker.capture.state.run import Outcome
from worker.capture.state.store import StateStore
from worker.redis.connections import answer

pytestmark = pytest.mark.anyio


async def actions(w: Watch) -> Counter[str]:
    return Counter(event.action for event in await w.events())


async def health(w: Watch) -> Health:
    cursor = await StateStore(w.place.redis, w.account.keys, ORDERS).load_cursor()
    return judge(cursor, w.clock.now()).health


def of_another(records: list[Record]) -> list[Record]:
    """As many orders of another account."""
    return [{**record, "id": f"o9{record['id'][2:]}"} for record in records]


def no_reads_by_id(path: str, _: Query) -> Reply | None:
    return (405, {"message": "no reads by id"}) if path.startswith(f"{LIST_PATH}/") else None


async def test_a_list_that_becomes_that_of_another_account(redis_url: str) -> None:
    """From its second page on, and so do the reads by id: of the others nothing is published."""
    ours = orders(60)
    liar = Liar(records=ours)

    def swap_from_the_second_page(path: str, query: Query) -> Reply | None:
        if path == LIST_PATH and query.get("page") == "2":
            liar.records = of_another(ours)
        return None

    async with watching(liar, redis_url, page_size=20) as w:
        await w.poll()
        before = await actions(w)
        liar.interfere = swap_from_the_second_page
        assert (await w.poll()).created == 0
        liar.interfere, liar.records = None, ours
        assert (await w.poll()).outcome == "complete"
        assert await actions(w) == before


@pytest.mark.parametrize("by_id", ["ours", "theirs", "none"])
@pytest.mark.parametrize("filtered", [True, False])
async def test_the_list_of_another_account(redis_url: str, by_id: str, *, filtered: bool) -> None:
    """For one poll, in which the reads by id are those of this account, or of the other, or there are none."""
    ours = orders(500)
    theirs = of_another(ours)
    liar = Liar(records=ours, keeps=since_modified if filtered else None)
    if by_id == "none":
        liar.interfere = no_reads_by_id
    async with watching(liar, redis_url) as w:
        await w.poll()
        now = w.clock.now()
        if by_id == "ours":

            def swap_lists(path: str, query: Query) -> Reply | None:
                if path != LIST_PATH:
                    return None
                liar.records = theirs
                try:
                    return liar._page(query)
                finally:
                    liar.records = ours

            liar.interfere = swap_lists
        else:
            liar.records = theirs
        w.clock.offset += 20
        run = await w.poll(complete=True)
        assert (run.outcome, run.created) == (Outcome.SUSPICIOUS, 0)
        assert "500 records were not published: none of them is known" in run.error
        assert await health(w) is Health.DEGRADED
        liar.records, liar.interfere = ours, no_reads_by_id if by_id == "none" else None
        for _ in range(3):
            w.clock.offset += 20
            await w.poll()
        assert (await actions(w), await health(w)) == ({"snapshot": 500}, Health.OK)
        assert w.clock.now() - now < 100


async def test_one_page_of_another_account(redis_url: str) -> None:
    """The other pages are published."""
    liar = Liar(records=orders(500))
    async with watching(liar, redis_url) as w:
        await w.poll()
        theirs = of_another(liar.records[200:300])
        liar.change(7)

        def swap(path: str, query: Query) -> Reply | None:
            return (
                (200, {"orders": theirs, "total": 500})
                if path == LIST_PATH and query["page"] == "3"
                else None
            )

        liar.interfere = swap
        w.clock.offset += 20
        run = await w.poll()
        assert (run.outcome, run.updated, run.created) == (Outcome.SUSPICIOUS, 1, 0)
        liar.interfere = None
        w.clock.offset += 20
        assert (await w.poll()).outcome is Outcome.COMPLETE
        assert await actions(w) == {"snapshot": 500, "updated": 1}


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("filtered", [True, False])
async def test_a_burst_of_new_orders_is_published_at_once(
    redis_url: str, *, newest_first: bool, filtered: bool
) -> None:
    """Pages of new orders alone cost a read by id each."""
    liar = Liar(records=orders(300), newest_first=newest_first, keeps=since_modified if filtered else None)
    async with watching(liar, redis_url) as w:
        await w.poll()
        liar.add(250)
        w.clock.offset += 20
        run = await w.poll()
        assert (run.outcome, run.created, await w.missing()) == (Outcome.COMPLETE, 250, [])


@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_burst_where_no_record_can_be_read_by_id(redis_url: str, *, newest_first: bool) -> None:
    """It is published when the next read agrees: the known records are still listed."""
    liar = Liar(records=orders(300), newest_first=newest_first, interfere=no_reads_by_id)
    async with watching(liar, redis_url) as w:
        await w.poll()
        liar.add(250)
        w.clock.offset += 20
        assert (await w.poll()).outcome is Outcome.SUSPICIOUS
        w.clock.offset += 20
        run = await w.poll()
        assert (run.outcome, await w.missing()) == (Outcome.COMPLETE, [])
        assert await actions(w) == {"snapshot": 300, "created": 250}


@pytest.mark.parametrize("by_id", ["for a moment", "never"])
async def test_the_list_of_another_account_after_a_burst_that_was_withheld(
    redis_url: str, by_id: str
) -> None:
    """That the last read has withheld our own records, since no read by id answered, does not speak for theirs."""
    liar = Liar(
        records=orders(300), newest_first=True, interfere=no_reads_by_id if by_id == "never" else None
    )
    async with watching(liar, redis_url) as w:
        await w.poll()
        liar.add(250)
        liar.interfere = no_reads_by_id
        w.clock.offset += 20
        assert (await w.poll()).outcome is Outcome.SUSPICIOUS
        ours, liar.records = liar.records, of_another(liar.records)
        liar.interfere = no_reads_by_id if by_id == "never" else None
        w.clock.offset += 20
        run = await w.poll(complete=True)
        assert (run.outcome, run.created) == (Outcome.SUSPICIOUS, 0)
        liar.records = ours
        for _ in range(3):
            w.clock.offset += 20
            await w.poll(complete=True)
        assert await actions(w) == {"snapshot": 300, "created": 250}


def test_a_sample_of_what_is_withheld() -> None:
    """It does not grow, and is the same in whatever order the pages come."""
    pages = [
        [f"{number:05}".encode() for number in range(start, start + 100)] for start in range(0, 1000, 100)
    ]
    samples = set()
    for order in (pages, pages[::-1], [[each for page in pages for each in page]]):
        sample = ""
        for page in order:
            sample = with_sample(sample, page)
        samples.add(sample)
    (sample,) = samples
    assert len(sample.split()) == SAMPLED


async def test_a_person_accepts_that_all_records_are_others(redis_url: str) -> None:
    """Where the vendor has given every order another id, for example."""
    liar = Liar(records=orders(300))
    async with watching(liar, redis_url) as w:
        await w.poll()
        liar.records = of_another(liar.records)
        for _ in range(2):
            w.clock.offset += 20
            assert (await w.poll()).outcome is Outcome.SUSPICIOUS
        await answer(w.place.redis.hset(w.account.keys.accepted, "orders", "1"))
        w.clock.offset += 20
        await w.poll()
        assert {event.subject for event in await w.events()} >= {record["id"] for record in liar.records}
