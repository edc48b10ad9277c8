"""The first full scans: which records existed before them, however they are interrupted and however the list moves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from tests.support.campaign import settle, worker_at
from tests.support.faulty_gateway import Liar, MovedClock, Query, order, orders, watching
from tests.support.gateway import Gateway, Judge, Serving
from tests.support.polling import after_pages
from worker.capture.causes import Cause
from worker.capture.gate import NOT_PROVEN
from worker.capture.health import Health, Verdict
from worker.capture.health import judge as judge_health
from worker.capture.registry import ORDERS
from worker.capture.state.commit import Commit, Packed
from worker.capture.state.run import Outcome
from worker.capture.state.store import StateStore

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("direction", ["modified", "-modified", "-created"])
@pytest.mark.parametrize("total", ["totalCount", None])
@pytest.mark.parametrize("pages", [11, 1000])
async def test_old_orders_are_snapshots(
    redis_url: str, direction: str, total: str | None, pages: int
) -> None:
    """The list moves with every page, and the first reads are interrupted, or not (1000)."""
    serving = Serving(total=total)
    serving.order = direction  # type: ignore[assignment]
    with Gateway(orders=400, serving=serving) as gateway, Judge(gateway, redis_url) as judge:
        history, chance = gateway.history, Random(5)
        old = set(history.ids("orders"))

        def move(_kind: str, _page: int) -> None:
            history.change("orders", [chance.choice(history.ids("orders"))])
            if not chance.randrange(4):
                history.create("orders")
            if not chance.randrange(15):
                history.delete("orders", history.ids("orders")[:1])

        async with worker_at(gateway, redis_url, page_size=20) as worker:
            serving.before_page = move
            for _ in range(3):
                await worker.poll(stop=after_pages(pages))
                worker.clock.offset += 60
            serving.before_page = None
            await settle(worker, judge)
            history.create("orders", 3)
            run = await worker.poll(complete=True)
            assert (run.created, run.snapshot) == (3, 0)
        assert judge.verdict().wrong_first == []
        words = Counter(
            each.action for each in judge.told["orders"] if each.subject in old and each.version == 1
        )
        assert set(words) == {"snapshot"}


async def test_new_orders_of_a_slow_clock_are_created(redis_url: str) -> None:
    """A source whose times are an hour behind, or of another zone: what is new since the first scan is no snapshot."""
    liar = Liar(records=orders(40))
    async with watching(liar, redis_url, page_size=10) as watch:
        await watch.poll()
        liar.add(3)  # ten days ago, but after all others
        run = await watch.poll()
        assert (run.created, run.snapshot) == (3, 0)


async def test_records_without_a_creation_time(redis_url: str) -> None:
    """After a scan that was resumed, without a total, they are snapshots until one is evidence that all are known."""
    liar = Liar(records=[{**each, "createdAt": None} for each in orders(40)], total=False)

    def more(watch_count: int) -> None:
        liar.records += [{**order(100 + watch_count, 0), "createdAt": None}]

    async with watching(liar, redis_url, page_size=10) as watch:
        store = StateStore(watch.place.redis, watch.account.keys, ORDERS)
        await watch.poll(stop=after_pages(2))
        assert (await watch.poll()).outcome is Outcome.PARTIAL
        assert (await store.load_cursor()).unclean_scans == 1
        more(1)
        run = await watch.poll()
        assert (run.created, run.snapshot) == (0, 1)
        assert (await store.load_cursor()).unclean_scans == 0
        more(2)
        run = await watch.poll()
        assert (run.created, run.snapshot) == (1, 0)


def once_before(page: int, act: Callable[[], object]) -> Callable[[str, int], None]:
    """For `Serving.before_page`: something that happens once, before that page is served."""
    left = [act]

    def happen(_kind: str, number: int) -> None:
        if number == page and left:
            left.pop()()

    return happen


@pytest.mark.parametrize("interrupted", [False, True])
async def test_an_order_that_slips_by_is_missed_by_no_complete_scan(
    redis_url: str, *, interrupted: bool
) -> None:
    """Nobody knows it, so it cannot be read by its id: the scan says so, and the list is read again at once."""
    serving = Serving(order="modified")
    with Gateway(orders=32, serving=serving) as gateway, Judge(gateway, redis_url) as judge:
        async with worker_at(gateway, redis_url, page_size=5, max_concurrency=1) as worker:
            ids = gateway.history.ids("orders")
            serving.before_page = once_before(5, lambda: gateway.history.change("orders", ids[:1]))
            if interrupted:
                assert (await worker.poll(stop=after_pages(2))).outcome is Outcome.STOPPED
            run, cursor = await worker.poll(), await worker.cursor()
            assert (run.outcome, run.covered, run.freshness) == ("partial", "none", None)
            assert (run.error_code, run.error) == ("unproven", NOT_PROVEN)
            assert judge_health(cursor, worker.clock.now()) == Verdict(
                Health.STARTING, NOT_PROVEN, Cause.UNPROVEN_SCAN
            )
            assert (len(judge.missed()), cursor.fresh_as_of) == (1, 0)
            assert cursor.due_at <= worker.clock.now()
            (_, record) = (await worker.place.redis.xrevrange(worker.account.keys.runs, count=1))[0]
            assert NOT_PROVEN in str(record)
            run = await worker.poll()
            assert (run.outcome, run.snapshot, run.created) == ("complete", 1, 0)
            assert judge.missed() == []


@pytest.mark.parametrize("dates", [True, False])
@pytest.mark.parametrize("ahead", [-7200.0, -30.0, 0.5, 30.0, 7200.0])
async def test_another_clock_hides_no_move(redis_url: str, ahead: float, *, dates: bool) -> None:
    """The clock of this host differs from that of the gateway, which may not say its time, and gives no total."""
    serving = Serving(order="modified", total=None, dates=dates)
    with Gateway(orders=32, serving=serving) as gateway, Judge(gateway, redis_url) as judge:
        clock = MovedClock(ahead)
        async with worker_at(gateway, redis_url, page_size=5, max_concurrency=1, clock=clock) as worker:
            ids = gateway.history.ids("orders")
            serving.before_page = once_before(5, lambda: gateway.history.change("orders", ids[:1]))
            for new in (32 - 1, 1):  # one slips by
                run = await worker.poll()
                assert run.snapshot + run.created == new
                assert (run.outcome is Outcome.COMPLETE) <= (judge.missed() == [])
            for _ in range(2):
                run = await worker.poll()
            assert (run.outcome, judge.missed()) == (Outcome.COMPLETE, [])


async def test_a_gateway_that_does_not_say_its_time(redis_url: str) -> None:
    """Any change may be one of now, so the first scan proves nothing; the second one finds none, and is believed."""
    with Gateway(orders=32, serving=Serving(dates=False)) as gateway:
        async with worker_at(gateway, redis_url, page_size=5) as worker:
            runs = [await worker.poll() for _ in range(2)]
            assert [run.outcome.value for run in runs] == ["partial", "complete"]


@pytest.mark.parametrize("order", ["-created", "created"])
async def test_orders_that_only_come_in_repeat_nothing(redis_url: str, order: str) -> None:
    """They repeat known ones, or stand at the end. The total of the first page shows that none is hidden."""
    serving = Serving(order=order)  # type: ignore[arg-type]
    with Gateway(orders=32, serving=serving) as gateway:
        async with worker_at(gateway, redis_url, page_size=5, max_concurrency=1) as worker:
            serving.before_page = lambda _kind, page: page in {2, 4} and gateway.history.create("orders")
            run = await worker.poll()
            assert (run.outcome, run.pages, (await worker.cursor()).unclean_scans) == ("complete", 7, 0)


async def test_a_total_that_always_counts_more_is_not_waited_for(redis_url: str) -> None:
    """It counts orders that are not shown: the third scan that finds nothing is believed."""
    with Gateway(orders=32, serving=Serving(told_total=lambda number: number + 2)) as gateway:
        async with worker_at(gateway, redis_url, page_size=5) as worker:
            runs = [await worker.poll() for _ in range(4)]
            assert [run.outcome.value for run in runs] == ["partial", "partial", "complete", "complete"]


async def test_a_first_scan_without_end_lets_changes_through(redis_url: str) -> None:
    """Each scan finds an order that is new to it: three begin at once, then they wait, and newer changes do not."""
    serving = Serving(total=None, filters=True)
    with Gateway(orders=0, serving=serving) as gateway, Judge(gateway, redis_url) as judge:
        history = gateway.history
        ids = history.create("orders", 32, at=time.time() - 86_400)
        away = set(ids[10:14])
        serving.hidden = lambda content: content["id"] in away
        async with worker_at(
            gateway, redis_url, page_size=5, max_concurrency=1, intervals={"orders": 60.0}
        ) as worker:

            def later(seconds: float) -> None:
                worker.clock.offset += seconds
                history.step_clock(seconds)

            for number in range(4):
                serving.before_page = once_before(2, lambda: history.change("orders", ids[-1:]))
                changed = history.change("orders", ids[:1], externalId=f"before {number}")
                run, cursor = await worker.poll(), await worker.cursor()
                assert (run.outcome, run.plan) == ("partial", "window+sweep" if number else "sweep")
                judge.take()
                assert judge.told["orders"][-1].subject in ids
                assert changed[0] not in judge.missed()
                assert (cursor.due_at <= worker.clock.now()) is (number < 2)
                health = Health.STARTING if number < 2 else Health.DEGRADED
                assert judge_health(cursor, worker.clock.now()) == Verdict(
                    health, NOT_PROVEN, Cause.UNPROVEN_SCAN
                )
                away.pop()
                later(61 if number < 2 else 3601)
            serving.before_page = None
            run, cursor = await worker.poll(), await worker.cursor()
            assert (run.outcome, run.snapshot, cursor.unclean_scans) == ("complete", 1, 0)
            assert judge_health(cursor, worker.clock.now()).health is Health.OK
            assert judge.missed() == []


async def test_pages_are_decided_before_their_turn(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made ready is what is committed; an order that is shown twice meanwhile is looked up again."""
    made, pack = list[int](), StateStore.pack

    def counted(store: StateStore, commit: Commit) -> Packed | None:
        made.append(len(commit.changes))
        return pack(store, commit)

    monkeypatch.setattr(StateStore, "pack", counted)
    liar = Liar(records=orders(200))
    first = dict(liar.records[3])

    def again(path: str, query: Query) -> None:
        if query.get("page") == "12":  # an order of the first page comes once more, with another content
            liar.records[115] = {**first, "status": "Sent"}

    liar.interfere = again
    async with watching(liar, redis_url, page_size=10, max_concurrency=2) as w:
        assert (await w.poll()).records == 200
        assert sum(made) > 50
        told = [event for event in await w.events() if event.subject == first["id"]]
        assert [(event.action, event.version) for event in told] == [("snapshot", 1), ("updated", 2)]
        assert len({event.subject for event in await w.events()}) == 199
