from __future__ import annotations

import pytest

from worker.capture.records.diff import observe
from worker.capture.registry import ORDERS
from worker.errors import UnreadableAnswer
from worker.ordermesh.http.pages import split

GOOD = b'{"id":"a","x":"\xc3\xa9"}'


@pytest.mark.parametrize(
    "bad",
    [
        b'{"id":"b","x":"\\ud800"}',
        b'{"id":"b","x":"a\x01b"}',
        b'{"id":"b","x":NaN}',
        b'{"id":"b","x":"\xff"}',
    ],
    ids=["half a surrogate pair", "a control character", "NaN", "not UTF-8"],
)
@pytest.mark.parametrize(
    ("before", "after", "total"),
    [(b'{"page":1,"orders":[', b'],"total":7}', 7), (b"[", b"]", None)],
    ids=["wrapped", "bare"],
)
def test_one_bad_record_leaves_the_others_readable(
    bad: bytes, before: bytes, after: bytes, total: int | None
) -> None:
    """A page with a record that no strict parser takes is split all the same, byte for byte."""
    page = split("orders.search", before + b", ".join([GOOD, bad, GOOD]) + after, ("orders",), page=1)
    assert [GOOD, bad, GOOD] == [bytes(record) for record in page.records]
    assert total == page.total
    first, _, last = observe(ORDERS, page.records)
    assert (first.identifier, last.identifier) == ("a", "a")


@pytest.mark.parametrize(
    "body",
    [
        b'{"orders":[{"id":"a"},{"id":"b"',
        b'{"orders":[{"id":"a"}',
        b'{"orders" 1}',
        b"no json",
        b'{"other":[\x01]}',
    ],
)
def test_a_page_that_is_cut_short_is_refused_as_a_whole(body: bytes) -> None:
    """Where a record ends cannot be guessed: the poll fails, and nothing is taken for the whole page."""
    with pytest.raises(UnreadableAnswer):
        split("orders.search", body, ("orders",), page=1)
