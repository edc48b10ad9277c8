"""The ids of events: recorded ones without a policy, and with one nothing in them that is hidden."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from pydantic import SecretStr

from worker.capture.records import audit
from worker.capture.records.actions import Action
from worker.capture.records.decoding import decode
from worker.capture.records.diff import Change, decide
from worker.capture.records.events import EventBuilder
from worker.capture.records.fields import FieldIndex
from worker.capture.records.payload import AS_SERVED, PayloadOptions, payload_of
from worker.capture.records.raw_records import observe
from worker.capture.registry import ORDERS
from worker.config.sections import EventSettings, PrivacySettings
from worker.ordermesh.http.reply import entry_of

KEY = "tU3kQ9vXz7LmN2pRs8Wy4BfGh6JcD1eA"
ORDER = {
    "id": "67789cd8912265b1f5000ba4", "status": "Open", "updatedAt": "2026-11-20T10:00:00Z", "customerTotal": 12.50,
    "shippingAddress": {"firstName": "Ada", "phone": "+15550101234", "countryCode": "US"},
    "items": [{"id": "i1", "sku": "MUG", "quantity": 2}], "meta": {"gift": "yes"},
}  # fmt: skip
RECORDED = [
    "order:67789cd8912265b1f5000ba4:1:82be12a2",
    "order:67789cd8912265b1f5000ba4:2:90475084",
    "order:67789cd8912265b1f5000ba4:3:1178e1b8",
]
RECORDED_IGNORING = "order:67789cd8912265b1f5000ba4:1:c921516a"
RECORDED_ENTRIES = ["order_audit:o1:1:bb820fd3", "order_audit:o1:2:31583fa8"]
ENTRIES = (
    {"id": "a1", "timestamp": "2026-11-20T10:00:00Z", "action": "Updated", "user": "ada@example.com"},
    {"timestamp": "2026-11-20T11:00:00Z", "action": "Updated", "user": "ada@example.com"},
)


class Life:
    """One record, read again and again under one policy."""

    def __init__(self, payload: PayloadOptions = AS_SERVED, *ignored: str) -> None:
        self.payload, self.names, self.state = payload, FieldIndex(), b""
        names = frozenset(ignored)
        self.ignored = payload.privacy.hidden_with(names) if payload.privacy else names

    def read(self, record: dict[str, Any]) -> Change:
        """What becomes of the record."""
        raw = msgspec.Raw(json.dumps(record).encode())
        (observed,) = observe(ORDERS, [raw], ignored=self.ignored)
        decoded = decode(ORDERS, observed, self.state, self.ignored, self.payload.privacy)
        assert decoded.content is not None
        self.names.update([*self.names._names, *self.names.unknown(sorted(decoded.content.names))])
        change = decide(decoded, self.names, baseline=True)
        self.state = change.after
        return change

    def event(self, record: dict[str, Any]) -> list[object]:
        """The event of the record."""
        change = self.read(record)
        builder = EventBuilder("order", self.payload)
        return [*builder.event(change, 0.0), builder.published(change)]


def entry_events(payload: PayloadOptions, *entries: dict[str, Any]) -> list[list[object]]:
    """The events of entries of a log."""
    raws = [json.dumps(entry).encode() for entry in entries]
    log = audit.new_entries("o1", b"".join(raws), [entry_of(raw) for raw in raws], b"", payload.privacy)
    assert log is not None
    return [[*event, data] for event, data in EventBuilder("order_audit", payload).recorded(log, 0.0)]


def test_ids_without_a_policy_are_what_they_were() -> None:
    """Recorded before there was another way to make them: a consumer deduplicates by them."""
    life, quiet = Life(), Life(AS_SERVED, "updatedAt", "meta")
    versions = [ORDER, ORDER | {"status": "Sent"}, ORDER | {"status": "Sent", "new": [1, None, 2.5]}]
    assert [life.event(record)[0] for record in versions] == RECORDED
    assert quiet.event(ORDER)[0] == RECORDED_IGNORING
    assert [event[0] for event in entry_events(AS_SERVED, *ENTRIES)] == RECORDED_ENTRIES


def options(rule: str = "", **settings: Any) -> PayloadOptions:
    """The payload options of orders under the policy `minimal`, or with a rule for two fields."""
    hidden = dict.fromkeys(("shippingAddress.phone", "meta", "user", "note"), rule) if rule else {}
    privacy = PrivacySettings(
        fields={"orders": hidden, "order_audit": hidden}, key=SecretStr(KEY), **settings
    )
    return payload_of("orders", privacy, EventSettings(), "default")


def ordered(phone: str, gift: str, **more: Any) -> dict[str, Any]:
    """The order, to a phone and with a gift message."""
    address = {"firstName": "Ada", "phone": phone, "countryCode": "US"}
    return ORDER | {"shippingAddress": address, "meta": {"gift": gift}} | more


def history(payload: PayloadOptions, phone: str) -> list[list[object]]:
    """The events of an order and of a log in which a phone number stands."""
    life = Life(payload)
    found = [life.event(ordered(phone, f"call {phone}"))]
    found.append(life.event(ordered(phone, phone, status="Sent")))
    found.append(life.event(ordered(f"{phone}0", phone, status="Sent")))
    found.append(life.event(ordered(f"{phone}0", phone, status="Done", updatedAt="2026-11-21T10:00:00Z")))
    return found + entry_events(payload, *(entry | {"user": phone, "note": phone} for entry in ENTRIES))


@pytest.mark.parametrize("payload", [options("drop"), options("mask"), options(policy="minimal")])
def test_events_of_two_hidden_values_are_equal(payload: PayloadOptions) -> None:
    """Whatever was hidden: the same events with the same ids, so that nothing can be tried against them."""
    one, other = history(payload, "+15550101234"), history(payload, "+4420790")
    assert one == other
    assert (
        len({str(event[0]) for event in one}) == 6
    )  # the version is a part of the id, also where nothing is shown


def test_an_id_follows_what_is_published() -> None:
    """The same version of another published content has another id; another spelling of the same has not."""
    payload = options(policy="minimal")
    ids = [Life(payload).event(ordered("1", "x", status=status))[0] for status in ("Open", "Sent", "Open")]
    assert ids[0] == ids[2] != ids[1]
    assert Life(payload).event(dict(reversed(ordered("1", "x").items())))[0] == ids[0]


def test_the_time_of_an_event_is_a_published_one() -> None:
    """A hidden modification time is not told: the event has the time at which it was observed."""
    policy = PrivacySettings(fields={"orders": {"updatedAt": "drop"}, "order_audit": {"timestamp": "mask"}})
    payload = payload_of("orders", policy, EventSettings(), "default")
    assert Life(payload).event(ORDER)[3] == "1970-01-01T00:00:00.000Z"
    assert Life().event(ORDER)[3] == ORDER["updatedAt"]
    of_log = payload_of("order_audit", policy, EventSettings(), "default")
    assert entry_events(of_log, ENTRIES[0])[0][3] == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "record", [b'{"id":null,"phone":"%s"}', b'{"phone":"%s"', b'"%s"', b'{"id":"a","x":"%s",}']
)
def test_a_dead_letter_of_an_unreadable_record_tells_nothing(record: bytes) -> None:
    """Neither its size, nor a fingerprint, nor where the parser has stopped."""
    found = []
    for phone in (b"+15550101234", b"+4420790"):
        payload = options("drop")
        assert payload.privacy
        (observed,) = observe(ORDERS, [msgspec.Raw(record % phone)])
        change = decide(
            decode(ORDERS, observed, b"", frozenset(), payload.privacy), FieldIndex(), baseline=True
        )
        assert change.action is Action.UNREADABLE
        found.append(EventBuilder("order", payload).dead_letter(change, 0.0, "orders.search page 1"))
    assert found[0] == found[1]
    assert not {"data", "size", "fingerprint"} & set(map(str, found[0]))


BEFORE = ("meta", "customerPaymentMethods", "email", "phone", "address")
"""Some of the top-level fields that the policy `minimal` dropped when it was a list of names."""


@pytest.mark.parametrize("ignored", [(), BEFORE])
def test_states_of_the_policy_before(ignored: tuple[str, ...]) -> None:
    """Of a state written without a policy, or by a version with another `minimal`: nothing is published but changes."""
    before = Life(AS_SERVED, *ignored)
    before.read(ORDER | {"unknown": 1})
    life = Life(options(policy="minimal"))
    life.state, life.names = before.state, before.names
    assert life.read(ORDER | {"unknown": 2}).action is Action.NOISE
    assert life.read(ORDER | {"meta": None}).action is Action.NOISE
    change = life.read(ORDER | {"status": "Sent", "unknown": 3, "other": 4})
    assert (change.action, change.version, change.changed) == (Action.UPDATED, 2, ("status",))
    after = Life(AS_SERVED, *ignored)
    after.state, after.names = life.state, life.names
    change = after.read(ORDER | {"status": "Sent", "unknown": 3, "other": 4})
    assert change.action is Action.NOISE
    # What changed while it was hidden is missing to consumers when it is not any more.
    after.state = life.read(ORDER | {"status": "Sent", "unknown": 5}).after
    change = after.read(ORDER | {"status": "Sent", "unknown": 5})
    assert (change.action, set(change.changed)) == (Action.UPDATED, {"unknown", "other"})
