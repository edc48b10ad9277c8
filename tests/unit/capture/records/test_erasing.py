"""States of records that a person erases."""

from __future__ import annotations

import msgspec
import pytest

from worker.capture.records.actions import Action
from worker.capture.records.audit import new_entries
from worker.capture.records.decoding import DecodedRecord
from worker.capture.records.diff import decide, decide_deleted
from worker.capture.records.erasing import erased, unmarked
from worker.capture.records.fields import FieldIndex
from worker.capture.records.fingerprint import RecordState, pack_id, raw_fingerprint, read_content
from worker.capture.records.raw_records import RawRecord
from worker.capture.registry import ORDERS

RECORD = b'{"id":"a","name":"Ann"}'
PUBLISHED = RecordState(raw_fingerprint(RECORD), 7, 99, 3, b"abcd", position=12)


def state(packed: bytes) -> RecordState:
    return RecordState.unpack(packed)


@pytest.mark.parametrize(
    ("before", "version", "grows"),
    [
        (PUBLISHED.pack(), 4, 0),
        (b"", 1, 1),
        (b"short", 1, 1),
        (PUBLISHED.deleted().pack(), 5, 1),
        (RecordState(raw_fingerprint(RECORD), 0, 5, 2, b"", position=12).pack(), 3, 0),
        (RecordState(b"\x00" * 8, 0, 0, 0, b"", position=12).pack(), 1, 0),
    ],
    ids=["published", "unknown", "of another hand", "deleted", "outside the scope", "parked"],
)
def test_an_erasure_keeps_place_and_version(before: bytes, version: int, grows: int) -> None:
    """And nothing that depends on the content of the record."""
    change = erased("a", before, 0)
    assert change is not None
    after = state(change.after)
    assert (change.key, change.version, change.grows) == (pack_id("a"), version, grows)
    assert (after.is_erased, after.is_gone, after.is_inside) == (True, False, False)
    assert (after.version, after.content, after.modified, after.fields) == (version, 0, 0, b"")
    assert after.place == (12 if len(before) > 22 else 0)
    assert erased("a", change.after, 0) is None


def test_taking_the_mark_away() -> None:
    """The record is then one that was deleted: it is created when it is read again, with the next version."""
    change = erased("a", PUBLISHED.pack(), 0)
    assert change is not None
    back = unmarked("a", change.after)
    assert back is not None
    assert (state(back.after).is_gone, state(back.after).version, state(back.after).place) == (True, 4, 12)
    assert (back.version, back.grows) == (0, -1)
    assert unmarked("a", back.after) is None
    assert unmarked("a", PUBLISHED.pack()) is None
    assert unmarked("a", b"") is None


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("is_readable", [False, True])
def test_nothing_is_published(force: bool, is_readable: bool) -> None:
    """Whatever OrderMesh serves, readable or not; but that it no longer has the record is."""
    change = erased("a", PUBLISHED.pack(), 0)
    assert change is not None
    observed = RawRecord(pack_id("a"), "a", raw_fingerprint(RECORD), msgspec.Raw(RECORD))
    content = read_content(RECORD, frozenset()) if is_readable else None
    decoded = DecodedRecord(observed, change.after, state(change.after), content, 10**12, problem="x")
    found = decide(decoded, FieldIndex(["id", "name"]), baseline=True, first_scan_at=0, force=force)
    assert (found.action, found.after) == (Action.ERASED, change.after)
    assert new_entries("a", b"[]", (), change.after) is None
    gone = decide_deleted(ORDERS, "a", change.after)
    assert gone is not None
    assert (gone.action, gone.version, gone.grows, state(gone.after).is_gone) == (Action.DELETED, 5, -1, True)
