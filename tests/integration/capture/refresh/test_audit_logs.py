"""Audit logs: read because a record has changed, each entry published once, in order, for each record."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import msgspec
import pytest

from ordersync_consumer.envelope import Event
from tests.support.worker import Bench, BenchMaker
from worker.capture.registry import AUDIT_LOGS, ORDERS, SHIPMENTS
from worker.capture.state.committer import Committer
from worker.capture.state.run import Outcome
from worker.ordermesh.contract.operations import OPERATIONS
from worker.redis.connections import answer
from worker.sandbox import FaultRule, SandboxServer, ServedContract

pytestmark = pytest.mark.anyio

ORDER_AUDIT = AUDIT_LOGS["order_audit"]
BOTH = {"orders": 1.0, "order_audit": 1.0}
PACKAGES = {"shipments": 1.0, "package_audit": 1.0}


def logs(sandbox: SandboxServer) -> dict[str, list[str]]:
    """The ids of the entries of the log of each order, in their order."""
    store = sandbox.store
    created = {order: json.loads(raw)["createdAt"] for order, raw in store.truth().items()}
    return {
        order: [entry["id"] for entry in store.audit.entries("order", order, created[order])]
        for order in store.ids()
    }


def told(events: list[Event]) -> dict[str, list[str]]:
    """The ids of the entries that were published for each order; versions count them."""
    found: dict[str, list[str]] = defaultdict(list)
    for at, event in enumerate(events, 1):
        assert (event.sequence, event.type) == (at, "io.ordermesh.order_audit.recorded")
        found[event.subject].append(json.loads(event.data)["id"])
        assert event.version == len(found[event.subject])
        assert event.time == json.loads(event.data)["timestamp"]
    assert len({event.id for event in events}) == len(events)
    return dict(found)


async def due(b: Bench, name: str) -> int:
    return int(await answer(b.redis.zcard(b.account.keys.refresh_queue(name))))


async def test_every_entry_once_and_in_order(bench: BenchMaker) -> None:
    """The logs of all orders at first, then those of changed ones alone, at one request each."""
    async with bench(intervals=BOTH) as b:
        await b.poll()
        run = await b.poll(ORDER_AUDIT)
        assert (run.outcome, run.recorded, run.usage.requests) == (
            Outcome.COMPLETE,
            len(await b.events("order_audit")),
            50,
        )
        assert told(await b.events("order_audit")) == logs(b.sandbox)
        changed = set(b.sandbox.store.change(5)) | set(b.sandbox.store.change(5))
        await b.poll()
        run = await b.poll(ORDER_AUDIT)
        assert run.usage.requests == len(changed)
        assert told(await b.events("order_audit")) == logs(b.sandbox)
        assert await due(b, "order_audit") == 0
        run = await b.poll(ORDER_AUDIT)
        assert (run.outcome, run.usage.requests, run.recorded) == (Outcome.COMPLETE, 0, 0)


async def test_nothing_is_due_of_what_nobody_polls(bench: BenchMaker) -> None:
    """Without an interval for the logs no change notes a read that nobody would do."""
    async with bench() as b:
        await b.poll()
        assert await due(b, "order_audit") == await due(b, "shipments") == 0


async def test_a_change_while_the_log_is_read_is_not_lost(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What became due again after a read of it had begun stays due."""
    async with bench(intervals=BOTH) as b:
        await b.poll()
        await b.poll(ORDER_AUDIT)
        (order,) = b.sandbox.store.change(1)
        await b.poll()
        store, call = b.sandbox.store, b.account.client.call

        async def meanwhile(key: str, **options: Any) -> Any:
            reply = await call(key, **options)
            if key == "orders.audit_logs" and not again:
                again.append(store.change(order))
                await b.account.poller.poll(ORDERS)
            return reply

        again: list[object] = []
        monkeypatch.setattr(b.account.client, "call", meanwhile)
        await b.poll(ORDER_AUDIT)
        assert again
        assert told(await b.events("order_audit")) == logs(b.sandbox)


async def test_one_log_that_fails_holds_up_no_other(bench: BenchMaker) -> None:
    """It is tried again later; the others are published meanwhile."""
    async with bench(intervals=BOTH, attempts=1) as b:
        await b.poll()
        b.sandbox.faults.replace([FaultRule("status", operation="orders.audit_logs", times=3, code=500)])
        run = await b.poll(ORDER_AUDIT)
        assert run.outcome is Outcome.COMPLETE
        assert await due(b, "order_audit") == 3
        assert len(told(await b.events("order_audit"))) == 47
        key = b.account.keys.refresh_queue("order_audit")
        waiting = await answer(b.redis.zrange(key, 0, -1, withscores=True))
        assert all(since > b.services.clock.now() + 1 for _, since in waiting)
        await answer(b.redis.zadd(key, {member: 1.0 for member, _ in waiting}))
        await b.poll(ORDER_AUDIT)
        assert told(await b.events("order_audit")) == logs(b.sandbox)
        assert await b.redis.exists(b.account.keys.refresh_failures("order_audit")) == 0


async def test_a_log_that_may_not_be_read(bench: BenchMaker) -> None:
    """The poll says that it is forbidden; nothing that is due is lost, and the orders go on."""
    async with bench(intervals=BOTH, attempts=1) as b:
        await b.poll()
        b.sandbox.store.change(b.sandbox.store.ids())
        await b.poll()
        b.sandbox.faults.replace([FaultRule("status", operation="orders.audit_logs", code=403)])
        run = await b.poll(ORDER_AUDIT)
        assert (run.outcome, run.error_code) == (Outcome.FAILED, "forbidden")
        assert await due(b, "order_audit") == 50
        assert (await b.poll()).outcome is Outcome.COMPLETE


async def test_the_other_shape_of_a_log(bench: BenchMaker) -> None:
    """A bare list with other names of fields gives the same entries."""
    with SandboxServer(orders=5, contract=ServedContract(audit_shape="bare")) as sandbox:
        async with bench(sandbox, intervals=BOTH) as b:
            await b.poll()
            await b.poll(ORDER_AUDIT)
            sandbox.store.change(2)
            await b.poll()
            await b.poll(ORDER_AUDIT)
            events = await b.events("order_audit")
            found: dict[str, list[str]] = defaultdict(list)
            for event in events:
                found[event.subject].append(json.loads(event.data)["auditId"])
            assert dict(found) == logs(sandbox)


async def test_logs_of_what_is_within_a_shipment(bench: BenchMaker) -> None:
    """Of packages by the ids of both, of messages by that of the shipment; the subject is whose log it is."""
    names = ("shipment_audit", "package_audit", "message_audit")
    with SandboxServer(orders=10) as sandbox:
        async with bench(sandbox, probe=True, intervals=dict.fromkeys(("shipments", *names), 1.0)) as b:
            await b.poll(SHIPMENTS)
            shipments = sandbox.world.truth("shipments")
            packages = {each["id"] for raw in shipments.values() for each in json.loads(raw)["packages"]}
            for name in names:
                assert (await b.poll(AUDIT_LOGS[name])).outcome is Outcome.COMPLETE
                assert await due(b, name) == 0
            assert {event.subject for event in await b.events("shipment_audit")} == set(shipments)
            assert {event.subject for event in await b.events("package_audit")} == packages
            assert all(msgspec.json.decode(event.data) for event in await b.events("message_audit"))


def packed(sandbox: SandboxServer) -> dict[str, Any]:
    """A shipment with packages."""
    shipments = [json.loads(raw) for raw in sandbox.world.truth("shipments").values()]
    return next(each for each in shipments if each["packages"])


@pytest.mark.parametrize("gone", ["packages.delete", "shipments.delete"])
async def test_the_log_of_a_package_that_is_gone(bench: BenchMaker, gone: str) -> None:
    """With the change that took it out, and when its shipment is deleted: its own log tells of it."""
    with SandboxServer(orders=10) as sandbox:
        async with bench(sandbox, probe=True, intervals=PACKAGES) as b:
            await b.poll(SHIPMENTS)
            await b.poll(AUDIT_LOGS["package_audit"])
            shipment = packed(sandbox)
            package = shipment["packages"][0]["id"]
            path = {"shipmentId": shipment["id"], "packageId": package}
            names = OPERATIONS[gone].path_parameters
            before = len(await b.events("package_audit"))
            await b.account.client.call(gone, path={name: path[name] for name in names})
            for _ in range(3):
                waiting = await answer(b.redis.zrange(b.account.keys.refresh_queue("shipments"), 0, -1))
                if waiting:
                    await answer(
                        b.redis.zadd(b.account.keys.refresh_queue("shipments"), dict.fromkeys(waiting, 1.0))
                    )
                await answer(b.redis.hset(b.account.keys.accepted, "shipments", "1"))
                await b.poll(SHIPMENTS)
            await b.poll(AUDIT_LOGS["package_audit"])
            new = (await b.events("package_audit"))[before:]
            assert [event.subject for event in new] == [package]
            assert json.loads(new[0].data)["action"] == "Deleted"
            assert await due(b, "package_audit") == 0
            kept = [key async for key in b.redis.scan_iter(f"{b.account.keys.nested_ids('shipments')}:*")]
            left = sum(bool(json.loads(raw)["packages"]) for raw in sandbox.world.truth("shipments").values())
            assert sum([await answer(b.redis.hlen(key)) for key in kept]) == left


@pytest.mark.parametrize("foreign", ["value", "type", "type of late"])
async def test_what_stands_within_a_shipment_of_another_hand(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch, foreign: str
) -> None:
    """A value that is none counts as none; a key of another type ends the commit before it has written anything."""
    with SandboxServer(orders=10) as sandbox:
        async with bench(sandbox, probe=True, intervals=PACKAGES) as b:
            await b.poll(SHIPMENTS)
            before = len(await b.events("shipments"))
            async for key in b.redis.scan_iter(f"{b.account.keys.nested_ids('shipments')}:*"):
                for field in await answer(b.redis.hkeys(key)):
                    await answer(b.redis.hset(key, field, "nonsense"))
                if foreign != "value":
                    await b.redis.delete(key)
                    await answer(b.redis.lpush(key, "foreign"))
            sandbox.world.shipments.put({**packed(sandbox), "customShipmentId": "made up"})
            if foreign == "type of late":  # when it has been looked at

                async def nothing(*_: object) -> dict[bytes, list[list[str]]]:
                    return {}

                monkeypatch.setattr(Committer, "_within_of", nothing)
            run = await b.poll(SHIPMENTS)
            assert (run.updated, run.error_code) == ((1, "") if foreign == "value" else (0, "data"))
            assert len(await b.events("shipments")) == before + run.updated


async def test_what_is_due_has_been_committed_with_its_change(bench: BenchMaker) -> None:
    """A poll that is stopped behind any page has noted what its events make due, no more and no less."""
    async with bench(page_size=10, intervals=BOTH) as b:
        await b.poll()
        b.sandbox.store.change(b.sandbox.store.ids())
        pages = iter(range(100))
        await b.poll(stop=lambda: next(pages) > 3)
        events = {event.subject for event in (await b.events())[50:]}
        assert 0 < len(events) < 50
        members = await answer(b.redis.zrange(b.account.keys.refresh_queue("order_audit"), 0, -1))
        assert {member.decode() for member in members} == {f"of:{subject}" for subject in events}
