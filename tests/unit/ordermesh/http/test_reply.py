"""Replies: records out of their wrappers, lists, audit entries; the bytes are those that were served."""

from __future__ import annotations

import msgspec
import pytest

from worker.errors import PropertyError, UnreadableAnswer
from worker.ordermesh.http.reply import AUDIT_IDS, AUDIT_TIMES, AuditEntry, Reply, audit_of, list_of

RECORD = b'{"id": "1", "x":1.50,"big":12345678901234567890123 }'


def reply(raw: bytes, key: str = "orders.get", media_type: str = "application/json") -> Reply:
    return Reply(key, 200, raw, media_type, None)


@pytest.mark.parametrize(
    "raw",
    [
        RECORD,
        b'{"order":' + RECORD + b"}",
        b' { "order" : ' + RECORD + b' , "links": {} } ',
        b'{"data":' + RECORD + b"}",
    ],
    ids=["bare", "wrapped", "wrapped with more", "another wrapper"],
)
def test_the_record(raw: bytes) -> None:
    """A single record, whether it is wrapped as expected, otherwise, or not at all, as it was served."""
    found = reply(raw)
    assert found.record == RECORD
    assert found.fields == msgspec.json.decode(RECORD)
    assert found.raw == raw


def test_a_record_is_not_taken_for_a_wrapper() -> None:
    """An operation without a wrapper gives the whole object, whatever objects are in it."""
    raw = b'{"id":"1","order":{"id":"2"}}'
    assert reply(raw, "shipments.get").record == raw
    assert reply(b'{"count":1}', "shipments.get").fields == {"count": 1}


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b"<html>", b'{"order":null}', b'"text"', b'{"a":' * 10_000]
)
def test_no_record(raw: bytes) -> None:
    """Where there is no record, that is said, without what was served."""
    with pytest.raises(UnreadableAnswer, match=r"orders\.get: no record in \d+ bytes of application/json"):
        _ = reply(raw).record


def test_the_value() -> None:
    """Decoded from JSON; an empty answer is None, and what is no JSON is an error that does not repeat it."""
    assert reply(b" [1.5] ").value == [1.5]
    assert reply(b" \n").value is None
    with pytest.raises(UnreadableAnswer, match="19 bytes of text/html that are not valid JSON") as caught:
        _ = reply(b"<p>joe@example.com<", media_type="text/html").value
    assert "joe" not in str(caught.value)


def test_what_was_left_undone() -> None:
    """The vendor's sample of a partial success: a good status, and what was wrong with the rest."""
    raw = b'{"variantsAdded":2,"errors":[{"errorMessage":"Unknown","propertyName":"Variants","attemptedValue":["A"]}]}'
    assert reply(raw, "merchant_catalogs.patch").errors == (PropertyError("Unknown", "Variants"),)
    assert reply(RECORD).errors == ()
    assert reply(b"").errors == ()


def test_a_list() -> None:
    """The records as served, the total, and everything that the reply had."""
    found = list_of(
        reply(b'{"orders":[' + RECORD + b',{}],"total":"7"}', "orders.search"), ("orders",), page=0
    )
    assert [bytes(record) for record in found.records] == [RECORD, b"{}"]
    assert found.values == [msgspec.json.decode(RECORD), {}]
    assert (found.total, found.status, found.key) == (7, 200, "orders.search")


def test_a_list_of_one_without_a_list() -> None:
    """A stored sample of all shipments of an order is one shipment: its packages are not taken for shipments."""
    shipment = b'{"id":"s1","packages":[{"id":"p1"}]}'
    found = list_of(reply(shipment, "shipments.for_order"), ("shipments",))
    assert [bytes(record) for record in found.records] == [shipment]
    catalog = b'{"id":"c1","variants":[{"sku":"a"}]}'
    found = list_of(reply(catalog, "merchant_catalogs.search_variants"), ("variants",))
    assert found.values == [{"sku": "a"}]


def test_no_list() -> None:
    """Where there is no list, that is said with the page that was asked for."""
    with pytest.raises(UnreadableAnswer, match=r"orders\.search page 3: no list under orders"):
        list_of(reply(b'{"message":"x"}', "orders.search"), ("orders",), page=3)


def test_a_broken_record_in_a_list() -> None:
    """It is there as served, and is an error when it is read."""
    found = list_of(reply(b'[{"a":NaN},{}]', "orders.search"), ("orders",))
    assert [bytes(record) for record in found.records] == [b'{"a":NaN}', b"{}"]
    with pytest.raises(UnreadableAnswer):
        _ = found.values


ENTRY = b'{"id": "e1", "timestamp":"2026-02-27T22:29:29.4914307Z" }'


@pytest.mark.parametrize(
    "raw",
    [
        b"[" + ENTRY + b"]",
        b'{"auditLogs":[' + ENTRY + b'],"total":1}',
        b'{"history":[' + ENTRY + b"]}",
        b'{"data":{"events":[' + ENTRY + b'],"page":1}}',
    ],
    ids=["bare", "wrapped", "another wrapper", "twice wrapped"],
)
def test_audit_entries(raw: bytes) -> None:
    """Entries as served, whatever they are wrapped in, with their id and time."""
    found = audit_of(reply(raw, "orders.audit_logs"))
    assert found.entries == (AuditEntry(ENTRY, "e1", "2026-02-27T22:29:29.4914307Z"),)
    assert found.raw == raw


@pytest.mark.parametrize("name", AUDIT_IDS)
@pytest.mark.parametrize("time", AUDIT_TIMES)
def test_names_of_audit_fields(name: str, time: str) -> None:
    """No name is documented, so the usual ones are tried."""
    raw = msgspec.json.encode([{"what": 1, name: 17, time: "2026-02-27T22:29:29"}])
    (entry,) = audit_of(reply(raw, "orders.audit_logs")).entries
    assert (entry.id, entry.time) == ("17", "2026-02-27T22:29:29")


@pytest.mark.parametrize(
    "raw", [b'"text"', b"null", b"{}", b'{"id":null,"timestamp":7,"date":"yesterday"}', b'{"id":"","x":NaN}']
)
def test_audit_entries_that_say_nothing(raw: bytes) -> None:
    """An entry without an id or a time that can be read is kept all the same."""
    assert audit_of(reply(b"[" + raw + b"]", "orders.audit_logs")).entries == (AuditEntry(raw, None, None),)


@pytest.mark.parametrize("raw", [b"2026-02-27 created", b"{}", b'{"a":[],"b":[]}'])
def test_audit_logs_that_cannot_be_read(raw: bytes) -> None:
    """An answer in another format is an error, not an empty log."""
    with pytest.raises(UnreadableAnswer):
        audit_of(reply(raw, "orders.audit_logs"))


def test_nothing_of_a_customer_in_a_repr() -> None:
    """What was served stays out of logs and tracebacks."""
    raw = b'[{"email":"joe@example.com"}]'
    for found in (reply(raw), list_of(reply(raw), ("orders",)), audit_of(reply(raw, "orders.audit_logs"))):
        assert "joe" not in repr(found)
