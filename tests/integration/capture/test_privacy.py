"""No personal value reaches Redis under the policy `minimal`, and nothing but personal values is lost."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr
from redis.asyncio import Redis

from ordersync_consumer import tail as stream
from ordersync_consumer.dead import DeadLetters
from tests.support.commands import ordersync
from tests.support.programs import login_settings
from tests.support.worker import Bench, BenchMaker
from worker.capture.registry import NOTES, ORDER_ITEMS, ORDERS, RESOURCES
from worker.capture.state.parked import retry_parked
from worker.config.sections import EventSettings, PrivacySettings
from worker.redis.connections import answer
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

KEY = "tU3kQ9vXz7LmN2pRs8Wy4BfGh6JcD1eA"
MINIMAL = PrivacySettings(policy="minimal")


def policy(**fields: dict[str, Any]) -> PrivacySettings:
    """Rules for fields of some resources, and nothing else."""
    return PrivacySettings(fields=fields, key=SecretStr(KEY))


# What is personal, told from the records without the policy


def texts(value: Any) -> Iterator[str]:
    """Every text and number in a value, as it would be written."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def of_a_person(order: dict[str, Any]) -> Iterator[str]:
    """The personal values of an order."""
    for name in ("shippingAddress", "billingAddress", "returnAddress"):
        yield from texts({k: v for k, v in (order[name] or {}).items() if k != "countryCode"})
    for payment in order["customerPaymentMethods"]:
        yield from texts(payment["billingInfo"])
        yield from texts([payment["cardFirst4"], payment["cardLast4"]])
        yield from texts([each["transactionId"] for each in payment["customerTransactions"]])
    yield from texts([order["client"]["ip"], order["client"]["details"], order["meta"]])
    for item in order["items"]:
        yield from texts([[image["url"], image["ourUrl"]] for image in item["images"]])


def personal_values(sandbox: SandboxServer) -> set[str]:
    """Those of every order, shipment and note of the sandbox."""
    found: set[str] = set()
    for name, raw in sandbox.store.truth().items():
        if not name.startswith("odd"):
            found.update(of_a_person(json.loads(raw)))
    for note in sandbox.world.notes.values():
        found.add(note["text"])
    for shipment in sandbox.world.shipments.values():
        found.update(texts([shipment["customerId"], shipment["customerShippingAddressId"]]))
    return {value for value in found if value.strip()}


async def everything(redis: Redis) -> bytes:
    """All names and values in Redis, one behind the other; what is compressed is there as it was, too."""
    pieces: list[bytes] = []
    for key in await redis.keys("*"):
        kind = (await redis.type(key)).decode()
        pieces.append(key)
        if kind == "string":
            pieces.append(await redis.get(key))
        elif kind == "list":
            pieces += await answer(redis.lrange(key, 0, -1))
        elif kind == "set":
            pieces += await answer(redis.smembers(key))
        elif kind == "zset":
            pieces += [member for member, _ in await redis.zrange(key, 0, -1, withscores=True)]
        elif kind == "hash":
            pieces += [piece for pair in (await answer(redis.hgetall(key))).items() for piece in pair]
        else:
            assert kind == "stream", f"{key!r} is a {kind}"
            pieces += [p for _, fields in await redis.xrange(key) for pair in fields.items() for p in pair]
    return b"\n".join(pieces + [each for piece in pieces for each in unpacked(piece)])


def unpacked(piece: bytes) -> Iterator[bytes]:
    """The records in a value, if it is compressed: `data`, or a record that is kept for its old values."""
    for start, wbits in ((0, 31), (8, -15)):
        try:
            yield zlib.decompress(piece[start:], wbits)
        except zlib.error:
            continue


def leaked(values: set[str], place: bytes) -> set[str]:
    """Those of the values that stand in it: as they are, or a single word or number as a whole value of JSON."""
    found, text = set(), place.decode("utf-8", "replace")
    for value in values:
        spelled = {json.dumps(value), json.dumps(value, ensure_ascii=False)}
        if value.isdigit():
            spelled |= {f":{value},", f":{value}}}", f": {value}"}
        elif len(value) >= 6 and not value.isalpha():
            spelled = {word.strip('"') for word in spelled}
        if any(word in text for word in spelled):
            found.add(value)
    return found


async def live(b: Bench) -> None:
    """Every resource is read, changed in what is personal and what is not, and read again; some cannot be read."""
    store = b.sandbox.store
    for resource in RESOURCES.values():
        assert (await b.account.poller.poll(resource, complete=True)).outcome == "complete"
    first, second, third = store.ids()[:3]
    address = json.loads(store.truth()[first])["shippingAddress"]
    store.change(first, shippingAddress=address | {"email": "moved@example.com", "line1": "1 Elsewhere Road"})
    store.change(second, status="Fulfilled", meta={"giftMessage": "Congratulations, Wilhelmina!"})
    store.change(third, billingAddress=address | {"phone": "+15550199999"}, addressee="unknown to all")
    note = next(iter(b.sandbox.world.notes.values()))
    b.sandbox.world.notes.put(
        note | {"text": "Ring twice at Wilhelmina's", "updatedAt": "2031-01-01T00:00:00Z"}
    )
    for resource in RESOURCES.values():
        assert (await b.account.poller.poll(resource, complete=True)).outcome == "complete"
    store.replace("odd-1", b'{"id":null,"shippingAddress":{"email":"broken@example.com"}}')
    store.replace("odd-2", b'"wilhelmina@example.com"')
    assert (await b.account.poller.poll(ORDERS, complete=True)).unreadable == 2


NEW = {"broken@example.com", "wilhelmina@example.com"}


@pytest.mark.parametrize("events", [EventSettings(), EventSettings(compress_above=500, previous=True)])
async def test_no_personal_value_anywhere(bench: BenchMaker, events: EventSettings) -> None:
    """Under `minimal`, no personal value of any record stands anywhere in Redis, with or without old values."""
    async with bench(probe=True, privacy=MINIMAL, events=events) as b:
        values = personal_values(b.sandbox) | NEW
        await live(b)
        values |= personal_values(b.sandbox)
        place = await everything(b.redis)
        assert leaked(values, place) == set()
        assert b'"status":"Fulfilled"' in place
        assert b'"shippingAddress":{"countryCode":' in place


async def test_without_the_policy_all_of_them_are_there(bench: BenchMaker) -> None:
    """The same search finds every one of them without the policy: it would find one that got through."""
    async with bench(probe=True, events=EventSettings(compress_above=500, previous=True)) as b:
        values = personal_values(b.sandbox) | NEW
        await live(b)
        values |= personal_values(b.sandbox)
        assert len(values) > 300
        assert values - leaked(values, await everything(b.redis)) == set()


async def test_what_no_rule_changes_is_as_served(bench: BenchMaker) -> None:
    """Orders without the field are published byte for byte, the others without the field and otherwise as served."""
    async with bench(privacy=policy(orders={"billingAddress": "drop"})) as b:
        odd = b.sandbox.store.ids()[0]
        served = b'{ "id":"%s", "x": 1.50, "billingAddress" : {"zip":"1"}, "y":[ 1e2 ]}' % odd.encode()
        b.sandbox.store.replace(odd, served)
        await b.poll()
        truth = b.sandbox.store.truth()
        same = 0
        for event in await b.events():
            record = json.loads(truth[event.subject])
            if event.subject == odd:
                assert event.data == b'{"id":"%s","x":1.50,"y":[ 1e2 ]}' % odd.encode()
            elif "billingAddress" in record:
                del record["billingAddress"]
                assert json.loads(event.data) == record
            else:
                same += 1
                assert event.data == truth[event.subject]
        assert len(await b.events()) == 50


async def test_another_resource_is_left_alone(bench: BenchMaker) -> None:
    """Rules for one resource change nothing of another: its records and its dead letters are as served."""
    async with bench(probe=True, privacy=policy(notes={"text": "drop"})) as b:
        b.sandbox.store.replace("odd", b'{"id":null,"x":1}')
        await b.poll()
        await b.account.poller.poll(NOTES)
        truth = b.sandbox.store.truth()
        assert {e.subject: e.data for e in await b.events()} == {k: v for k, v in truth.items() if k != "odd"}
        ((_, letter),) = await b.redis.xrange(b.account.keys.dead("orders"))
        assert letter[b"data"] == b'{"id":null,"x":1}'
        notes = [e async for e in stream.follow(b.redis, b.account.keys.stream("notes"), "0", wait=False)]
        assert notes
        assert all("text" not in json.loads(event.data) for event in notes)


async def test_an_unreadable_record_leaves_its_reason(bench: BenchMaker) -> None:
    """What cannot be filtered is not kept, nor its size or a fingerprint, which depend on it."""
    record = b'{"id":null,"email":"broken@example.com"}'
    async with bench(privacy=MINIMAL) as b:
        b.sandbox.store.replace("odd", record)
        await b.poll()
        ((_, letter),) = await b.redis.xrange(b.account.keys.dead("orders"))
        assert letter.keys() == {b"kind", b"reason", b"subject", b"where", b"time"}
        assert letter[b"reason"] == b"the record has no id"


async def test_a_record_too_deep_to_filter_is_unreadable(bench: BenchMaker) -> None:
    """It leaves its id and the reason among the dead letters, and holds up no other record."""
    async with bench(privacy=policy(orders={"**.email": "drop"})) as b:
        deep = b"[" * 400 + b'{"email":"deep@example.com"}' + b"]" * 400
        b.sandbox.store.replace("odd", b'{"id":"odd","v":' + deep + b"}")
        run = await b.poll()
        assert (run.published, run.unreadable, run.error_code) == (50, 1, "unreadable_answer")
        ((_, letter),) = await b.redis.xrange(b.account.keys.dead("orders"))
        assert (letter[b"subject"], letter[b"reason"]) == (b"odd", b"the record is nested too deeply")
        assert letter.keys() == {b"kind", b"reason", b"subject", b"where", b"time"}
        # By its id it is found again.
        (parked,) = [each async for each in DeadLetters(b.redis, b.account.keys).each("orders")]
        assert (await b.poll()).unreadable == 0
        assert await retry_parked(b.redis, b.account.keys, parked)
        assert b"deep@example.com" not in await everything(b.redis)


async def test_equal_values_are_still_equal(bench: BenchMaker) -> None:
    """A hashed mail address is the same in every event of that buyer, and in no other, where both fields are one."""
    fields = {"shippingAddress.email": "hash:mail", "billingAddress.email": "hash:mail"}
    async with bench(privacy=policy(orders=fields)) as b:
        await b.poll()
        truth = b.sandbox.store.truth()
        pairs = set()
        for event in await b.events():
            made, served = json.loads(event.data), json.loads(truth[event.subject])
            for name in ("shippingAddress", "billingAddress"):
                if served[name]:
                    pairs.add((served[name]["email"], made[name]["email"]))
                    assert made[name] == served[name] | {"email": made[name]["email"]}
        assert len(pairs) == len({mail for mail, _ in pairs}) == len({hashed for _, hashed in pairs}) == 50
        assert all(len(hashed) == 32 for _, hashed in pairs)


async def test_a_change_nobody_would_see_is_no_event(bench: BenchMaker) -> None:
    """A change in a hidden field alone is noise; in a field of which a part is published it is an event."""
    async with bench(privacy=MINIMAL) as b:
        b.adjust(ignore_fields={"orders": ("updatedAt",)})
        await b.poll()
        order = b.sandbox.store.ids()[0]
        b.sandbox.store.change(order, meta={"gift": "yes"})
        run = await b.poll()
        assert (run.noise, run.published) == (1, 0)
        b.sandbox.store.change(order, meta={"gift": "no"}, status="Odd")
        run = await b.poll()
        assert (run.noise, run.published) == (0, 1)
        last = (await b.events())[-1]
        assert (last.changed, last.version, "meta" in json.loads(last.data)) == (("status",), 2, False)
        assert (await b.poll()).unchanged == 50


async def test_a_policy_that_is_switched_on_later(bench: BenchMaker) -> None:
    """It holds from the next event on: what was not changed is not published again, what was is filtered."""
    async with bench(probe=True) as b:
        await b.account.poller.poll(ORDER_ITEMS)
        await b.poll()
    async with bench(probe=True, privacy=MINIMAL) as b:
        run = await b.poll()
        assert (run.noise, run.published) == (50, 0)
        order = b.sandbox.store.ids()[0]
        b.sandbox.store.change(order, status="Odd")
        run = await b.poll()
        assert (run.published, run.unchanged) == (1, 49)
        last = (await b.events())[-1]
        assert last.subject == order
        assert leaked(personal_values(b.sandbox), last.data) == set()


POLICIES = {
    "keep": PrivacySettings(),
    "minimal": MINIMAL,
    "drop": policy(orders={"shippingAddress": "drop", "client": "drop"}),
    "mask": policy(orders={"shippingAddress": "mask", "**.email": "mask"}),
    "hash": policy(orders={"shippingAddress": "hash", "items": "hash:item"}),
    "other key": PrivacySettings(fields={"orders": {"shippingAddress": "hash"}}, key=SecretStr(KEY[::-1])),
}


@pytest.mark.parametrize("before", POLICIES)
async def test_switching_the_policy_publishes_nothing(bench: BenchMaker, before: str) -> None:
    """From any policy to any other: no record twice, no false `updated`; a change is published once, and filtered."""
    async with bench(privacy=POLICIES[before]) as b:
        await b.poll()
        order, count = b.sandbox.store.ids()[0], 50
    for number, (name, after) in enumerate(POLICIES.items()):
        async with bench(privacy=after) as b:
            b.adjust(ignore_fields={"orders": ("updatedAt",)})
            run = await b.poll(complete=True)
            assert (run.published, run.records) == (0, 50), name
            b.sandbox.store.change(order, status=f"Odd {number}")
            assert (await b.poll(complete=True)).published == 1
            count += 1
            events = await b.events()
            assert len(events) == len({event.id for event in events}) == count
            assert (events[-1].changed, events[-1].version) == (("status",), number + 2)
            assert (await b.poll(complete=True)).published == 0


async def test_what_was_hidden_is_published_when_it_is_not_any_more(bench: BenchMaker) -> None:
    """A field that changed while no consumer could see it is missing to them: it is published, once."""
    async with bench(privacy=MINIMAL) as b:
        b.adjust(ignore_fields={"orders": ("updatedAt",)})
        await b.poll()
        order = b.sandbox.store.ids()[0]
        b.sandbox.store.change(order, meta={"gift": "yes"}, addressee="a new field")
        assert (await b.poll()).published == 0
    async with bench() as b:
        b.adjust(ignore_fields={"orders": ("updatedAt",)})
        assert (await b.poll(complete=True)).published == 1
        assert set((await b.events())[-1].changed) == {"meta", "addressee"}
        assert (await b.poll(complete=True)).published == 0


async def test_unknown_fields_are_counted_and_named(bench: BenchMaker) -> None:
    """In the run, for each value; in the log, each name once, and no value."""
    async with bench(privacy=MINIMAL) as b:
        await b.poll()
        first, second = b.sandbox.store.ids()[:2]
        with structlog.testing.capture_logs() as lines:
            b.sandbox.store.change(first, giftMessage="For Wilhelmina", status="Odd")
            assert (await b.poll()).withheld == 1
            b.sandbox.store.change(
                second, giftMessage="For Wilhelmina", ofWhom={"name": "Wilhelmina"}, status="Odd"
            )
            assert (await b.poll()).withheld == 2
        assert [line["fields"] for line in lines if line["event"] == "fields_withheld"] == [
            ["giftMessage"], ["ofWhom"],
        ]  # fmt: skip
        assert "Wilhelmina" not in str(lines)
        assert all("giftMessage" not in event.data.decode() for event in await b.events())
        runs = await answer(b.redis.xrevrange(b.account.keys.runs, count=1))
        assert runs[0][1][b"withheld"] == b"2"


def test_in_the_program(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """The settings do the same for `ordersync run`; the key stands in no log and no listing."""
    settings = login_settings(
        sandbox,
        redis_url,
        tmp_path,
        privacy__policy="minimal",
        privacy__fields='{"orders": {"shippingAddress.email": "hash"}}',
        privacy__key=KEY,
        log__level="debug",
    )
    run = ordersync("run", "--once", cwd=tmp_path, **settings)
    assert run.returncode == 0, run.stderr
    shown = ordersync("config", "show", cwd=tmp_path, **settings)
    tail = ordersync("tail", "--json", "--no-follow", "--from", "0", cwd=tmp_path, **settings)
    events = [json.loads(line) for line in tail.stdout.splitlines()]
    assert len(events) == 50
    assert {tuple(event["data"]["shippingAddress"]) for event in events} == {("countryCode", "email")}
    assert leaked(personal_values(sandbox), tail.stdout.encode()) == set()
    assert 'ORDERSYNC_PRIVACY__FIELDS={"orders": {"shippingAddress.email": "hash"}}' in shown.stdout
    for output in (run.stdout, run.stderr, shown.stdout, tail.stdout):
        assert KEY not in output


def test_a_hash_without_a_key_does_not_start(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """The program says what is missing, and ends with 2."""
    fields = '{"orders": {"shippingAddress.email": "hash"}}'
    settings = login_settings(sandbox, redis_url, tmp_path, privacy__fields=fields)
    run = ordersync("run", "--once", cwd=tmp_path, **settings)
    assert run.returncode == 2
    assert "Set ORDERSYNC_PRIVACY__KEY to what `openssl rand -base64 32` prints" in run.stderr
