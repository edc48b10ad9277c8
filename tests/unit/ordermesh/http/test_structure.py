from __future__ import annotations

import pytest

from worker.capture.records.raw_records import observe
from worker.capture.registry import ORDERS
from worker.errors import UnreadableAnswer
from worker.ordermesh.http.pages import split
from worker.ordermesh.http.structure import MAX_TOKENS, elements_of

GOOD = b'{"id":"a","x":"\xc3\xa9"}'


@pytest.mark.parametrize(
    "bad",
    [
        b'{"id":"b","x":"\\ud800"}',
        b'{"id":"b","x":"a\x01b"}',
        b'{"id":"b","x":NaN}',
        b'{"id":"b","x":"\xff"}',
        b'{"id":"b","x":' + b"[" * 1_000 + b"]" * 1_000 + b"}",
        b'{"id":"b","x":' + b'{"":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
        b'{"id":"b","x":NaN,"y":' + b"9" * 5_000 + b"}",
        b'{"id":"b",}',
        b'{"id":"b","x":"\\\\\\"]\x01\\\\"}',
    ],
    ids=[
        *("half a surrogate pair", "a control character", "NaN", "not UTF-8", "deep", "very deep"),
        *("long number", "a comma too many", "escapes"),
    ],
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


def test_a_record_that_is_nested_deeply_is_named() -> None:
    """It is one unreadable record with its id, which is counted, and whose dead letter says what it is."""
    deep = b'{"x":' + b"[" * 1_000 + b"]" * 1_000 + b', "id" : "b"}'
    (found,) = observe(
        ORDERS, split("orders.search", b'{"orders":[' + deep + b"]}", ("orders",), page=1).records
    )
    assert (found.identifier, found.problem) == ("b", "the record is nested too deeply")


@pytest.mark.parametrize("inner", [b'"",', b"[],", b'{"":1},', rb'"\"",'])
def test_a_text_of_very_many_parts(inner: bytes) -> None:
    """What takes long to read is refused; the error is that of any page that is not a list."""
    with pytest.raises(ValueError, match=f"more than {MAX_TOKENS} strings and brackets"):
        elements_of(b"[[" + inner * MAX_TOKENS + b"1]]")


@pytest.mark.parametrize("part", [b"x", b"\\\\", b"9"])
def test_a_text_with_one_long_part(part: bytes) -> None:
    """A string of two megabytes is passed over at once, backslashes as well."""
    quote = b"" if part == b"9" else b'"'
    value = quote + part * (1 << 20) + quote
    assert [bytes(each) for each in elements_of(b"[" + value + b",{}]")] == [value, b"{}"]
