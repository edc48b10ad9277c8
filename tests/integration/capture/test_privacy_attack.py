"""Somebody who may read what a consumer may read tries to find hidden values, knowing all else of the records."""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import re
import zlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import pytest
import xxhash
from pydantic import SecretStr
from redis.asyncio import Redis

from ordersync_consumer import envelope
from tests.support.worker import Bench, BenchMaker
from worker.capture.records.fields import FieldIndex
from worker.capture.records.fingerprint import read_content
from worker.capture.registry import AUDIT_LOGS, CAPTURED, RESOURCES
from worker.config.sections import EventSettings, PrivacySettings
from worker.redis.connections import answer

pytestmark = pytest.mark.anyio

KEY = "tU3kQ9vXz7LmN2pRs8Wy4BfGh6JcD1eA"
ACL = Path(__file__).parents[3] / "deploy" / "redis" / "users.acl"
CANDIDATES = [f"+1555010{number:04}" for number in range(1200, 1205)]
PHONE = CANDIDATES[3]
PLACES = ("shippingAddress.phone", "meta", "note", "user")


def policy(rule: str) -> PrivacySettings:
    """The policy `minimal`, or a rule for every field in which the phone number stands."""
    if rule == "minimal":
        return PrivacySettings(policy="minimal")
    fields = {name: dict.fromkeys(PLACES, rule) for name in CAPTURED}
    return PrivacySettings(fields=fields, key=SecretStr(KEY))


def order(phone: str, **more: Any) -> bytes:
    """An order to a phone number, as it is served."""
    record = {
        "id": "67789cd8912265b1f5000ba4", "status": "Open", "updatedAt": "2026-11-20T10:00:00Z",
        "shippingAddress": {"countryCode": "US", "phone": phone}, "meta": {"call": phone}, "note": phone,
    }  # fmt: skip
    return json.dumps(record | more).encode()


def unreadable(phone: str) -> bytes:
    """A record without an id, and one that ends too early."""
    return json.dumps({"id": None, "note": phone}).encode()


def served(phone: str) -> list[bytes]:
    """Everything that the service has shown in which the phone number stands."""
    later = order(phone, status="Sent", updatedAt="2026-11-21T10:00:00Z")
    return [
        order(phone),
        later,
        order(phone[:-1], status="Sent", updatedAt="2026-11-21T10:00:00Z"),
        unreadable(phone),
    ]


async def live(b: Bench, phone: str) -> None:
    """Let the worker read it all, and nothing else but two orders."""
    for identifier in b.sandbox.store.ids()[2:]:
        b.sandbox.store.delete(identifier)
    first, later, other, broken = served(phone)
    for record in (first, later, other):
        b.sandbox.store.replace("67789cd8912265b1f5000ba4", record)
        await b.poll(complete=True)
    b.sandbox.store.replace("odd", broken)
    await b.poll(complete=True)
    for resource in (RESOURCES["shipments"], RESOURCES["notes"], AUDIT_LOGS["order_audit"]):
        await b.account.poller.poll(resource, complete=True)


def patterns() -> list[str]:
    """The keys that the user `consumer` of the delivered users may read."""
    text = re.sub(r"^#.*$", "", ACL.read_text("utf-8"), flags=re.MULTILINE)
    rights = text.partition("user consumer ")[2].partition("\nuser ")[0]
    found = [
        pattern.replace("{account}", "{default}").replace("{resource}", "*").replace("{group}", "*")
        for pattern in re.findall(r"~(\S+?)\)?(?=\s|$)", rights)
    ]
    assert any("stream" in pattern for pattern in found)
    return found


async def readable(redis: Redis) -> bytes:
    """All that stands in those keys; what is compressed, as it was, too."""
    pieces: list[bytes] = []
    for key in sorted(await redis.keys("*")):
        name = key.decode("utf-8", "replace")
        if not any(fnmatchcase(name, pattern) for pattern in patterns()):
            continue
        assert re.search(r":(stream|dead|accounts|replayed|holder|once|group)\b", name), name
        pieces.append(key)
        kind = (await redis.type(key)).decode()
        if kind == "stream":
            pieces += [
                each for _, fields in await redis.xrange(key) for pair in fields.items() for each in pair
            ]
        elif kind == "set":
            pieces += await answer(redis.smembers(key))
        else:
            pieces.append(await redis.get(key))
    return b"\n".join(pieces + [zlib.decompress(each, 31) for each in pieces if each[:2] == b"\x1f\x8b"])


def digests(text: bytes) -> Iterator[bytes]:
    """Every hash that somebody might have made of it without a secret."""
    for name in ("md5", "sha1", "sha256", "sha512", "blake2b", "blake2s", "sha3_256"):
        yield hashlib.new(name, text).digest()
    for guess in (b"", b"default", b"orders", b"ordersync", bytes(32)):
        yield hmac.digest(guess, text, "sha256")
    for function in (xxhash.xxh3_64_digest, xxhash.xxh64_digest, xxhash.xxh32_digest, xxhash.xxh3_128_digest):
        yield function(text)
    yield binascii.crc32(text).to_bytes(4, "big")
    yield zlib.adler32(text).to_bytes(4, "big")


def traces(phone: str) -> Iterator[bytes]:
    """What would stand somewhere if it depended on this phone number: hashes of it, and of what contains it."""
    texts = [phone.encode(), json.dumps(phone).encode()]
    for record in served(phone):
        texts.append(record)
        fields = json.loads(record)
        texts += [msgspec.msgpack.encode(value, order="sorted") for value in fields.values()]
        for ignored in (frozenset[str](), frozenset({"meta", "note"}), frozenset({"meta"})):
            content = read_content(record, ignored)
            for names in (sorted(content.names), list(content.names)):
                made = FieldIndex(names).place(content)
                yield b"%08x" % made.content
                yield made.fields
        texts.append(msgspec.msgpack.encode(fields, order="sorted"))
    for text in texts:
        for digest in digests(text):
            halves = {digest, digest[:8], digest[-8:], digest[:4], digest[-4:]}
            yield from (half.hex().encode() for half in halves)
            yield from (b"%d" % int.from_bytes(half, "big") for half in halves if len(half) == 8)
            yield from (half for half in halves if len(half) >= 8)
    yield phone.encode()


def found(place: bytes) -> set[str]:
    """The candidates that left a trace which not all of them left."""
    left = {phone: {trace for trace in traces(phone) if trace in place} for phone in CANDIDATES}
    common = set.intersection(*left.values())
    return {phone for phone, those in left.items() if those - common}


@pytest.mark.parametrize("rule", ["minimal", "drop", "mask", "hash", "hash:person"])
async def test_nothing_is_found(bench: BenchMaker, rule: str) -> None:
    """No candidate fits what a consumer may read better than another. The same search finds an id as it was before."""
    intervals = dict.fromkeys(("orders", "shipments", "notes", "order_audit"), 1.0)
    events = EventSettings(compress_above=1, previous=True)
    async with bench(privacy=policy(rule), events=events, intervals=intervals) as b:
        await live(b, PHONE)
        place = await readable(b.redis)
        own = [event for event in await b.events() if event.subject == "67789cd8912265b1f5000ba4"]
        assert len(own) >= 2
        assert b"the record has no id" in place
    assert found(place) == set()
    names = sorted(json.loads(order(PHONE)))
    content = FieldIndex(names).place(read_content(order(PHONE), frozenset())).content
    assert found(place + envelope.event_id("order", own[0].subject, 1, content).encode()) == {PHONE}
    assert found(place + xxhash.xxh3_64_hexdigest(unreadable(PHONE)).encode()) == {PHONE}


@pytest.mark.parametrize("rule", ["minimal", "drop", "mask"])
async def test_two_hidden_values_look_the_same(bench: BenchMaker, rule: str) -> None:
    """What a consumer may read of a record, and of one that cannot be read, is the same whatever is hidden."""
    seen = []
    for phone in (PHONE, "+44"):
        async with bench(privacy=policy(rule)) as b:
            await b.redis.flushall()
            await live(b, phone)
            stream, dead = b.account.keys.stream("orders"), b.account.keys.dead("orders")
            entries = [fields for key in (stream, dead) for _, fields in await b.redis.xrange(key)]
            seen.append(
                [{name: each for name, each in fields.items() if name != b"time"} for fields in entries]
            )
    assert seen[0] == seen[1]
    assert len(seen[0]) >= 3
