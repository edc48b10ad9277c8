"""The envelope: what is written is read back, and what others write is refused in clear words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordersync_consumer.envelope import (
    FIELDS,
    data_schema,
    event_id,
    event_type,
    join_names,
    parse,
    source,
    split_names,
)
from worker.errors import DataError

GOOD = {
    b"specversion": b"1.0",
    b"id": b"order:a:1:00000000",
    b"source": b"/ordersync/default/orders",
    b"type": b"io.ordermesh.order.updated",
    b"subject": b"a",
    b"time": b"2026-01-01T10:00:00Z",
    b"datacontenttype": b"application/json",
    b"dataschema": b"urn:ordersync:order:1",
    b"sequence": b"7",
    b"version": b"2",
    b"reason": b"poll",
    b"changed": b"status,a%2Cb",
    b"data": b'{"id":"a"}',
}


@given(st.lists(st.text(max_size=6) | st.text("%,2C5", max_size=6), max_size=6).map(tuple))
def test_names_round_trip(names: tuple[str, ...]) -> None:
    """Names with commas, percent signs or nothing in them are read back as they were."""
    assert split_names(join_names(names)) == names


def test_names_are_plain_as_a_rule() -> None:
    """Usual names stand as they are, so that a consumer may split at commas."""
    assert join_names(("status", "updatedAt")) == "status,updatedAt"


def test_parse_reads_every_attribute() -> None:
    """An entry becomes an event with numbers as numbers and the data untouched."""
    event = parse(b"1-0", GOOD)
    assert (event.entry_id, event.action, event.sequence, event.version) == ("1-0", "updated", 7, 2)
    assert (event.changed, event.data) == (("status", "a,b"), b'{"id":"a"}')


@pytest.mark.parametrize("sequence", [b"7", b"0000000000000007"])
def test_entries_of_before_have_the_line_of_today(sequence: bytes) -> None:
    """An entry from before the leading zeros is read as well, and compares with those behind it in its line."""
    event = parse(b"1-0", GOOD | {b"sequence": sequence})
    line = json.loads(event.json_line())
    assert (event.sequence, line["sequence"]) == (7, "0000000000000007")
    assert line == {
        **{name.decode(): value.decode() for name, value in GOOD.items()},
        "sequence": "0000000000000007",
        "data": {"id": "a"},
        "resource": "orders",
        "entry": "1-0",
    }


@pytest.mark.parametrize("name", FIELDS)
def test_missing_field_is_named(name: str) -> None:
    """An entry without one of the fields is of another hand: the error names entry and field."""
    fields = {key: value for key, value in GOOD.items() if key != name.encode()}
    with pytest.raises(DataError, match=f"entry 5-1 .*{name}.* is missing"):
        parse(b"5-1", fields)


@pytest.mark.parametrize(
    "odd", [{b"sequence": b"seven"}, {b"version": b""}, {b"type": b"\xff"}, {b"changed": b"\xc3"}]
)
def test_odd_value_is_refused(odd: dict[bytes, bytes]) -> None:
    """A value that this program would not write is a DataError and nothing else."""
    with pytest.raises(DataError, match="not an event of ordermesh-sync"):
        parse(b"5-1", GOOD | odd)


@given(
    st.dictionaries(st.binary(max_size=8) | st.sampled_from(list(GOOD)), st.binary(max_size=8), max_size=14)
)
def test_foreign_entries_never_surprise(fields: dict[bytes, bytes]) -> None:
    """Any entry of another hand is a DataError."""
    with pytest.raises(DataError):
        parse(b"\xff", fields | {b"sequence": b"x"})


def test_more_fields_pass() -> None:
    """A later version may add fields."""
    assert parse(b"1-0", GOOD | {b"traceparent": b"00-1"}).id == "order:a:1:00000000"


def test_attributes() -> None:
    """The fixed forms of the attributes."""
    assert source("acme", "orders") == "/ordersync/acme/orders"
    assert data_schema("order", 1) == "urn:ordersync:order:1"
    assert event_type("order", "created") == "io.ordermesh.order.created"
    assert event_id("order", "a", 2, 0xAB) == "order:a:2:000000ab"
