"""Full scans that are interrupted: what is resumed, what starts over, and from when on it is complete."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.faulty_gateway import Liar, Watch, orders, watching
from tests.support.polling import after_pages
from worker.capture.registry import ORDERS
from worker.capture.scan.resumption import MIXED_PARTS
from worker.capture.state.cursor import Cursor
from worker.capture.state.run import Outcome
from worker.capture.state.store import StateStore
from worker.redis.connections import answer

pytestmark = pytest.mark.anyio


async def cursor(watch: Watch) -> Cursor:
    return await StateStore(watch.place.redis, watch.account.keys, ORDERS).load_cursor()


async def test_a_scan_that_waited_starts_over(redis_url: str) -> None:
    """Killed at page 11 of 16; a change before that page is read by the next poll, not only by the one after."""
    liar = Liar(records=orders(80))
    async with watching(liar, redis_url, page_size=5) as watch:
        await watch.poll()
        liar.records[-1]["status"] = liar.records[0]["status"] = "Changed"
        await watch.poll(stop=after_pages(11))
        liar.records[3]["status"] = "Changed"
        watch.clock.offset += 60
        run = await watch.poll()
        assert (run.outcome, run.records, run.scan_age) == (Outcome.COMPLETE, 80, None)
        assert await watch.missing() == []


async def test_a_first_scan_that_waited_goes_on(redis_url: str) -> None:
    """Many that wait for each other's places would read all twice. What changed meanwhile is read by the next poll."""
    liar = Liar(records=orders(80))
    async with watching(liar, redis_url, page_size=5) as watch:
        started = watch.clock.now()
        await watch.poll(stop=after_pages(11))
        liar.records[3]["status"] = "Changed"
        watch.clock.offset += 3600
        run = await watch.poll()
        assert (run.outcome, run.pages) == (Outcome.COMPLETE, 6)  # the last one is empty
        assert started <= (await cursor(watch)).fresh_as_of < started + 100
        await watch.poll()
        assert await watch.missing() == []


async def test_a_scan_that_goes_on_says_its_age_and_is_complete_from_its_start(redis_url: str) -> None:
    """What its first part may have missed is no later than its start, which is what it claims."""
    liar = Liar(records=orders(80))
    async with watching(liar, redis_url, page_size=5) as watch:
        context = watch.account.poller.context
        context.account = msgspec.structs.replace(context.account, intervals={"orders": 300.0})
        started = watch.clock.now()
        await watch.poll(stop=after_pages(11))
        watch.clock.offset += 200
        run = await watch.poll()
        assert (run.outcome, run.pages) == (Outcome.COMPLETE, 6)  # the last one is empty
        assert run.scan_age is not None
        assert 200 <= run.scan_age < 300
        assert started <= (await cursor(watch)).fresh_as_of < started + 100


async def test_all_of_the_list_starts_over(redis_url: str) -> None:
    """Who asks for all of the list is not served with the first part of somebody else's scan."""
    liar = Liar(records=orders(80))
    async with watching(liar, redis_url, page_size=5) as watch:
        await watch.poll()
        liar.records[0]["status"] = "Changed"
        await watch.poll(stop=after_pages(11))
        liar.records[3]["status"] = "Changed"
        run = await watch.poll(complete=True)
        assert (run.outcome, run.records) == (Outcome.COMPLETE, 80)
        assert await watch.missing() == []


async def test_a_list_that_is_always_interrupted_ends(redis_url: str) -> None:
    """Two pages at a time, with waits that are longer than all the rest: restarted once, then read to its end."""
    liar = Liar(records=orders(80))
    async with watching(liar, redis_url, page_size=5) as watch:
        outcomes = []
        for _ in range(12):
            outcomes.append((await watch.poll(stop=after_pages(2))).outcome)
            watch.clock.offset += 3600
        assert set(outcomes) == {Outcome.STOPPED, Outcome.COMPLETE}
        assert (await cursor(watch)).swept_at > 0
        assert await watch.missing() == []


async def test_two_workers_with_other_contracts(redis_url: str) -> None:
    """A scan of which each reads a part ends, and does not count as complete; one that has its own settings does."""
    liar = Liar(records=orders(80))
    async with (
        watching(liar, redis_url, page_size=5) as one,
        watching(liar, redis_url, page_size=5) as other,
    ):
        context = other.account.poller.context
        context.account = msgspec.structs.replace(context.account, ignore_fields={"orders": ("tags",)})
        await one.poll(stop=after_pages(2))
        await other.poll(stop=after_pages(2))
        run = await one.poll()
        assert (run.outcome, run.error) == (Outcome.SUSPICIOUS, MIXED_PARTS)
        assert (await cursor(one)).fresh_as_of == 0
        assert (await one.poll()).outcome is Outcome.COMPLETE


async def test_a_kill_while_it_starts_over_forgets_nothing_that_was_seen(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the bitmap is cleared, and after: no record counts as missing."""
    liar = Liar(records=orders(80))

    async def killed(_: StateStore) -> None:
        raise KeyboardInterrupt

    async with watching(liar, redis_url, page_size=5) as watch:
        await watch.poll()
        liar.records[50]["status"] = "Changed"
        await watch.poll(stop=after_pages(11))
        with monkeypatch.context() as patch:
            patch.setattr(StateStore, "begin_sweep", killed)
            with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)):
                await watch.poll(complete=True)
        await answer(watch.place.redis.delete(watch.account.keys.scan_bitmap("orders")))
        run = await watch.poll()
        assert (run.outcome, run.missing) == (Outcome.COMPLETE, 0)
