"""Follow-ups, deletions and audit logs where things go wrong: nothing is lost, and nothing is said to be gone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.reads_by_id import answered, believe
from tests.support.worker import Bench, BenchMaker
from worker.capture.refresh.reader import MAX_UNKNOWN
from worker.capture.registry import AUDIT_LOGS, CATEGORIES, ORDERS, SHIPMENTS
from worker.capture.session import PollSession
from worker.capture.state.commit import Checkpoint, RefreshResult
from worker.capture.state.cursor import CursorUpdate
from worker.capture.state.refresh_queue import RefreshQueue
from worker.capture.state.run import Outcome
from worker.capture.state.store import StateStore
from worker.errors import Forbidden, ServerError
from worker.ordermesh.contract.findings import UNKNOWN, no
from worker.ordermesh.http.reply import Reply
from worker.redis.connections import answer
from worker.sandbox import FaultRule

pytestmark = pytest.mark.anyio

ORDER_AUDIT = AUDIT_LOGS["order_audit"]
BOTH = {"orders": 1.0, "order_audit": 1.0}


async def deleted(b: Bench, name: str = "orders") -> list[str]:
    return [event.subject for event in await b.events(name) if event.action == "deleted"]


async def make_due(b: Bench, name: str, *members: str) -> None:
    await answer(b.redis.zadd(b.account.keys.refresh_queue(name), dict.fromkeys(members, 1.0)))


def hide(b: Bench, monkeypatch: pytest.MonkeyPatch, key: str) -> set[str]:
    """Ids that are put into the set are left out of every page from then on."""
    hidden, read = set[str](), b.account.client.read_page

    async def without(*args: Any, **options: Any) -> bytes:
        body = json.loads(await read(*args, **options))
        body["total"] -= len(hidden)
        body[key] = [each for each in body[key] if each["id"] not in hidden]
        return json.dumps(body).encode()

    monkeypatch.setattr(b.account.client, "read_page", without)
    return hidden


async def test_as_many_as_there_are_go_into_one_commit(bench: BenchMaker) -> None:
    """A large shop may miss ten thousand records in one read: the script that notes them takes them all."""
    async with bench() as b:
        await b.poll()
        many = [f"{at:024x}" for at in range(9_000)]
        session = PollSession(b.account.poller.context, ORDERS, reason="poll")

        async def commit(refresh: RefreshResult) -> None:
            async with session.open():
                assert await session.commit(Checkpoint(refresh=refresh))

        await commit(RefreshResult(absent=dict.fromkeys(many, 0)))
        assert len(await b.store.all_absent()) == len(many)
        await commit(RefreshResult(present=many))
        assert await b.store.all_absent() == {}


async def test_a_path_that_nobody_has_tried_deletes_nothing(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it was never seen that records can be read by id, a 404 says as much of the path as of the record."""
    async with bench() as b:
        await believe(b, "orders", single=UNKNOWN, single_alike=None)
        await b.poll()
        hidden = hide(b, monkeypatch, "orders")
        hidden.add(b.sandbox.store.ids()[7])
        b.sandbox.faults.replace([FaultRule("status", operation="orders.get", code=404)])
        await b.poll()
        for _ in range(3):
            await make_due(b, "orders", *(f"id:{each}" for each in hidden))
            await b.poll(follow_ups_only=True)
        assert await deleted(b) == []


async def test_the_second_answer_is_not_asked_for_at_once(bench: BenchMaker) -> None:
    """Complete reads that follow each other quickly do not bring the confirmation forward."""
    async with bench() as b:
        await b.poll()
        victim = b.sandbox.store.ids()[3]
        b.sandbox.store.delete(victim)
        await b.poll()
        await b.poll(follow_ups_only=True)
        assert await b.store.all_absent() == {victim: 1}
        await b.poll()
        assert (await b.poll(follow_ups_only=True)).usage.requests == 0
        assert await deleted(b) == []
        await answer(b.redis.delete(b.account.keys.refresh_queue("orders")))  # lost, by whatever hand
        await b.poll()
        await b.poll(follow_ups_only=True)
        assert await deleted(b) == [victim]


async def test_in_a_row_means_in_a_row(bench: BenchMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete read that is not believed, and did show the record, stands between the two that did not."""
    async with bench(probe=True, intervals={"categories": 1.0}) as b:
        b.adjust(confirm_deletes=0.0)
        await b.poll(CATEGORIES)
        one, *others = b.sandbox.world.categories.ids()
        hidden = hide(b, monkeypatch, "categories")
        for shown in ({one}, set(others[:3]), {one}):
            hidden.clear()
            hidden |= shown
            assert (await b.poll(CATEGORIES)).outcome is Outcome.PARTIAL  # it may be there: it is read again
        assert await deleted(b, "categories") == []
        await b.poll(CATEGORIES)
        assert await deleted(b, "categories") == [one]


async def test_deletions_are_found_after_a_cursor_was_lost(bench: BenchMaker) -> None:
    """What is counted in it is counted anew: the number of records, and the places that are taken."""
    async with bench(page_size=10) as b:
        await b.poll()
        tracked, places = (await b.cursor()).tracked, (await b.cursor()).places
        await answer(b.redis.delete(b.account.keys.cursor("orders")))
        await b.poll()
        cursor = await b.cursor()
        assert (cursor.tracked, cursor.places) == (tracked, places)
        victim = b.sandbox.store.ids()[3]
        b.sandbox.store.create(1)
        b.sandbox.store.delete(victim)
        assert (await b.poll()).missing == 1
        for _ in range(2):
            await make_due(b, "orders", f"id:{victim}")
            await b.poll(follow_ups_only=True)
        assert await deleted(b) == [victim]


async def test_one_that_was_shown_and_went_hides_no_other(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that is deleted while a complete read is under way does not make up for one that it did not show."""
    async with bench(page_size=10, max_concurrency=1) as b:
        await b.poll()
        first, *_, last = b.sandbox.store.ids()
        hidden = hide(b, monkeypatch, "orders")
        asked: list[int] = []

        def stop() -> bool:
            asked.append(1)
            return len(asked) > 2

        assert (await b.poll(stop=stop)).outcome is Outcome.STOPPED
        b.sandbox.faults.replace([FaultRule("status", operation="orders.get", code=404)])
        await answer(b.redis.hset(b.account.keys.unconfirmed_deletes("orders"), first, 1))
        await make_due(b, "orders", f"id:{first}")
        await b.poll(follow_ups_only=True)
        assert await deleted(b) == [first]
        b.sandbox.faults.replace([])
        hidden.add(last)
        assert (await b.poll()).drift == 1


async def test_a_list_that_has_to_be_read_is_read_after_a_crash(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a follow-up needs a complete read stands in the commit that deals with it."""
    async with bench(probe=True, intervals={"orders": 1.0, "shipments": 1.0}) as b:
        await b.poll(SHIPMENTS)
        await believe(b, "shipments", single=no("withdrawn"))
        await make_due(b, "shipments", f"id:{b.sandbox.world.shipments.ids()[0]}")
        note = PollSession.update

        async def dies(session: PollSession, fields: CursorUpdate, **options: Any) -> None:
            if "swept_at" in fields:
                raise ConnectionError("the worker died here")
            await note(session, fields, **options)

        monkeypatch.setattr(PollSession, "update", dies)
        store = StateStore(b.redis, b.account.keys, SHIPMENTS)
        assert (await store.load_cursor()).swept_at > 0
        await b.poll(SHIPMENTS, follow_ups_only=True)
        assert (await store.load_cursor()).swept_at == 0


async def test_one_log_that_may_not_be_read_holds_up_no_other(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where others may be, a 403 concerns the one record, and is tried again later."""
    async with bench(intervals=BOTH, attempts=1) as b:
        await b.poll()
        secret = b.sandbox.store.ids()[0]

        def refuse(_: Reply) -> Reply:
            raise Forbidden("orders.audit_logs", 403, "not this one")

        answered(b, monkeypatch, "orders.audit_logs", secret, refuse)
        assert (await b.poll(ORDER_AUDIT)).outcome is Outcome.COMPLETE
        assert {event.subject for event in await b.events("order_audit")} == set(b.sandbox.store.ids()) - {
            secret
        }
        assert await RefreshQueue(b.redis, b.account.keys, "order_audit").count() == 1


async def test_a_gateway_that_answers_nothing_is_not_asked_for_all(bench: BenchMaker) -> None:
    """When every log of a batch fails with a 5xx the poll has failed; the rest is not tried before the next one."""
    async with bench(intervals=BOTH, attempts=1) as b:
        await b.poll()
        b.sandbox.store.create(150)
        await b.poll()
        b.sandbox.faults.replace([FaultRule("status", operation="orders.audit_logs", code=503)])
        run = await b.poll(ORDER_AUDIT)
        assert (run.outcome, run.error_code) == (Outcome.FAILED, ServerError.code)
        assert run.usage.requests == 50
        assert await RefreshQueue(b.redis, b.account.keys, "order_audit").count() == 150


@pytest.mark.parametrize("entry", [b'{"id":"a","who":"\xff"}', b'{"who":"\xff"}', b'"\xff"', b'{"\xff":1}'])
async def test_a_log_that_is_no_utf_8_ends_no_poll(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch, entry: bytes
) -> None:
    """Its entries are told apart by their bytes and published; the logs of other records are none the worse."""
    async with bench(intervals=BOTH) as b:
        await b.poll()
        odd = b.sandbox.store.ids()[0]

        def spoil(reply: Reply) -> Reply:
            raw = b'{"auditLogs":[' + entry + b"]}"
            return Reply(reply.key, reply.status, raw, reply.media_type, reply.date)

        answered(b, monkeypatch, "orders.audit_logs", odd, spoil)
        assert (await b.poll(ORDER_AUDIT)).outcome is Outcome.COMPLETE
        found = [event.data for event in await b.events("order_audit") if event.subject == odd]
        assert [json.loads(each) for each in found] == [entry.decode(errors="replace")]
        assert await RefreshQueue(b.redis, b.account.keys, "order_audit").count() == 0


async def test_what_was_seen_with_its_parent_is_not_counted_as_failed_any_more(bench: BenchMaker) -> None:
    """The count of failed reads does not outlive what is due."""
    async with bench(probe=True, intervals={"orders": 1.0, "shipments": 1.0}) as b:
        await b.poll(SHIPMENTS)
        shipment, raw = next(iter(b.sandbox.world.truth("shipments").items()))
        await RefreshQueue(b.redis, b.account.keys, "shipments").failed(f"id:{shipment}")
        await make_due(b, "shipments", f"of:{json.loads(raw)['orderId']}")
        await b.poll(SHIPMENTS, follow_ups_only=True)
        assert await b.redis.exists(b.account.keys.refresh_failures("shipments")) == 0


def with_more(reply: Reply) -> Reply:
    """The answer with a field more in each record."""
    body = json.loads(reply.raw)
    (records,) = body.values() if len(body) == 1 else (body,)
    for record in records if isinstance(records, list) else [records]:
        record["computed"] = 1
    return Reply(reply.key, reply.status, json.dumps(body).encode(), reply.media_type, reply.date)


async def test_a_list_of_a_parent_with_other_fields_is_no_change(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shipments that their order shows otherwise than the list does are read one by one, and published as the list."""
    async with bench(probe=True, intervals={"orders": 1.0, "shipments": 1.0}) as b:
        await b.poll(SHIPMENTS)
        shipment, raw = next(iter(b.sandbox.world.truth("shipments").items()))
        order = json.loads(raw)["orderId"]
        before = len(await b.events("shipments"))
        answered(b, monkeypatch, "shipments.for_order", order, with_more)
        await make_due(b, "shipments", f"of:{order}")
        run = await b.poll(SHIPMENTS, follow_ups_only=True)
        assert (run.outcome, run.published) == (Outcome.COMPLETE, 0)
        assert run.usage.requests > 1
        assert len(await b.events("shipments")) == before
        assert await RefreshQueue(b.redis, b.account.keys, "shipments").count() == 0
        assert shipment in b.sandbox.world.truth("shipments")


async def test_a_single_read_with_other_fields_is_no_change(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not published; where it is newer than what is known, everything is read, which shows it as it should be."""
    async with bench() as b:
        await b.poll()
        await believe(b, "orders", single_alike=False)
        order = b.sandbox.store.ids()[0]
        answered(b, monkeypatch, "orders.get", order, with_more)
        await make_due(b, "orders", f"id:{order}")
        run = await b.poll(follow_ups_only=True)
        assert (run.published, (await b.cursor()).swept_at > 0) == (0, True)
        b.sandbox.store.change(order, status="Cancelled")
        await make_due(b, "orders", f"id:{order}")
        run = await b.poll(follow_ups_only=True)
        assert (run.published, (await b.cursor()).swept_at) == (0, 0)
        assert (await b.poll()).updated == 1
        assert (await b.events())[-1].data == b.sandbox.store.truth()[order]


async def test_an_answer_that_is_another_record_is_none(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that answers with whatever it has: nothing is said of the record that was asked for."""
    async with bench() as b:
        await b.poll()
        order, other = b.sandbox.store.ids()[:2]
        b.sandbox.store.change(other, status="Cancelled")
        swapped = b.sandbox.store.truth()[other]
        await answer(b.redis.hset(b.account.keys.unconfirmed_deletes("orders"), order, 1))
        answered(
            b,
            monkeypatch,
            "orders.get",
            order,
            lambda reply: Reply(reply.key, reply.status, swapped, reply.media_type, reply.date),
        )
        await make_due(b, "orders", f"id:{order}")
        run = await b.poll(follow_ups_only=True)
        assert (run.published, await b.store.all_absent()) == (0, {order: 1})
        assert await RefreshQueue(b.redis, b.account.keys, "orders").count() == 1


async def test_neither_a_backlog_nor_what_is_new_waits_for_the_other(bench: BenchMaker) -> None:
    """Half of what is taken is due the longest, half the shortest; what is due later is not taken."""
    async with bench() as b:
        due = RefreshQueue(b.redis, b.account.keys, "orders")
        key = b.account.keys.refresh_queue("orders")
        await answer(b.redis.zadd(key, {f"id:{at:03}": at + 1.0 for at in range(100)}))
        await answer(b.redis.zadd(key, {"id:later": b.services.clock.now() + 1000}))
        assert set((await due.fetch(10, 3600)).members) == {
            f"id:{at:03}" for at in (*range(5), *range(95, 100))
        }
        assert len((await due.fetch(1000, 3600)).members) == 100


async def test_what_is_never_there_is_not_asked_for_for_ever(bench: BenchMaker) -> None:
    """A link that leads nowhere: it is tried some times, over minutes, and then given up."""
    async with bench() as b:
        await b.poll()
        asked, waits = 0, list[float]()
        for _ in range(10):
            await answer(
                b.redis.zadd(b.account.keys.refresh_queue("orders"), {"id:nowhere": 1}, xx=asked > 0)
            )
            asked += (await b.poll(follow_ups_only=True)).usage.requests
            score = await answer(b.redis.zscore(b.account.keys.refresh_queue("orders"), "id:nowhere"))
            if score is not None:
                waits.append(score - b.services.clock.now())
        assert asked == MAX_UNKNOWN
        assert sum(waits) > 120
        assert await b.redis.exists(b.account.keys.refresh_failures("orders")) == 0


async def test_a_server_that_asks_for_a_pause_gets_it(bench: BenchMaker) -> None:
    """A 429 concerns all that is due: the poll ends, nothing is put off for itself, and what was read is committed."""
    async with bench(intervals=BOTH, attempts=1, max_concurrency=1) as b:
        await b.poll()
        b.sandbox.store.change(b.sandbox.store.ids())
        await b.poll()
        limit = FaultRule("status", operation="orders.audit_logs", after=10, code=429, retry_after=600)
        b.sandbox.faults.replace([limit])
        run = await b.poll(ORDER_AUDIT)
        assert (run.outcome, run.error_code, run.usage.requests) == (Outcome.FAILED, "rate_limited", 11)
        assert len({event.subject for event in await b.events("order_audit")}) == 10
        now = b.services.clock.now()
        waiting = await answer(
            b.redis.zrange(b.account.keys.refresh_queue("order_audit"), 0, -1, withscores=True)
        )
        assert [since < now for _, since in waiting] == [True] * 40
        cursor = await StateStore(b.redis, b.account.keys, ORDER_AUDIT).load_cursor()
        assert cursor.due_at > now + 500


async def test_a_known_record_that_only_the_single_read_misses_is_left_alone(bench: BenchMaker) -> None:
    """A follow-up that is answered 404, of a record that the list shows, is no deletion and is not tried again."""
    async with bench() as b:
        await b.poll()
        order = b.sandbox.store.ids()[0]
        b.sandbox.faults.replace([FaultRule("status", operation="orders.get", code=404)])
        for _ in range(3):
            await make_due(b, "orders", f"id:{order}")
            assert (await b.poll(follow_ups_only=True)).usage.requests == 1
            assert await RefreshQueue(b.redis, b.account.keys, "orders").count() == 0
        assert (await deleted(b), await b.store.all_absent()) == ([], {})
