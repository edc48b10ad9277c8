"""Known records that a full scan does not show, at a gateway that shares no code with the sandbox.

Each is asked for by id before anything is concluded: deleted, refused, or there while the pages moved.
"""

from __future__ import annotations

from collections import Counter

import pytest
from structlog.testing import capture_logs

from tests.support.faulty_gateway import TOKEN_PATH, Liar, Query, Reply, Watch, modified, orders, watching
from worker.capture.health import Health, Verdict, judge
from worker.capture.registry import ORDERS
from worker.capture.scan.deletions import SAMPLE
from worker.capture.state.cursor import Cursor
from worker.capture.state.run import Outcome
from worker.capture.state.store import StateStore
from worker.redis.connections import answer

pytestmark = pytest.mark.anyio


async def actions(w: Watch) -> Counter[str]:
    return Counter(event.action for event in await w.events())


async def cursor(w: Watch) -> Cursor:
    return await StateStore(w.place.redis, w.account.keys, ORDERS).load_cursor()


async def verdict(w: Watch) -> Verdict:
    return judge(await cursor(w), w.clock.now())


async def pass_time(w: Watch, seconds: float) -> None:
    """Let so much time pass for the worker and for its refresh queue, which goes by the clock of Redis."""
    w.clock.offset += seconds
    key = w.account.keys.refresh_queue("orders")
    for member, due in await answer(w.place.redis.zrange(key, 0, -1, withscores=True)):
        await answer(w.place.redis.zadd(key, {member: due - seconds}))


async def polls(w: Watch, times: int, *, every: float = 20.0) -> None:
    for _ in range(times):
        await pass_time(w, every)
        await w.poll()


@pytest.mark.parametrize("status", [404, 410])
async def test_gone_is_not_found(redis_url: str, status: int) -> None:
    """Some gateways answer 410 for a record that there was: it is deleted as one that there is not."""
    liar = Liar(records=orders(100))
    async with watching(liar, redis_url) as w:
        await w.poll()
        victim = liar.records.pop(7)["id"]

        def refuse(path: str, _: Query) -> Reply | None:
            return (status, {"message": "no such order"}) if victim in path else None

        liar.interfere = refuse
        await polls(w, 20)
        assert (await actions(w))["deleted"] == 1
        assert (await w.events())[-1].subject == victim


async def test_a_shard_that_is_away_for_90_seconds_deletes_nothing(redis_url: str) -> None:
    """It is not listed and answers 404 by id meanwhile: the second answer is waited for, five minutes by default."""
    liar = Liar(records=orders(400))
    async with watching(liar, redis_url) as w:
        await w.poll()
        there = liar.records
        liar.records = there[:5] + there[10:]
        await polls(w, 5)  # 100 s
        liar.records = there
        await polls(w, 20)
        assert await actions(w) == {"snapshot": 400}


async def test_the_time_between_the_two_answers_is_a_setting(redis_url: str) -> None:
    """`ORDERSYNC_POLL__CONFIRM_DELETES`."""
    liar = Liar(records=orders(400))
    async with watching(liar, redis_url, confirm_deletes=60.0) as w:
        await w.poll()
        del liar.records[5:7]
        await polls(w, 3)
        assert (await actions(w))["deleted"] == 0
        await polls(w, 3)
        assert (await actions(w))["deleted"] == 2


@pytest.mark.parametrize(("known", "gone"), [(30, 2), (100, 3), (400, 9)])
async def test_a_few_that_each_answer_404_are_deleted(redis_url: str, known: int, gone: int) -> None:
    """However large their share is: nobody has to accept what OrderMesh says of each of them, twice."""
    async with watching(Liar(records=orders(known)), redis_url) as w:
        await w.poll()
        del w.liar.records[5 : 5 + gone]
        await polls(w, 20)
        assert await actions(w) == {"snapshot": known, "deleted": gone}
        assert (await verdict(w)).health is Health.OK


async def test_too_many_are_counted(redis_url: str) -> None:
    """The verdict names how many they are, though only some have to be asked for to see that they are too many."""
    async with watching(Liar(records=orders(1500)), redis_url) as w:
        await w.poll()
        del w.liar.records[100:700]
        await polls(w, 2)
        assert await actions(w) == {"snapshot": 1500}
        assert "did not find 600 of 1500 known records" in (await verdict(w)).cause
        asked = await StateStore(w.place.redis, w.account.keys, ORDERS).all_absent()
        assert len(asked) == SAMPLE


async def test_a_list_by_modification_that_moves_hides_no_change(redis_url: str) -> None:
    """Old orders that change while it is read move to pages that were read. They are read by id in the same run."""
    liar = Liar(records=orders(500), newest_first=True)
    async with watching(liar, redis_url, page_size=50, max_concurrency=1) as w:
        await w.poll()
        fresh = (await cursor(w)).fresh_as_of

        def change_one(path: str, query: Query) -> Reply | None:
            if path == liar.path and query.get("page") in {"2", "3", "4"}:
                liar.change(int(query["page"]))  # it was on the last page
            return None

        liar.interfere = change_one
        await pass_time(w, 20)
        run = await w.poll()
        assert (run.outcome, run.drift, run.updated, await w.missing()) == (Outcome.PARTIAL, 3, 3, [])
        assert (await cursor(w)).fresh_as_of == fresh
        liar.interfere = None
        assert (await w.poll()).outcome is Outcome.COMPLETE
        assert await actions(w) == {"snapshot": 500, "updated": 3}


async def test_a_list_that_always_moves_is_never_called_complete(redis_url: str) -> None:
    """The contract is probed after the second full scan in a row that missed records, and health says why."""
    liar = Liar(records=orders(500), newest_first=True)
    async with watching(liar, redis_url, page_size=50, max_concurrency=1) as w:
        await w.poll()

        def change_one(path: str, query: Query) -> Reply | None:
            if path == liar.path and query.get("page") == "5":
                oldest = min(range(500), key=lambda number: modified(liar.records[number]))
                liar.change(oldest)
            return None

        liar.interfere = change_one
        with capture_logs() as lines:
            for _ in range(4):
                await pass_time(w, 20)
                run = await w.poll()
                assert (run.outcome, run.drift, await w.missing()) == (Outcome.PARTIAL, 1, [])
        assert [line["event"] for line in lines].count("contract_probed") == 1
        assert "missed known records that are there" in (await verdict(w)).cause


@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("known", [60, 450])
@pytest.mark.parametrize("single", [True, False])
async def test_pages_that_are_counted_from_zero_all_at_once(
    redis_url: str, *, total: bool, known: int, single: bool
) -> None:
    """A deployment of the gateway moves every page by one, so that the first is not read. The probe finds out."""
    liar = Liar(records=orders(known), total=total, newest_first=True)

    def refuse(path: str, _: Query) -> Reply | None:
        return None if single or path == liar.path else (405, {"message": "no reads by id"})

    liar.interfere = lambda path, query: None if path == TOKEN_PATH else refuse(path, query)
    async with watching(liar, redis_url) as w:
        await w.poll()
        await polls(w, 1)
        liar.base = 0
        for _ in range(6):
            liar.add(2)
            await polls(w, 1)
        await polls(w, 1)
        assert await w.missing() == []
        assert await actions(w) == {"snapshot": known, "created": 12}
        assert (await verdict(w)).health is Health.OK


async def test_a_refused_read_by_id_deletes_nothing(redis_url: str) -> None:
    """403 is no answer to whether the record exists: health says so, for as long as it lasts."""
    liar = Liar(records=orders(100))
    async with watching(liar, redis_url) as w:
        await w.poll()
        victim = liar.records.pop(7)
        liar.interfere = lambda path, _: (403, {"message": "no"}) if victim["id"] in path else None
        await polls(w, 40)
        assert await actions(w) == {"snapshot": 100}
        health = await verdict(w)
        assert (health.health, "not known whether it exists" in health.cause) == (Health.DEGRADED, True)
        liar.records.insert(7, victim)
        await polls(w, 2)
        assert (await verdict(w)).health is Health.OK


async def test_accepted_deletions_wait_for_their_second_answer(redis_url: str) -> None:
    """Each full scan until then misses them again, which holds nothing back that was accepted."""
    async with watching(Liar(records=orders(300)), redis_url) as w:
        await w.poll()
        del w.liar.records[100:200]
        await polls(w, 2)
        assert (await cursor(w)).held_back == 100
        del w.liar.records[50:60]
        await answer(w.place.redis.hset(w.account.keys.accepted, "orders", "1"))
        await polls(w, 3)
        assert ((await cursor(w)).held_back, (await cursor(w)).accepted_deletes) == (0, 10)
        await polls(w, 20)
        assert await actions(w) == {"snapshot": 300, "deleted": 110}
        assert ((await cursor(w)).accepted_deletes, (await verdict(w)).health) == (0, Health.OK)
