"""`ordersync timeline`: all that is known of one order, in time order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from ordersync_consumer.envelope import FIELDS, event_id, event_type
from tests.support.commands import ordersync
from tests.support.streams import STREAM, Writer, fields_of
from tests.support.worker import Bench, BenchMaker
from worker.admin import timeline as tracing
from worker.admin.timeline import NAMES, TimelineCollector
from worker.admin.timeline_entries import audit_words
from worker.app import announce
from worker.capture.records.minimal import known_fields
from worker.capture.registry import RESOURCES
from worker.config.sections import EventSettings
from worker.queue.search import AT_ONCE, EventSearch
from worker.redis.connections import connect
from worker.sandbox import CLIENT_ID, CLIENT_SECRET

pytestmark = pytest.mark.anyio

NOW = 2_000_000_000.0


@pytest.fixture
async def story(bench: BenchMaker) -> AsyncIterator[tuple[Bench, str]]:
    """An order that was read, got a note and another status, and whose shipment was changed; with its id."""
    async with bench() as b:
        await announce(b.services)
        await poll_all(b)
        order = next(
            each for each in map(json.loads, b.sandbox.store.truth().values())
            if each["shipmentIds"] and each["status"] == "In Production"
        )  # fmt: skip
        note = {"text": "gift wrap, please", "resource": {"id": order["id"], "type": "order"}}
        await b.account.client.notes.create(note)
        await b.account.client.orders.hold(order["id"])
        await poll_all(b)
        yield b, order["id"]


async def poll_all(b: Bench) -> None:
    for name in ("orders", "order_items", "shipments", "notes"):
        run = await b.account.poller.poll(RESOURCES[name], complete=True)
        assert run.outcome == "complete", run.error


def call(b: Bench, redis_url: str, folder: Path, *words: str, code: int = 0, **more: Any) -> Any:
    """The command, with the login of the account."""
    settings = {
        "api__base_url": b.sandbox.url,
        "api__client_id": CLIENT_ID,
        "api__client_secret": CLIENT_SECRET,
        **more,
    }
    done = ordersync("timeline", *words, cwd=folder, redis__url=redis_url, **settings)
    assert done.returncode == code, done.stderr
    if code:
        return done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout


async def test_the_whole_story(story: tuple[Bench, str], redis_url: str, tmp_path: Path) -> None:
    """Events of the order, its items, shipments and notes, audit entries, each group's part, in time order."""
    b, order_id = story
    order = json.loads(b.sandbox.store.truth()[order_id])
    for group in ("warehouse", "billing"):
        await b.redis.xgroup_create(STREAM, group, id="0")
    ((_, entries),) = await b.redis.xreadgroup("warehouse", "w-1", {STREAM: ">"}, count=200)
    mine = [entry for entry, fields in entries if fields[b"subject"].decode() == order_id]
    assert len(mine) == 2
    await b.redis.xack(STREAM, "warehouse", mine[0])
    letter = {"kind": "delivery", "reason": "no such SKU", "subject": order_id, "where": mine[1].decode()}
    letter |= {"time": "2026-03-02T10:41:07.513Z", "group": "billing", "attempts": "5"}
    await b.redis.xadd(b.account.keys.dead("orders"), letter)

    found = call(b, redis_url, tmp_path, order_id, "--json")
    assert {name: found["order"][name] for name in NAMES} == {name: order[name] for name in NAMES}
    moments = found["moments"]
    assert [each["at"] for each in moments] == sorted(each["at"] for each in moments)
    by_stream = {
        name: [each for each in moments if each["kind"] == "event" and each["resource"] == name]
        for name in ("orders", "order_items", "shipments", "notes")
    }
    first, second = by_stream["orders"]
    assert (first["action"], second["action"], second["version"]) == ("snapshot", "updated", 2)
    assert "status" in second["changed"]
    assert first["told"].startswith("v1 snapshot (status In Production), ")
    assert second["told"].startswith("v2 updated: ")
    assert second["told"].count(" status ") == 1  # once: its value stands at its name
    assert {each["subject"] for each in by_stream["order_items"]} == {item["id"] for item in order["items"]}
    assert {each["subject"] for each in by_stream["shipments"]} == set(order["shipmentIds"])
    assert "text gift wrap, please" in by_stream["notes"][-1]["told"]
    assert first["groups"]["warehouse"]["state"] == "acknowledged"
    assert (second["groups"]["warehouse"]["state"], second["groups"]["warehouse"]["consumer"]) == (
        "pending",
        "w-1",
    )
    assert (first["groups"]["billing"]["state"], second["groups"]["billing"]["state"]) == ("unread", "dead")
    (dead,) = [each for each in moments if each["kind"] == "dead"]
    assert (dead["reason"], dead["group"]) == ("no such SKU", "billing")
    (delivery,) = [each for each in moments if each["kind"] == "delivery"]
    assert (delivery["group"], delivery["entry"]) == ("warehouse", mine[1].decode())
    audited = {each["resource"] for each in moments if each["kind"] == "audit"}
    assert audited >= {"order_audit", "shipment_audit", "note_audit", "order_item_audit"}
    held = [each for each in moments if each["resource"] == "order_audit"][-1]
    assert "status " in held["told"]
    assert found["remarks"] == []

    text = call(b, redis_url, tmp_path, order_id)
    head, *lines = text.splitlines()
    assert head.startswith(f"order {order_id} (shortId {order['shortId']}, ")
    assert len(lines) == len(moments)
    assert any("; billing: not read yet" in line and "warehouse: acknowledged" in line for line in lines)


async def test_by_each_of_its_names(story: tuple[Bench, str], redis_url: str, tmp_path: Path) -> None:
    """shortId, safeId and externalId lead to it: by what OrderMesh says, and without it by what was published."""
    b, order_id = story
    order = json.loads(b.sandbox.store.truth()[order_id])
    for name in NAMES:
        for words in ((), ("--offline",)):
            found = call(b, redis_url, tmp_path, order[name], "--json", *words)
            assert found["order"]["id"] == order_id
            assert any(each["kind"] == "audit" for each in found["moments"]) is not bool(words)
            assert any("--offline" in each for each in found["remarks"]) is bool(words)


async def test_an_order_that_nobody_knows(story: tuple[Bench, str], redis_url: str, tmp_path: Path) -> None:
    """Exit 1; it is said where was looked. A text that stands elsewhere in a record is no name."""
    b, _ = story
    assert "'nosuch'; OrderMesh does not know it either" in call(b, redis_url, tmp_path, "nosuch", code=1)
    assert "OrderMesh was not asked" in call(b, redis_url, tmp_path, "Fulfilled", "--offline", code=1)
    assert "'..'; OrderMesh" in call(b, redis_url, tmp_path, "..", code=1)
    assert "The id is empty" in call(b, redis_url, tmp_path, " ", code=2)
    assert "is not valid UTF-8" in call(b, redis_url, tmp_path, "\udcff", code=2)
    told = call(b, redis_url, tmp_path, "nosuch", "--offline", "--scan", "3", code=1)
    assert "Only the last 3 events of orders were searched (--scan), back to 20" in told


async def test_what_is_left_out_is_said(story: tuple[Bench, str], redis_url: str, tmp_path: Path) -> None:
    """A bound on the search, versions that are gone, a gateway that is away: the rest is shown, and exit 0."""
    b, order_id = story
    found = call(b, redis_url, tmp_path, order_id, "--json", "--scan", "2", "--offline")
    assert any(
        "Only the last 2 events of shipments were searched (--scan)" in each for each in found["remarks"]
    )
    (entry, *_) = [
        entry for entry, fields in await b.redis.xrange(STREAM) if fields[b"subject"].decode() == order_id
    ]
    await b.redis.xdel(STREAM, entry)
    found = call(b, redis_url, tmp_path, order_id, "--json", "--offline")
    assert any("Version 1 of the order was published but not found" in each for each in found["remarks"])
    b.sandbox.stop()
    settings = {"api__attempts": "1", "api__base_url": b.sandbox.url, "api__client_id": CLIENT_ID}
    done = ordersync(
        "timeline",
        order_id,
        "--json",
        cwd=tmp_path,
        redis__url=redis_url,
        api__client_secret="made-up",
        **settings,
    )
    found = json.loads(done.stdout)
    assert (
        done.returncode,
        any("could not be read from OrderMesh" in each for each in found["remarks"]),
    ) == (
        0,
        True,
    )
    assert any(each["kind"] == "event" for each in found["moments"])


async def test_an_audit_entry_that_was_published_stands_once(
    story: tuple[Bench, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same entry from OrderMesh and from the stream is one moment, at its own time."""
    b, order_id = story
    monkeypatch.setattr(tracing, "RESOURCES", ("orders", "order_audit"))
    entry = (await b.account.client.orders.audit_logs(order_id)).entries[-1]
    stream = b.account.keys.stream("order_audit")
    values = {**fields_of(1, entry.raw, "order_audit"), "subject": order_id, "time": entry.time or ""}
    values |= {"type": event_type("order_audit", "recorded"), "id": event_id("order_audit", order_id, 1, 0)}
    await b.redis.xadd(stream, values)
    for api, number in (
        (None, 1),
        (b.account.client, len((await b.account.client.orders.audit_logs(order_id)).entries)),
    ):
        found = await TimelineCollector(b.redis, b.account.keys, api, now=NOW).collect(order_id)
        audit = [each for each in found.entries if each.resource == "order_audit"]
        assert len(audit) == number
        (published,) = [each for each in audit if "published_at" in each.facts]
        assert published.as_json()["at"][:23] == (entry.time or "")[:23]


async def test_the_privacy_policy_applies_to_what_is_read(
    story: tuple[Bench, str], redis_url: str, tmp_path: Path
) -> None:
    """An audit entry that OrderMesh serves, and an order that is looked for, show no more than events would."""
    b, order_id = story
    known = known_fields("order_audit").keys()

    def entries(shown: Any) -> list[Any]:
        return [moment["audit"] for moment in shown["moments"] if moment["kind"] == "audit"]

    order = json.loads(b.sandbox.store.truth()[order_id])
    clear = entries(call(b, redis_url, tmp_path, order_id, "--json"))
    assert any(entry.keys() - known for entry in clear)
    policy: dict[str, Any] = {
        "privacy__policy": "minimal",
        "privacy__fields": '{"orders": {"externalId": "drop"}}',
    }
    shown = entries(call(b, redis_url, tmp_path, order_id, "--json", **policy))
    assert len(shown) == len(clear)
    assert all(entry.keys() <= known for entry in shown)
    await b.redis.flushdb()  # the order is then known from OrderMesh alone
    for more, external in ((dict[str, Any](), order["externalId"]), (policy, None)):
        found = call(b, redis_url, tmp_path, order["shortId"], "--json", "--account", "default", **more)[
            "order"
        ]
        assert (found["id"], found["externalId"]) == (order_id, external)


async def test_compressed_records_are_looked_into(bench: BenchMaker) -> None:
    """Redis cannot; the search does. By the subject they are found in any case."""
    async with bench(events=EventSettings(compress_above=1)) as b:
        await b.poll()
        order = json.loads(next(iter(b.sandbox.store.truth().values())))
        found = await TimelineCollector(b.redis, b.account.keys, None, now=NOW).collect(order["safeId"])
        assert [each.facts["action"] for each in found.entries] == ["snapshot"]


async def test_the_run_is_named_where_events_tell_it(bench: BenchMaker) -> None:
    """So that `ordersync runs show` and the log go on from there."""
    async with bench(events=EventSettings(traceparent=True)) as b:
        run = await b.poll()
        order = next(iter(b.sandbox.store.truth()))
        (moment,) = (await TimelineCollector(b.redis, b.account.keys, None, now=NOW).collect(order)).entries
        assert moment.facts["run"] == run.run_id
        assert f"by poll in run {run.run_id}" in moment.message


# --- the search itself ------------------------------------------------------------------------------


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


async def test_the_search_looks_no_further_than_it_must(redis: Redis) -> None:
    """To the first version of the subject; to the time it is told; to the bound, which it then says."""
    writer = Writer(redis)
    await writer.add(2 * AT_ONCE, at=1_000_000, apart=1000)
    finder, newest, oldest = EventSearch(redis), f"{2 * AT_ONCE:024x}", f"{1:024x}"
    found = await finder.search(STREAM, {newest}, limit=10_000)
    assert ([event.subject for event in found.events], found.looked_at) == ([newest], AT_ONCE)
    found = await finder.search(STREAM, {newest, oldest}, limit=10_000)
    assert [event.subject for event in found.events] == [oldest, newest]
    found = await finder.search(STREAM, {oldest}, limit=AT_ONCE + 7)
    assert (found.events, found.looked_at, found.cut_short) == ((), AT_ONCE + 7, True)
    assert found.back_to == 1000 + (AT_ONCE - 7)
    found = await finder.search(STREAM, {"nobody"}, since=1000 + 2 * AT_ONCE - 5, limit=10_000)
    assert (found.looked_at, found.cut_short) == (5, False)
    assert (await finder.search("nowhere", {oldest}, limit=10)).looked_at == 0


async def test_a_text_is_looked_for_in_the_record_alone(redis: Redis) -> None:
    """Not in the attributes, and as it is, not as a pattern; an entry of another hand is passed over."""
    writer = Writer(redis)
    await writer.add(1, data=b'{"id":"a","orderId":"x.y"}')
    await writer.add(1, data=b'{"id":"b","orderId":"xzy"}')
    await redis.xadd(STREAM, {"data": '"x.y"'})
    found = await EventSearch(redis).search(STREAM, set(), {'"x.y"'}, limit=10)
    assert [event.data for event in found.events] == [b'{"id":"a","orderId":"x.y"}']
    assert found.looked_at == 3
    assert (await EventSearch(redis).search(STREAM, set(), {FIELDS[0]}, limit=10)).events == ()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"action":"Held","user":"ann","changes":[]}', "Held by ann"),
        (
            b'{"action":"Updated","user":{"name":"ann"},"changes":[{"property":"status","oldValue":"Open","newValue":"Held"}]}',
            "Updated by ann: status Open \u2192 Held",
        ),
        (
            b'{"eventType":"order.Updated","performedBy":"x","data":"{\\"changes\\":[{\\"property\\":\\"items\\",\\"newValue\\":[]}]}"}',
            "order.Updated by x: items",
        ),
        (b'{"when":"now"}', "an entry"),
        (b'"text"', "text"),
        (b"not json", "not json"),
    ],
)
def test_an_audit_entry_in_words(raw: bytes, words: str) -> None:
    """Whatever the entry looks like: no field of it is documented."""
    assert audit_words(raw) == words
