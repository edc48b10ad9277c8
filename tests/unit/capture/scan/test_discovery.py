"""What proves that a first full scan has missed no record."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from worker.capture.records.actions import Action
from worker.capture.records.diff import Change
from worker.capture.records.raw_records import RawRecord
from worker.capture.scan.discovery import Discovery
from worker.capture.state.cursor import Cursor

RECORD = RawRecord(b"k", "1", b"r", Raw(b"{}"))
BEGAN = 1_000_000
STILL: dict[str, Any] = {"again": False, "is_still": True, "believes_total": True, "seen": 40}
MOVES = {**STILL, "is_still": False}


def change(*, grows: int = 1, created: int = BEGAN - 1, modified: int = BEGAN - 1) -> Change:
    return Change(Action.SNAPSHOT, RECORD, b"", b"", modified=modified, grows=grows, created=created)


def after(discovery: Discovery, *changes: Change, first: int = BEGAN) -> Discovery:
    return discovery.after(changes, began_at=BEGAN, first_scan_at=first)


@pytest.mark.parametrize(
    ("discovery", "cursor", "how", "proof"),
    [
        # The total of the first page, whatever has moved since.
        (Discovery(listed=40, known=40, found=40), Cursor(), MOVES, True),
        (Discovery(listed=40, known=39, found=39), Cursor(), STILL, True),
        # One that was known has gone, so that the total counts one that is not.
        (Discovery(listed=40, known=40, found=40), Cursor(), {**MOVES, "missing": 1}, False),
        (Discovery(listed=40, known=39, found=39), Cursor(), MOVES, False),
        (Discovery(listed=41, known=39, found=39), Cursor(), STILL, False),
        # A total that what is known exceeds, or the end of the list contradicts, is none.
        (Discovery(listed=10, known=40, found=40), Cursor(), STILL, True),
        (Discovery(listed=10, known=40, found=40), Cursor(), MOVES, False),
        (Discovery(listed=50, known=40, found=40), Cursor(), {**STILL, "believes_total": False}, True),
        (Discovery(known=40, found=40), Cursor(), STILL, True),
        (Discovery(known=40, found=40), Cursor(), MOVES, False),
        # A repeated pass, of the same scan or of another.
        (Discovery(known=40), Cursor(), {**MOVES, "again": True}, True),
        (Discovery(known=40, found=1), Cursor(), {**MOVES, "again": True}, False),
        (Discovery(known=40), Cursor(baseline=True, unclean_scans=1), MOVES, True),
        (Discovery(known=40, found=1), Cursor(baseline=True, unclean_scans=1), MOVES, False),
        (Discovery(known=40, found=1), Cursor(baseline=True, unclean_scans=3), MOVES, False),
        (Discovery(listed=40, known=40, found=1), Cursor(baseline=True, unclean_scans=1), MOVES, False),
        (Discovery(listed=40, known=40, found=1), Cursor(baseline=True, unclean_scans=1), STILL, True),
        # What casts doubt on it makes a third one necessary.
        (Discovery(known=40, moved=1), Cursor(baseline=True, unclean_scans=1), MOVES, False),
        (Discovery(known=40, moved=1), Cursor(baseline=True, unclean_scans=2), MOVES, True),
        (Discovery(listed=41, known=40), Cursor(baseline=True, unclean_scans=1), STILL, False),
        (Discovery(listed=41, known=40), Cursor(baseline=True, unclean_scans=2), STILL, True),
    ],
)
def test_what_is_proof(discovery: Discovery, cursor: Cursor, how: dict[str, bool], *, proof: bool) -> None:
    assert discovery.is_proof(cursor, **how) is proof


def test_what_a_page_adds() -> None:
    """Records that are new count as known if they existed when the list was requested, else not; others do not."""
    old, newer, other = change(), change(created=BEGAN, modified=BEGAN), change(grows=0)
    assert after(Discovery(), old, newer, other) == Discovery(known=1, found=1)
    assert after(Discovery(), old, first=BEGAN - 1) == Discovery(
        known=1
    )  # created since the first scan began
    timeless = change(created=0, modified=0)
    assert after(Discovery(), timeless) == Discovery(known=1, found=1)


def test_what_has_changed_meanwhile() -> None:
    """A record that existed and has changed since may have moved others; one that is new has not."""
    assert after(Discovery(), change(modified=BEGAN)).moved == 1
    assert after(Discovery(), change(grows=0, created=0, modified=BEGAN)).moved == 1
    assert after(Discovery(), change(created=BEGAN, modified=BEGAN)).moved == 0


def test_a_pass_begins_with_its_first_page() -> None:
    """The total of the first pass counts, unless it means nothing."""
    assert Discovery(known=3, found=2, moved=1).at_first_page(40, 5) == Discovery(listed=40, known=3)
    assert Discovery(listed=40).at_first_page(41, 5).listed == 40
    for meaningless in (None, -1, 0, 4):
        assert Discovery().at_first_page(meaningless, 5).listed == 0
