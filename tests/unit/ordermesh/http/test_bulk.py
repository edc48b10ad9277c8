"""Bulk answers: every item that was sent has one result, and none is done that the server did not say is done."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import PropertyError, UnreadableAnswer
from worker.ordermesh.http.bulk import BulkReply, chunks, envelope, joined, results
from worker.ordermesh.http.reply import Reply

SENT = [{"id": "a"}, {"id": "b"}, {"id": "c"}]


def reply(body: Any, key: str = "orders.update_many") -> Reply:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Reply(key, 200, raw, "application/json", None)


def read(body: Any, sent: list[dict[str, Any]] = SENT, *, first: int = 0, reads: bool = False) -> BulkReply:
    return results(reply(body), sent, first=first, reads=reads)


def outcomes(found: BulkReply) -> list[tuple[int, str | None, int | None, bool | None]]:
    return [(item.position, item.id, item.status, item.ok) for item in found.items]


def test_envelope() -> None:
    """The one documented shape of a bulk request."""
    assert envelope(({"a": 1}, {"b": 2})) == {"bulk": [{"a": 1}, {"b": 2}]}


def test_chunks() -> None:
    """In order, nothing twice, nothing lost."""
    assert [list(part) for part in chunks(range(5), 2)] == [[0, 1], [2, 3], [4]]
    assert list(chunks([], 2)) == []
    with pytest.raises(ValueError, match="1 or more"):
        list(chunks([1], 0))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rows: rows,
        lambda rows: {"bulk": rows},
        lambda rows: {"results": rows, "warnings": []},
        lambda rows: {"orders": rows, "count": 3},
    ],
    ids=["bare", "bulk", "results", "only list"],
)
def test_wrappers(wrap: Any) -> None:
    """A bare list or one under any name gives the same items."""
    rows = [{"id": "a", "statusCode": 200}, {"id": "b", "statusCode": "404"}, {"id": "c", "status": 201}]
    found = read(wrap(rows), first=10)
    assert outcomes(found) == [(10, "a", 200, True), (11, "b", 404, False), (12, "c", 201, True)]
    assert [item.position for item in found.failed] == [11]
    assert found.unknown == ()
    assert found.unmatched == ()


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("name", ["index", "position"])
def test_told_positions_win(name: str, base: int) -> None:
    """Results in any order, told apart by their positions, counted from 0 or from 1."""
    rows = [{name: base + at, "isSuccess": at != 1} for at in (2, 0, 1)]
    assert [(item.position, item.ok) for item in read(rows).items] == [(0, True), (1, False), (2, True)]


def test_positions_of_failures_alone() -> None:
    """A server that tells of failures alone says nothing of the rest, so the rest is unknown."""
    found = read([{"index": 0, "errors": [{"errorMessage": "no", "propertyName": "sku"}]}])
    assert outcomes(found) == [(0, None, None, False), (1, None, None, None), (2, None, None, None)]
    assert found.items[0].errors == (PropertyError("no", "sku"),)
    assert [item.position for item in found.unknown] == [1, 2]
    assert found.items[1].raw is None


@pytest.mark.parametrize("told", [[1, 2], [1, 1, 2], [0, 3, 1], [0, 9, 2], [0, True, 2]], ids=str)
def test_positions_that_cannot_be_believed(told: list[int]) -> None:
    """Of positions whose base cannot be told, that are doubled or out of range, nothing is concluded."""
    found = read([{"index": number, "isSuccess": True} for number in told])
    if len(told) == len(SENT):
        assert [item.ok for item in found.items] == [True] * 3  # as many as were sent: by their order
    else:
        assert [item.ok for item in found.items] == [None] * 3
        assert len(found.unmatched) == len(told)


def test_ids_where_there_are_no_positions() -> None:
    """Results in another order are matched by the ids that they were sent with, wherever these stand."""
    rows = [
        {"order": {"id": "c"}, "success": True},
        {"orderId": "a", "success": True},
        {"data": {"id": "b"}, "success": False, "error": {"code": "x", "message": "no such order"}},
    ]
    found = read(rows)
    assert outcomes(found) == [(0, "a", None, True), (1, "b", None, False), (2, "c", None, True)]
    assert found.items[1].errors == (PropertyError("no such order", ""),)


def test_missing_results_are_unknown() -> None:
    """Fewer results than items: the missing ones are unknown, never done."""
    found = read([{"id": "c", "statusCode": 200}, {"id": "a", "statusCode": 200}])
    assert outcomes(found) == [(0, "a", 200, True), (1, None, None, None), (2, "c", 200, True)]


def test_fewer_results_without_ids() -> None:
    """It cannot be told whose they are: all are unknown, and the results are kept."""
    found = read([{"statusCode": 200}, {"statusCode": 500}])
    assert [item.ok for item in found.items] == [None] * 3
    assert found.unmatched == (b'{"statusCode":200}', b'{"statusCode":500}')


def test_order_where_nothing_is_told() -> None:
    """As many results as items, and nothing to tell them apart: by their order."""
    found = read([{"statusCode": 200}, {"statusCode": 409}, {"statusCode": 200}])
    assert [item.ok for item in found.items] == [True, False, True]


def test_some_ids_in_another_order() -> None:
    """Where the told ids show that the order is another one, what is left over is not guessed at."""
    rows: list[dict[str, Any]] = [{"id": "b", "statusCode": 200}, {"statusCode": 500}, {"statusCode": 200}]
    found = read(rows)
    assert [item.ok for item in found.items] == [None, True, None]
    assert len(found.unmatched) == 2
    rows[1]["id"] = "a"
    assert [item.ok for item in read(rows).items] == [False, True, True]  # the last one can be nobody else's


def test_ids_in_their_order() -> None:
    """A refusal without an id stands at the place of its item when all the others do."""
    found = read([{"id": "a", "ok": True}, {"errors": ["no"]}, {"id": "c", "ok": True}])
    assert [item.ok for item in found.items] == [True, False, True]


def test_ids_that_two_items_share() -> None:
    """An id that was sent twice tells nothing."""
    sent = [{"safeId": "s1", "externalId": "x"}, {"safeId": "s2", "externalId": "x"}]
    rows = [{"order": {"id": "9", "safeId": "s2", "externalId": "x"}, "statusCode": 201}]
    assert outcomes(read(rows, sent)) == [(0, None, None, None), (1, "9", 201, True)]


@pytest.mark.parametrize("number", [1, "1"])
def test_ids_may_be_numbers(number: Any) -> None:
    """An id is the same as a number and as text."""
    found = read([{"id": 2, "ok": True}, {"id": number, "ok": False}], [{"id": "1"}, {"id": 2}])
    assert [item.ok for item in found.items] == [False, True]


def test_more_results_than_items() -> None:
    """What cannot be told apart is not done; those with an id are."""
    found = read([{"id": "a", "ok": True}, {"id": "x", "ok": True}, {"ok": True}, {"ok": True}])
    assert [item.ok for item in found.items] == [True, None, None]
    assert len(found.unmatched) == 3


@pytest.mark.parametrize(
    ("row", "ok", "errors"),
    [
        ({"isSuccess": True, "errors": []}, True, ()),
        ({"isSuccess": True, "message": "Created"}, True, ()),
        ({"isSuccess": True, "errors": ["partly"]}, True, (PropertyError("partly", ""),)),
        ({"succeeded": False, "message": "why"}, False, (PropertyError("why", ""),)),
        ({"statusCode": 207}, True, ()),
        ({"statusCode": 302}, False, ()),
        ({"errorMessage": "why"}, False, (PropertyError("why", ""),)),
        ({"error": "why"}, False, (PropertyError("why", ""),)),
        ({"message": "Order created"}, None, ()),
        ({"status": "Open"}, None, ()),
        ({"status": 4}, None, ()),
        ({"id": "a", "errors": None}, None, ()),
        ({}, None, ()),
        ("done", None, ()),
        (None, None, ()),
    ],
    ids=str,
)
def test_what_a_result_says(row: Any, ok: bool | None, errors: tuple[PropertyError, ...]) -> None:
    """Flags, statuses of HTTP and errors tell; states of a record, messages and an id alone do not."""
    (item,) = read([row], [{"id": "a"}]).items
    assert (item.ok, item.errors) == (ok, errors)
    assert item.raw == msgspec.json.encode(row)


def test_a_read() -> None:
    """A record that was asked for and is there was read; one that is not there is unknown; an error is one."""
    rows = [{"id": "c", "status": "Open"}, {"id": "a", "statusCode": 404}]
    assert outcomes(read({"orders": rows}, reads=True)) == [
        (0, "a", 404, False),
        (1, None, None, None),
        (2, "c", None, True),
    ]


@pytest.mark.parametrize("body", [b"{}", b"<html>", b'{"a":[],"b":[]}', b'"accepted"'])
def test_answers_without_a_list(body: bytes) -> None:
    """A write whose answer cannot be read is unknown, item by item; a read is an error."""
    assert [item.ok for item in read(body).items] == [None] * 3
    with pytest.raises(UnreadableAnswer):
        read(body, reads=True)


def test_an_answer_without_a_body() -> None:
    """It says nothing of any item, whether it was to be written or read."""
    for reads in (False, True):
        assert [item.ok for item in read(b"", reads=reads).items] == [None] * 3


def test_a_result_that_breaks_the_json() -> None:
    """One result that is broken does not take the others with it."""
    found = read(b'[{"id":"a","ok":true},{"id":"b","ok":NaN},{"id":"c","ok":true}]')
    assert [item.ok for item in found.items] == [True, None, True]


def test_joined() -> None:
    """Several requests are one answer."""
    one, two = read([{"ok": True}] * 3), read([], first=3)
    both = joined([one, two])
    assert [item.position for item in both.items] == [0, 1, 2, 3, 4, 5]
    assert both.replies == one.replies + two.replies


def test_nothing_of_a_customer_in_a_repr() -> None:
    """What was served stays out of logs and tracebacks."""
    found = read([{"email": "joe@example.com"}] * 4)
    assert "joe" not in repr(found)
    assert "joe" not in repr(read([{"email": "joe@example.com"}] * 3))


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-2, 600), st.sampled_from(["a", "b", "c", "x", ""]))
ROWS = st.one_of(
    SCALARS,
    st.dictionaries(
        st.sampled_from(
            ["id", "orderId", "index", "position", "statusCode", "ok", "order", "errors", "error"]
        ),
        st.one_of(SCALARS, st.dictionaries(st.sampled_from(["id", "message"]), SCALARS), st.lists(SCALARS)),
    ),
)


@given(st.lists(ROWS, max_size=6), st.integers(0, 4), st.booleans())
def test_whatever_is_answered(rows: list[Any], count: int, reads: bool) -> None:
    """Each item has one result at its place, each result one item at most, and none is done without saying so."""
    sent: list[dict[str, Any]] = [{"id": each} for each in ("a", "b", "c", "d")[:count]]
    found = read(rows, sent, first=7, reads=reads)
    assert [item.position for item in found.items] == list(range(7, 7 + count))
    raws = sorted([item.raw for item in found.items if item.raw is not None] + list(found.unmatched))
    assert raws == sorted(msgspec.json.encode(row) for row in rows)
    for item in found.items:
        if item.raw is None:
            assert item.ok is None
        elif item.ok and not reads:
            row = msgspec.json.decode(item.raw)
            assert row.get("ok") is True or str(row.get("statusCode")).startswith("2")
