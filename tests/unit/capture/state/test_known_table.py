"""The packed table finds what was put into it, and nothing else, in 18 bytes a record."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from tests.support.tools import missing
from worker.capture.records import compiled
from worker.capture.records.fingerprint import RecordState, pack_id, pack_unreadable
from worker.capture.state.known_table import IN_STATES, MAX_PLACE, KnownTable, identity_of
from worker.capture.state.scan_marks import ranges

try:
    from worker.capture.records import _content
except ImportError:  # there is no C compiler
    _content = None  # type: ignore[assignment]


def state(fingerprint: bytes, place: int) -> bytes:
    """A packed state of version 1."""
    return RecordState(fingerprint, 1, 2, 1, b"abcd", position=place).pack()


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize("expected", [0, 50, 3000, 100_000])
def test_it_is_a_table(monkeypatch: pytest.MonkeyPatch, expected: int, *, is_compiled: bool) -> None:
    """Also where bytes stand across two entries, and after it has grown; with the compiled function and without."""
    if is_compiled and _content is None:
        missing("the compiled function was not built")
    for name in ("add", "find"):
        monkeypatch.setattr(compiled, name, getattr(_content, name) if is_compiled else None)
    chance, table, held = Random(expected), KnownTable(expected), dict[bytes, tuple[bytes, bytes]]()
    for number in range(4000):
        # Few different bytes, so that fingerprints are found where none begins.
        fingerprint = bytes(chance.choice((7, 8)) for _ in range(4)) + chance.randbytes(4)
        key = number.to_bytes(12, "big")
        packed = state(fingerprint, number)
        if fingerprint not in held:
            table.add([(key, packed)])
            held[fingerprint] = key, packed
        if chance.random() < 0.4:
            gone = chance.choice(list(held))
            table.remove(held.pop(gone)[1])
            table.remove(state(gone, number))
    assert table.count == len(held)
    assert table.find(list(held)) == [packed[19:22] + identity_of(key) for key, packed in held.values()]
    strangers = [fingerprint for fingerprint in map(chance.randbytes, [8] * 1000) if fingerprint not in held]
    assert not any(table.find(strangers))


@pytest.mark.parametrize("first_place", [IN_STATES, 0, 300, MAX_PLACE - 20])
def test_both_ways_to_add_give_the_same_table(monkeypatch: pytest.MonkeyPatch, first_place: int) -> None:
    """Byte for byte, also where some are left out, of ids of any length, and where it grows by many buckets at once."""
    if _content is None:
        missing("the compiled function was not built")
    chance, tables = Random(first_place), (KnownTable(), KnownTable())
    for _ in range(60):
        states = list[tuple[bytes, bytes]]()
        for _ in range(chance.choice((0, 1, 100, 1000))):
            key = chance.choice(
                (pack_unreadable(chance.randbytes(8)), chance.randbytes(chance.randrange(1, 300)))
            )
            known = RecordState(chance.randbytes(8), 1, 2, 1, b"ab", position=chance.choice((0, 7, 1 << 24)))
            whole, cut = known.pack(), known.pack()[: chance.choice((0, 7, 8, 22))]
            packed = chance.choices((whole, known.deleted().pack(), known.erased().pack(), cut), (5, 1, 1, 1))
            states.append((key, packed[0]))
        for table, add in zip(tables, (_content.add, None), strict=True):
            monkeypatch.setattr(compiled, "add", add)
            table.add(states, first_place)
        compiled_, python = ([getattr(table, name) for name in KnownTable.__slots__] for table in tables)
        assert compiled_ == python
    assert tables[0].count > 200


def test_what_says_nothing_of_bytes_is_left_out() -> None:
    """Deleted and erased records, unreadable ones without an id, places that do not fit, states of another hand."""
    table, whole = KnownTable(), RecordState(b"12345678", 1, 2, 1, b"ab", position=3)
    table.add([(pack_id("a"), whole.deleted().pack()), (pack_id("a"), whole.erased().pack())])
    table.add([(pack_unreadable(b"12345678"), whole.pack())])
    table.add([(pack_id("a"), state(b"12345678", MAX_PLACE + 1))])
    table.add([(pack_id("a"), b"12345678"), (pack_id("a"), b"short")])
    table.add([(pack_id("a"), state(b"12345678", 0))], MAX_PLACE + 1)
    assert table.count == 0
    assert table.find([b"12345678", bytes(8), b"\0erased\0"]) == [None, None, None]


def test_a_million_records_take_less_than_20_megabytes() -> None:
    """By its own measure, which was compared with that of the process."""
    table = KnownTable(1_000_000)
    table.count = 1_000_000
    assert table.size < 20_000_000


def test_the_compiled_function_refuses_what_is_no_table() -> None:
    """It reads nothing beyond a bucket, and no bucket that is not there."""
    if _content is None:
        missing("the compiled function was not built")
    fingerprint = bytes(7) + b"\1"  # in bucket 1
    for buckets, given in (
        ([b""], [fingerprint]),
        ([b"", ""], [fingerprint]),
        ([b""], [b"short"]),
        ([b""], [1]),
    ):
        with pytest.raises((TypeError, ValueError)):
            _content.find(buckets, 1, 1, 2, given)  # type: ignore[arg-type]
    for wrong in list[Any]([(), ((), 0, 0, 0, []), ([], "", 0, 0, []), ([], -1, 0, 0, [])]):
        with pytest.raises((TypeError, OverflowError)):
            _content.find(*wrong)
    record = b"id", bytes(3) + fingerprint[3:] + bytes(20)
    for buckets, states in (([b""], [record]), ([b"", ""], [record])):
        with pytest.raises(ValueError, match="no such bucket"):
            _content.add(buckets, 1, 1, 2, states, 0)  # type: ignore[arg-type]
    for one in list[Any]([1, (), (b"id",), ("id", record[1]), (b"id", None)]):
        with pytest.raises(TypeError):
            _content.add([b"", b""], 1, 1, 2, [one], 0)
    for wrong in list[Any]([(), ((), 0, 0, 0, [], 0), ([], 0, 0, 0, (), 0), ([], 0, -1, 0, [], 0)]):
        with pytest.raises((TypeError, OverflowError)):
            _content.add(*wrong)
    cut = [b"12345678" + bytes(8) + b"ABCDEFGH"]
    assert _content.find(cut, 0, 0, 0, [b"12345678", b"ABCDEFGH"]) == [bytes(8), None]


def test_ranges() -> None:
    """Places that follow each other, or come twice."""
    assert ranges([]) == []
    assert ranges([0, 1, 1, 2, 5, 7, 8]) == [0, 3, 5, 6, 7, 9]
