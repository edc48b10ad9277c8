"""What pages say of the server that gave them."""

import json
from typing import Any

import pytest

from worker.capture.probe import samples as evidence
from worker.capture.probe.samples import PageBase, ProbeRefusal, SamplePage, SampleRecord
from worker.capture.registry import ORDERS, SHIPMENTS
from worker.errors import UnreadableAnswer


def page(*records: tuple[str, int | None], total: int | None = None) -> SamplePage:
    return SamplePage(
        tuple(SampleRecord(id_, at, unchanged=False) for id_, at in records), "orders", None, total
    )


def numbered(first: int, last: int) -> SamplePage:
    return page(*((str(n), n * 10_000) for n in range(first, last)))


def read(body: Any, resource: Any = ORDERS, wrappers: tuple[str, ...] = ("orders",)) -> SamplePage:
    return evidence.sample(resource, resource.search, json.dumps(body).encode(), wrappers)


def test_a_page_with_wrapper_and_total() -> None:
    """Who is on a page, when each was modified, under which key, and how many there are in all."""
    got = read(
        {
            "orders": [
                {"id": "a", "createdAt": "2026-01-01T00:00:00Z", "updatedAt": None},
                {"id": "b", "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-02T00:00:00.5Z"},
            ],
            "totalCount": 7,
        }
    )
    assert got.ids == {"a", "b"}
    assert got.times == [1_767_225_600_000, 1_767_312_000_500]
    assert [one.unchanged for one in got.records] == [True, False]
    assert (got.wrapper, got.total_field, got.total) == ("orders", "totalCount", 7)


def test_a_bare_list_and_a_strange_wrapper() -> None:
    """The layout is told as it is: no wrapper, or the only list there is."""
    assert read([{"id": "a"}]).wrapper == ""
    assert read({"data": [{"id": "a"}], "next": None}).wrapper == "data"


def test_times_without_a_zone() -> None:
    """A shipment's times are UTC."""
    got = read(
        {"shipments": [{"id": "s", "lastModifiedDate": "2022-04-03T12:00:00"}]}, SHIPMENTS, ("shipments",)
    )
    assert got.times == [1_648_987_200_000]


def test_records_that_say_nothing() -> None:
    """A record without id or time, or that is no object, is no reason to give up."""
    got = read([{"id": "a", "updatedAt": "yesterday"}, 7, {"updatedAt": "2026-01-01T00:00:00Z"}])
    assert [(one.id, one.modified is None) for one in got.records] == [("a", True), ("", True), ("", False)]


def test_no_list() -> None:
    """An answer without a list is no page."""
    with pytest.raises(UnreadableAnswer):
        read({"order": {"id": "a"}})


REFUSED = ProbeRefusal(400, "no")


@pytest.mark.parametrize(
    ("zero", "one", "two", "verdict"),
    [
        (numbered(0, 10), numbered(10, 20), numbered(20, 30), PageBase.FROM_0),
        (numbered(0, 10), numbered(0, 10), numbered(10, 20), PageBase.FROM_1),
        (numbered(0, 10), numbered(1, 11), numbered(11, 21), PageBase.FROM_1),  # one has come meanwhile
        (numbered(0, 10), numbered(9, 19), numbered(19, 29), PageBase.FROM_0),  # the same, counted from 0
        (numbered(0, 10), page(), page(), PageBase.FROM_0),
        (page(), numbered(0, 10), page(), PageBase.FROM_1),
        (REFUSED, numbered(0, 10), numbered(0, 10), PageBase.FROM_1),  # page 2 is clamped
        (numbered(0, 10), numbered(10, 15), numbered(10, 15), PageBase.FROM_0),  # likewise
        (numbered(0, 5), numbered(0, 5), numbered(0, 5), PageBase.NOT_TURNED),
        (numbered(0, 5), numbered(0, 5), page(), PageBase.FROM_1),
        (page(), page(), page(), PageBase.EMPTY),
        (REFUSED, page(), page(), PageBase.EMPTY),
        (numbered(0, 10), REFUSED, REFUSED, PageBase.REFUSED),
    ],
)
def test_how_a_list_is_paged(
    zero: SamplePage | ProbeRefusal,
    one: SamplePage | ProbeRefusal,
    two: SamplePage | ProbeRefusal,
    verdict: PageBase,
) -> None:
    """Page 0 is the first one only if it shows other records than page 1; page 2 tells whether pages turn."""
    assert evidence.judge_pages(zero, one, two)[0] is verdict


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (page(), "empty"),
        (numbered(0, 3), "repeats"),
        (ProbeRefusal(404, "no"), "404"),
        (ProbeRefusal(403, "no"), ""),
    ],
)
def test_what_lies_beyond_the_last_page(answer: SamplePage | ProbeRefusal, word: str) -> None:
    """Nothing, the last page once more, or a refusal that says something of the page."""
    assert evidence.past_end(answer) == word


def test_a_filter_must_give_nothing_of_the_future() -> None:
    """A server that ignores a parameter answers as if it were not there."""
    assert evidence.why_not_future(page()) is None
    assert evidence.why_not_future(numbered(0, 3)) == "ignored"
    assert evidence.why_not_future(page(("a", 4_200_000_000_000))) is None  # it is of the future
    assert evidence.why_not_future(page(total=50)) == "does not reduce the total"
    assert "refused" in (evidence.why_not_future(ProbeRefusal(400, "unknown parameter")) or "")


def test_witnesses() -> None:
    """A filter is tried on a record that was changed well after it was made, and on one that never was."""
    old, new = (
        SampleRecord("old", 50_000, unchanged=False, created=1),
        SampleRecord("new", 90_000, unchanged=False, created=1),
    )
    fresh = SampleRecord("fresh", 95_000, unchanged=True, created=95_000)
    at_once = SampleRecord("at once", 99_000, unchanged=False, created=98_000)
    future = SampleRecord("future", 4_200_000_000_000, unchanged=False, created=1)
    assert evidence.last_changed([old, new, fresh, at_once, future]) == new
    assert evidence.last_unchanged([old, new, fresh, at_once]) == fresh
    assert evidence.last_changed([fresh]) is None
    assert evidence.last_unchanged([old, new]) is None
    made = SampleRecord("made", 70_000, unchanged=False, created=70_000)
    assert evidence.last_unchanged([old, made]) == made
    assert evidence.just_before(new, 30_000) == 60_000
    assert evidence.just_before(SampleRecord("x", 90_000, unchanged=False, created=80_000), 30_000) == 85_000
    assert evidence.just_before(fresh, 30_000) == 65_000


def test_times_may_be_kept_by_the_second() -> None:
    """A record that seems up to a second too old may have been rounded."""
    assert evidence.older(page(("a", 49_000)), 50_000) == []
    assert len(evidence.older(page(("a", 48_999), ("b", None)), 50_000)) == 1


def test_order() -> None:
    """An order is judged by all records of a page, and by enough of them."""
    rising = numbered(0, 5)
    assert evidence.is_sorted(rising, descending=False)
    assert not evidence.is_sorted(rising, descending=True)
    assert not evidence.is_sorted(page(("a", 1), ("b", None), ("c", 3)), descending=False)
    assert evidence.can_show_order(rising)
    assert not evidence.can_show_order(page(("a", 1), ("b", 1), ("c", 2)))
    falling = page(*((str(n), n * 10_000) for n in range(9, 4, -1)))
    assert evidence.shows_both_orders(rising, falling)
    assert not evidence.shows_both_orders(rising, rising)
    assert not evidence.shows_both_orders(falling, falling)
    assert not evidence.shows_both_orders(page(("a", 1)), page(("b", 2)))
    assert not evidence.shows_both_orders(page(), page())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"auditLogs": [{"id": 1, "action": "x"}]}, "a list under auditLogs, entries with id, action"),
        ([{"auditId": 1}], "a bare list, entries with auditId"),
        ({"auditLogs": []}, "a list under auditLogs, empty"),
        (["created by x"], "a bare list, entries are of type str"),
        ({"a": [], "b": []}, "an object with the fields a, b"),
        ("text", "a str"),
        (None, "a NoneType"),
    ],
)
def test_the_shape_of_audit_logs(value: Any, words: str) -> None:
    """What an audit log looks like, without what stands in it."""
    assert evidence.shape(value) == words
