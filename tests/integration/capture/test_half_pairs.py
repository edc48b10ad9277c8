"""Half an emoji in a record, as a JSON escape: it is delivered as served, through every way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ordersync_consumer import Delivery
from ordersync_consumer.envelope import Event
from tests.support.commands import ordersync
from tests.support.consuming import Stage
from tests.support.worker import Bench, BenchMaker
from worker.app import announce
from worker.capture.records.audit import new_entries
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import OVER, ResyncRequest
from worker.capture.state.refresh_queue import RefreshQueue, record
from worker.cli.consume.batches import line_of
from worker.config.sections import EventSettings, InterestSettings, PrivacySettings
from worker.ordermesh.http.reply import entry_of
from worker.sandbox import CLIENT_ID, CLIENT_SECRET

pytestmark = pytest.mark.anyio

EVENTS = [
    EventSettings(),
    EventSettings(previous=True, compress_above=10),
]


def plant(b: Bench, **fields: Any) -> tuple[str, bytes]:
    """Serve an order with other fields, halves of pairs among them; return its id and its bytes."""
    order = b.sandbox.store.ids()[3]
    served = json.dumps(json.loads(b.sandbox.store.truth()[order]) | fields).encode()
    assert b"\\ud" in served
    b.sandbox.store.replace(order, served)
    return order, served


async def of(b: Bench, order: str) -> list[Event]:
    """Return the events of an order."""
    return [event for event in await b.events() if event.subject == order]


@pytest.mark.parametrize("events", EVENTS)
async def test_it_is_delivered_as_served(bench: BenchMaker, events: EventSettings) -> None:
    """By the first full scan, by a later one, and by a read by id; nothing is parked, and nothing published twice."""
    async with bench(events=events) as b:
        order, served = plant(b, remark="gift \ud83d wrap", meta={"\ude00": "\ud83d\ude00"})
        assert ((await b.poll()).unreadable, (await b.poll()).published) == (0, 0)
        assert [event.data for event in await of(b, order)] == [served]
        _, second = plant(b, remark="gift \ud83e wrap")
        run = await b.poll()
        assert (run.updated, run.unreadable, run.unchanged) == (1, 0, 49)
        _, third = plant(b, remark="\ude00")
        await RefreshQueue(b.redis, b.account.keys, "orders").add([record(order)])
        assert (await b.poll(follow_ups_only=True)).updated == 1
        told = await of(b, order)
        assert [event.data for event in told] == [served, second, third]
        assert [event.changed for event in told] == [(), ("remark",), ("remark",)]
        if events.previous:
            assert [event.previous for event in told[1:]] == [
                r'{"remark":"gift \ud83d wrap"}',
                r'{"remark":"gift \ud83e wrap"}',
            ]


async def test_a_resync_by_id(bench: BenchMaker) -> None:
    """A person may ask for it by its id, again and again."""
    async with bench() as b:
        order, served = plant(b, remark="\ud83d")
        resyncs = b.account.resyncer.resyncs
        for identifier in (order, f" {order}"):
            request = ResyncRequest(resource="orders", ids=(identifier,), force=True)
            name = (await resyncs.create(request, b.services.clock.now())).id
            await b.account.resyncer.slice(ORDERS, name)
            resync = await resyncs.get(name)
            assert resync is not None
            assert (resync.state in OVER, resync.published, resync.unreadable) == (True, 1, 0)
        assert {event.data for event in await of(b, order)} == {served}


async def test_a_scope_and_a_privacy_policy_apply(bench: BenchMaker) -> None:
    """The record is read like any other: what is out of scope or dropped is not published, the rest as served."""
    privacy = PrivacySettings(
        fields={"orders": {"remark": "drop", "phone": "mask", "shippingAddress": "keep"}}
    )
    async with bench(privacy=privacy, interest=InterestSettings(statuses={"orders": ["Open"]})) as b:
        order, served = plant(b, status="Draft", note="\ud83d")
        await b.poll()
        assert await of(b, order) == []
        order, served = plant(b, status="Open", note="a\ud83d", remark="secret \ude00", phone="\ud83d")
        await b.poll()
        (event,) = await of(b, order)
        assert json.loads(event.data) == {
            name: "***" if name == "phone" else value
            for name, value in json.loads(served).items()
            if name != "remark"
        }
        assert rb'"a\ud83d"' in event.data
        order, served = plant(b, status="Open", note="b\ud83d", remark=None)
        assert (await b.poll()).updated == 1


async def test_a_field_name_and_an_id(bench: BenchMaker) -> None:
    """The name of a changed field, and the subject, have a stand-in: a text field of an event can be encoded."""
    async with bench() as b:
        plant(b, **{"na\ud83dme": 1})
        order = json.dumps({"id": "x\ud83d", "updatedAt": "2026-01-01T00:00:00Z", "na\ud83dme": 1}).encode()
        b.sandbox.store.replace("odd", order)
        assert (await b.poll()).unreadable == 0
        later = order.replace(b"1}", b"2}")
        b.sandbox.store.replace("odd", later)
        assert (await b.poll()).updated == 1
        first, second = await of(b, "x\ue03d")
        assert (first.data, second.data, second.changed) == (order, later, ("na\ue03dme",))


def test_an_audit_entry() -> None:
    """It is published as served, with its own id and time."""
    raw = rb'{"id":"e1","timestamp":"2026-01-01T10:00:00Z","old":"\ud83d"}'
    entry = entry_of(raw)
    assert (entry.id, entry.time) == ("e1", "2026-01-01T10:00:00Z")
    found = new_entries("o1", raw, [entry], b"")
    assert found is not None
    assert [one.published for one in found.entries] == [raw]


async def test_every_way_out(bench: BenchMaker, redis_url: str, tmp_path: Path) -> None:
    """The consumer kit, `tail`, `consume`, `timeline`, a dead letter and `replay` carry it, without a traceback."""
    async with bench(events=EventSettings(previous=True)) as b:
        await announce(b.services)
        plant(b, customerName="\ud83d")
        await b.poll()
        order, served = plant(b, customerName="\ude00", status="On Hold \ud83d")
        await b.poll()
        stage = Stage(b.redis)
        given = [one for one in await stage.take(stage.consumer()) if one.event.subject == order]
        assert given[1].event.data == served
        assert served in line_of(given[1])
        assert json.loads(given[1].event.json_line())["data"] == json.loads(served)

        async def fail(delivery: Delivery) -> None:
            raise ValueError(delivery.event.subject)

        async with stage.consumer(group="other", max_deliveries=1) as consumer:
            await consumer.run(fail)
        settings = {
            "redis__url": redis_url,
            "api__base_url": b.sandbox.url,
            "api__client_id": CLIENT_ID,
            "api__client_secret": CLIENT_SECRET,
        }

        def call(*words: str) -> str:
            done = ordersync(*words, cwd=tmp_path, **settings)
            assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
            return done.stdout

        assert served.decode() in call("tail", "orders", "--from", "0", "--json", "--no-follow")
        shown = call("timeline", order)  # for people; a terminal cannot show it
        assert "On Hold" in shown
        assert "\ud83d" not in shown
        assert json.loads(call("timeline", order, "--json"))["moments"]
        letters = json.loads(call("dead", "list", "orders", "--json"))
        (letter,) = [each["id"] for each in letters if each["where"] == given[1].entry_id]
        assert served.decode() in call("dead", "show", "orders", letter)
        assert json.loads(call("dead", "show", "orders", letter, "--json"))["data"] == json.loads(served)
        call("replay", "orders", "--group", "g", "--entity", order)
