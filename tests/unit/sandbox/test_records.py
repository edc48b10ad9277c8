import json
import threading
from typing import Any

import pytest

from worker.sandbox.data.record import Record
from worker.sandbox.data.times import Stamps, format_unzoned, parse_ticks, sortable, unzoned
from worker.sandbox.state.records import Records, UnknownRecordError


def make(*ids: str, **fields: Any) -> Records:
    records = Records(threading.RLock())
    for each in ids:
        records.add({"id": each, "createdAt": "2026-01-01T00:00:00.0000000Z", "updatedAt": None} | fields)
    return records


def test_records_keep_the_order_of_their_creation() -> None:
    """Added records come last, a changed one keeps its place, a removed one leaves the others as they are."""
    records = make("a", "b", "c")
    records.put({"id": "b", "text": "changed"})
    records.add({"id": "d"})
    records.remove("a")
    assert records.ids() == ["b", "c", "d"]
    assert [each["id"] for each in records.values()] == ["b", "c", "d"]
    assert [json.loads(each)["id"] for each in records.window(1, 3)] == ["c", "d"]
    assert list(records.truth()) == ["b", "c", "d"]
    assert (len(records), "b" in records, "a" in records) == (3, True, False)


def test_a_record_that_was_read_is_a_copy() -> None:
    """What is done to a record that was read changes nothing until it is put back."""
    records = make("a", tags=["x"])
    copy = records.get("a")
    assert copy is not None
    copy["tags"].append("y")
    assert (records.get("a") or {})["tags"] == ["x"]
    records.put(copy)
    assert json.loads(records.raw("a") or b"")["tags"] == ["x", "y"]


def test_a_record_that_is_not_there() -> None:
    """Reading it gives None, replacing or removing it is an error that names it."""
    records = make()
    assert records.get("nobody") is None
    assert records.raw("nobody") is None
    with pytest.raises(UnknownRecordError, match="'nobody'"):
        records.put({"id": "nobody"})
    with pytest.raises(UnknownRecordError, match="'nobody'"):
        records.remove("nobody")


def test_an_announced_record_is_made_once_when_it_is_asked_for() -> None:
    """Announced records are counted and have their times, and cost nothing until somebody reads them."""
    made: list[str] = []

    def build(record_id: str) -> Record:
        made.append(record_id)
        return {"id": record_id, "n": len(made)}

    records = Records(threading.RLock(), make=build)
    records.announce([("a", "2026-02-01", "2026-01-01"), ("b", "2026-03-01", "2026-01-02")])
    assert (len(records), records.ids(), records.times("b")) == (2, ["a", "b"], ("2026-03-01", "2026-01-02"))
    assert made == []
    assert records.is_announced("b")
    assert records.get("b") == records.get("b") == {"id": "b", "n": 1}
    assert (made, records.is_announced("b"), records.is_announced("a")) == (["b"], False, True)
    records.put({"id": "a", "n": 7})
    assert [each["n"] for each in records.values()] == [7, 1]
    assert made == ["b"]


def test_times_fall_back_to_the_creation() -> None:
    """A record that never changed counts by its creation."""
    records = make("a")
    assert records.times("a") == ("2026-01-01T00:00:00.0000000Z",) * 2
    records.put({"id": "a", "createdAt": "one", "updatedAt": "two"})
    assert records.times("a") == ("two", "one")


def test_filters_compare_values_as_they_stand_in_a_query() -> None:
    """Text, numbers, booleans and null are compared by what a query can say of them."""
    records = make()
    records.add({"id": "a", "n": 4, "flag": True, "text": "x"})
    records.add({"id": "b", "n": 5, "flag": None, "text": "true"})
    for filters, expected in (
        ({"n": "4"}, ["a"]),
        ({"flag": "true"}, ["a"]),
        ({"text": "true"}, ["b"]),
        ({"flag": "null"}, ["b"]),
        ({"n": "5", "text": "x"}, []),
        ({"missing": "null"}, ["a", "b"]),
    ):
        assert records.matching(filters) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-02-27T22:29:29.4914307Z", "2026-02-27T22:29:29.4914307Z"),
        ("2026-02-27T22:29:29", "2026-02-27T22:29:29.0000000Z"),
        ("2026-02-27T22:29:29.5", "2026-02-27T22:29:29.5000000Z"),
        ("2026-02-27T22:29:29.086+02:00", "2026-02-27T20:29:29.0860000Z"),
        ("2026-02-27", "2026-02-27T00:00:00.0000000Z"),
        ("2026-02-27T22:29:29.123456789Z", "2026-02-27T22:29:29.1234567Z"),
        ("1960-01-01", "1970-01-01T00:00:00.0000000Z"),
        ("0001-01-01T00:00:00Z", "1970-01-01T00:00:00.0000000Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.0000000Z"),
        ("soon", ""),
        ("", ""),
        (None, ""),
        (17, ""),
    ],
)
def test_times_compare_as_text(text: object, expected: str) -> None:
    """Every form of a time that the API writes or takes has one form in which times compare; others have none."""
    assert sortable(text) == expected


def test_times_of_the_shipment_service() -> None:
    """Whole seconds without a zone, cut, not rounded."""
    ticks = parse_ticks("2026-02-27T22:29:29.9999999Z")
    assert ticks is not None
    assert format_unzoned(ticks) == "2026-02-27T22:29:29"
    assert unzoned("2026-02-27T22:29:29.9999999Z") == "2026-02-27T22:29:29"
    assert unzoned(None) is None


def test_moments_never_stand_still() -> None:
    """Each moment is later than the one before, and than one that was reached."""
    stamps = Stamps(lambda: 5_000)
    assert [stamps.next(), stamps.next()] == [50, 51]
    stamps.reach(1_000)
    assert stamps.next() == 1_001
