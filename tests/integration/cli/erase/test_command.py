"""`ordersync erase`: nothing of a record remains in Redis but that it was erased, and nothing of it comes back."""

from __future__ import annotations

import json

import pytest

from tests.support.erasing import POLLED, SECRET, Case
from tests.support.waiting import PATIENCE, eventually
from worker.capture.registry import CAPTURED
from worker.capture.state.refresh_queue import RefreshQueue, log_of

pytestmark = pytest.mark.anyio


async def test_nothing_remains(case: Case) -> None:
    """Of the order and what belongs to it the ids remain; of all others everything does."""
    before = {name: await case.b.events(name) for name in POLLED}
    await case.b.redis.xadd(
        case.b.account.keys.dead("notes"),
        {"kind": "delivery", "reason": "x", "subject": case.note, "where": "1-1", "time": "2026-03-02T10:41:07Z",
         "group": "g", "data": SECRET},
    )  # fmt: skip
    await case.b.redis.xadd(
        case.b.account.keys.dead("orders"),
        {"kind": "record", "reason": "no id", "subject": "", "where": "orders.search 3", "time": "", "data":
         f'{{"x": "{case.order}"}}'},
    )  # fmt: skip
    report = case.erase(case.order, "--yes", "--json")
    by_name = {row["resource"]: row for row in report["resources"]}
    assert set(by_name) >= {"orders", "shipments", "notes", "order_audit", "shipment_audit", "note_audit"}
    assert case.note in by_name["notes"]["records"]
    assert (by_name["notes"]["dead_letters"], by_name["orders"]["dead_letters"]) == (1, 1)
    gone = {(name, subject) for name, row in by_name.items() for subject in row["records"]}
    assert ("shipments", case.shipment) in gone
    for name in POLLED:
        after = await case.b.events(name)
        others = [event for event in before[name] if (name, event.subject) not in gone]
        assert [event for event in after if event.action != "erased"] == others
        erased = [event for event in after if event.action == "erased"]
        known = {event.subject for event in before[name]} & {subject for of, subject in gone if of == name}
        assert known <= {event.subject for event in erased}
        for event in erased:
            assert json.loads(event.data) == {"id": event.subject}
            assert event.reason == "erase"
        numbers = [event.sequence for event in after]
        assert numbers == sorted(set(numbers))
    assert await case.kept(SECRET) == set()
    places = {key.split(":", 2)[2].split(":")[0] for key in await case.kept(case.order)}
    assert places == {"stream", "operator_log"}  # the events that tell of it, and the command


async def test_nothing_comes_back(case: Case) -> None:
    """Neither polls nor full scans nor resyncs publish an erased record, though OrderMesh serves and changes it."""
    case.erase(case.order, "--yes")
    case.b.sandbox.store.change([case.order], status="In Production")
    await RefreshQueue(case.b.redis, case.b.account.keys, "order_audit").add([log_of(case.order)])
    for _ in range(2):
        await case.read_all()
    run = await case.b.poll(complete=True)
    assert (run.erased, run.missing, run.deleted, run.published) == (1, 0, 0, 0)
    assert await case.of("orders", case.order) == ["erased"]
    assert await case.of("notes", case.note) == ["erased"]
    assert await case.of("order_audit", case.order) == ["erased"]
    assert await case.kept(SECRET) == set()
    again = case.erase(case.order, "--yes", "--json")
    assert {row["resource"]: row["marked"] for row in again["resources"] if row["marked"]} == {}
    assert await case.of("orders", case.order) == ["erased"]


async def test_forgetting_an_erasure(case: Case) -> None:
    """The record is published again, as created, with the next version."""
    case.erase(case.order, "--yes")
    told = case.erase(case.order, "--forget", "--json")
    assert told["forgotten"] >= 4
    assert case.erase(case.order, "--forget", "--json")["forgotten"] == 0
    await case.read_all()
    events = [event for event in await case.b.events() if event.subject == case.order]
    assert [event.action for event in events] == ["erased", "created"]
    assert events[1].version == events[0].version + 1
    assert await case.of("notes", case.note) == ["erased", "created"]


async def test_a_record_that_ordermesh_erases_too(case: Case) -> None:
    """It is published as deleted, once, and its mark is gone."""
    case.erase("--resource", "notes", case.note, "--yes")
    await case.b.account.client.notes.delete(case.note)
    case.b.adjust(confirm_deletes=0.0)

    async def is_deleted() -> bool:
        await case.b.account.poller.poll(CAPTURED["notes"], complete=True)
        return await case.of("notes", case.note) == ["erased", "deleted"]

    await eventually(is_deleted, PATIENCE)


async def test_a_preview_writes_nothing(case: Case) -> None:
    """It names the same records and numbers as the command that follows."""
    before = {name: await case.b.events(name) for name in POLLED}
    preview = case.erase(case.order, "--dry-run", "--json")
    assert {name: await case.b.events(name) for name in POLLED} == before
    done = case.erase(case.order, "--yes", "--json")
    assert [row | {"marked": 0} for row in preview["resources"]] == [
        row | {"marked": 0} for row in done["resources"]
    ]
    assert preview["dry_run"] is True
    assert done["dry_run"] is False


async def test_words(case: Case) -> None:
    """The output names what is out of reach; unknown ids and resources get advice; nothing happens without a yes."""
    shown = case.erase(case.order, "--yes")
    for words in ("BGREWRITEAOF", "copies of consumers", "OrderMesh", "backups"):
        assert words in shown
    assert "Redis keeps nothing of nobody" in case.erase("nobody", "--yes", code=1)
    assert "not a resource with records of its own" in case.erase("a", "--resource", "order_audit", code=2)
    assert "pass --yes" in case.erase(case.note, "--resource", "notes", code=2)


async def test_by_redis_alone(case: Case) -> None:
    """Without the gateway, the streams and the stored states show what belongs to the order."""
    report = case.erase(case.order, "--yes", "--offline", "--json")
    assert {"notes", "shipments", "order_audit"} <= {row["resource"] for row in report["resources"]}
    assert any("--offline" in remark for remark in report["remarks"])
    assert await case.kept(SECRET) == set()


async def test_a_resource_that_was_never_read(case: Case) -> None:
    """Nothing of it can be marked, and the output says that its first read publishes the record."""
    await case.b.redis.delete(case.b.account.keys.cursor("orders"))
    report = case.erase(case.order, "--yes", "--json")
    assert any("No worker has read orders" in remark for remark in report["remarks"])
    assert not any(
        "No worker has read" in remark
        for remark in case.erase(case.note, "--resource", "notes", "--yes", "--json")["remarks"]
    )


async def test_events_that_are_gone_from_the_streams(case: Case) -> None:
    """What belongs to an order is found through OrderMesh when retention has removed its events."""
    for name in POLLED:
        await case.b.redis.xtrim(case.b.account.keys.stream(name), maxlen=0, approximate=False)
    report = case.erase(case.order, "--yes", "--json")
    by_name = {row["resource"]: row for row in report["resources"]}
    assert case.note in by_name["notes"]["records"]
    assert case.shipment in by_name["shipments"]["records"]
    assert await case.kept(SECRET) == set()  # the records that were stored for old values, above all
