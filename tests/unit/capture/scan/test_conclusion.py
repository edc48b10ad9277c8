"""What the end of a read writes to the cursor: no change is passed over, and nothing is claimed that was not seen."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.capture.scan import conclusion
from worker.capture.scan.conclusion import (
    MAX_STATUSES,
    NO_STATUSES_YET,
    ScanResult,
    checkpoint,
    merge_statuses,
)
from worker.capture.scan.sanity import MIN_OFFSET, server_time
from worker.capture.scan.strategy import ScanStep, Strategy
from worker.capture.state.cursor import SCAN_OVER, Cursor
from worker.capture.state.full_scan import FullScanProgress
from worker.capture.state.run import MAX_OFFSET

NOW = 1_800_000_000.0
BEGAN = NOW - 30
NEWEST = int(NOW * 1000) - 5_000
KNOWN = Cursor(
    baseline=True, mark=NEWEST - 600_000, newest=NEWEST - 500_000, fresh_as_of=NOW - 100, tracked=50
)
FULL, WINDOW = ScanStep(Strategy.SWEEP, 100), ScanStep(Strategy.WINDOW, 100, since=0)
HEAD, OPEN = ScanStep(Strategy.HEAD, 100, since=0), ScanStep(Strategy.OPEN, 100, chosen="Open")
STEPS = [FULL, WINDOW, HEAD, OPEN, replace(FULL, seeks=True)]
CLAIMS = {
    "fresh_as_of",
    "part_as_of",
    "last_success",
    "baseline",
    "swept_at",
    "swept_mark",
    "swept_records",
    "statuses",
    "capped",
}


CONFIRM_AFTER = 300.0
conclude = partial(conclusion.conclude, confirm_after=CONFIRM_AFTER)


def result(**fields: Any) -> ScanResult:
    """A read of 50 records that began 30 s ago."""
    shown: dict[str, Any] = {"started_at": BEGAN, "run_started_at": BEGAN, "interval": 15.0, "newest": NEWEST}
    return ScanResult(**{**shown, "seen": 50, "pages": 1, **fields})


# The first full scans


def test_when_every_record_has_been_seen() -> None:
    """After a scan that proves it; one of before this was recorded counts as such. Three others begin at once."""
    cursor, counts = Cursor(), []
    for proven in (False, False, False, False, True):
        update = conclude(FULL, result(proven=proven, first_scan_at=NEWEST + 9), cursor, NOW)
        cursor = msgspec.structs.replace(cursor, baseline=True, unclean_scans=update["unclean_scans"])
        counts.append(update["unclean_scans"])
        assert ("fresh_as_of" in update) is proven
        assert (update["due_at"] == NOW) is (counts[-1] in {1, 2})
    assert counts == [1, 2, 3, 3, 0]
    assert conclude(FULL, result(), Cursor(), NOW)["unclean_scans"] == 0
    assert (
        conclude(FULL, result(), msgspec.structs.replace(KNOWN, unclean_scans=1), NOW)["unclean_scans"] == 0
    )
    assert conclude(FULL, result(proven=False), KNOWN, NOW)["unclean_scans"] == 0


def test_the_first_scan_began_no_later_than_the_newest_record() -> None:
    """By the clock of the records, which may be slow; a list without times leaves it as it was."""
    assert conclude(FULL, result(first_scan_at=NEWEST + 9), Cursor(), NOW)["first_scan_at"] == NEWEST
    assert conclude(FULL, result(first_scan_at=NEWEST - 9), Cursor(), NOW)["first_scan_at"] == NEWEST - 9
    assert conclude(FULL, result(first_scan_at=5, newest=0), Cursor(), NOW)["first_scan_at"] == 5
    assert "first_scan_at" not in conclude(FULL, result(first_scan_at=5), KNOWN, NOW)


# The mark


@pytest.mark.parametrize("step", [FULL, WINDOW, HEAD])
def test_the_mark_leaves_the_time_of_the_read_over(step: ScanStep) -> None:
    """Pages that were read early may lack what changed later, so the mark is the newest less the time that it took."""
    assert conclude(step, result(), KNOWN, NOW)["mark"] == NEWEST - 30_000


def test_after_a_long_read_the_mark_stays_where_it_was() -> None:
    """A read of an hour proves less than the reads of newer changes before it: the mark never goes back."""
    assert conclude(FULL, result(started_at=NOW - 3600), KNOWN, NOW)["mark"] == KNOWN.mark


def test_a_resumed_scan_counts_from_its_first_run() -> None:
    """What the first of its runs has read is as old as the scan, however short the last run was."""
    resumed = result(started_at=NOW - 120, run_started_at=NOW - 1)
    update = conclude(FULL, resumed, KNOWN, NOW)
    assert update["mark"] == NEWEST - 120_000
    assert (update["swept_at"], update["swept_mark"], update["sweep_seconds"]) == (
        NOW - 120, NEWEST - 120_000, 120.0,
    )  # fmt: skip
    # The next poll is due an interval after the scan began, and it says nothing of the window read meanwhile.
    assert update["due_at"] == NOW - 120 + 15
    assert update["fresh_as_of"] == NOW - 120
    assert "part_as_of" not in update


def test_a_time_ahead_of_the_server_does_not_move_the_mark() -> None:
    """The mark stays below the server's time, also where ours is ahead or behind."""
    ahead = result(newest=int(NOW * 1000) + 900_000)
    assert conclude(WINDOW, ahead, KNOWN, NOW)["mark"] == int(NOW * 1000) - 30_000
    slow = replace(ahead, clock_offset=-60.0)
    assert conclude(WINDOW, slow, KNOWN, NOW)["mark"] == int((NOW - 60 + MIN_OFFSET) * 1000) - 30_000


def test_a_clock_that_was_set_back_adds_no_time() -> None:
    """Where the clock says that the read ended before it began, the mark does not pass the newest record."""
    assert conclude(WINDOW, result(started_at=NOW + 60), KNOWN, NOW)["mark"] == NEWEST


def test_a_first_read_without_times_has_no_mark() -> None:
    """Where no record says when it was modified there is no mark, and it is not negative."""
    assert conclude(FULL, result(newest=0), Cursor(), NOW)["mark"] == 0


def test_records_of_some_statuses_move_no_mark() -> None:
    """A read by status has not seen changes in other statuses, so a later filter must not begin after it."""
    update = conclude(OPEN, result(), KNOWN, NOW)
    assert not {"mark", "newest", "swept_at", "swept_mark", "fresh_as_of"} & update.keys()
    assert (update["part_as_of"], update["part"]) == (BEGAN, "open")


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(0.0, 0.0), (4.9, 0.0), (-4.9, 0.0), (60.0, 65.0), (-60.0, -55.0), (MAX_OFFSET + 1, 0.0)],
)
def test_server_time(offset: float, expected: float) -> None:
    """A small difference between the clocks is noise, and one of more than a day is not believed."""
    assert server_time(NOW, offset) == NOW + expected


# What is claimed


@given(
    step=st.sampled_from(STEPS),
    shown=st.builds(
        ScanResult,
        started_at=st.floats(0, 2e9),
        run_started_at=st.floats(0, 2e9),
        interval=st.floats(1, 3600),
        newest=st.integers(0, 2**41),
        unreadable=st.integers(0, 9),
        complete=st.booleans(),
        pages=st.none() | st.integers(0, 9),
        clock_offset=st.floats(-1e6, 1e6),
        anomaly=st.sampled_from(["", "the list is empty"]),
        seen=st.integers(0, 2),
        moved=st.booleans(),
    ),
    cursor=st.builds(
        Cursor, mark=st.integers(0, 2**41), fresh_as_of=st.floats(0, 2e9), part_as_of=st.floats(0, 2e9)
    ),
    now=st.floats(0, 2e9),
)
def test_nothing_is_claimed_that_was_not_seen(
    step: ScanStep, shown: ScanResult, cursor: Cursor, now: float
) -> None:
    """Freshness needs a read without gaps that is believed, and dates from its begin; no mark passes the newest."""
    update = conclude(step, shown, cursor, now)
    if shown.anomaly or not shown.complete:
        assert not CLAIMS & update.keys()
    elif shown.moved or not update.get("baseline", True):
        assert not {"fresh_as_of", "part_as_of", "last_success"} & update.keys()
    else:
        assert {"fresh_as_of", "part_as_of"} & update.keys() == {
            "part_as_of" if step.is_fast else "fresh_as_of"
        }
        assert ("baseline" in update) == (not step.is_fast)
        assert update["part_as_of" if step.is_fast else "fresh_as_of"] == shown.started_at
    if "mark" in update:
        assert cursor.mark <= update["mark"] <= max(cursor.mark, shown.newest)
        assert not shown.anomaly


@pytest.mark.parametrize("step", STEPS)
def test_unreadable_records_are_counted_and_nothing_is_claimed(step: ScanStep) -> None:
    """The next read does not wait for a record that cannot be read, but this one did not see everything."""
    update = conclude(
        step, result(unreadable=2, complete=False), msgspec.structs.replace(KNOWN, unreadable=1), NOW
    )
    assert update["unreadable"] == 2
    assert not (CLAIMS | {"due_at", "failures"}) & update.keys()
    assert ("sweep_page" in update) == (not step.is_fast)


def test_only_a_full_scan_shows_that_records_can_be_read_again() -> None:
    """A read of newer changes does not see the records that could not be read before it; a full scan does."""
    before = msgspec.structs.replace(KNOWN, unreadable=3)
    assert conclude(WINDOW, result(), before, NOW)["unreadable"] == 3
    assert conclude(FULL, result(), before, NOW)["unreadable"] == 0


@pytest.mark.parametrize("step", STEPS)
def test_a_success_settles_earlier_failures(step: ScanStep) -> None:
    """The next poll is due an interval after this one began, and no failure is left."""
    update = conclude(
        step, result(), msgspec.structs.replace(KNOWN, failures=3, error="boom", error_code="internal"), NOW
    )
    assert (update["due_at"], update["failures"], update["error"], update["error_code"]) == (
        BEGAN + 15, 0, "", "",
    )  # fmt: skip
    assert update["last_success"] == NOW


# Suspect reads


def test_a_suspect_scan_starts_over_and_is_remembered() -> None:
    """Nothing is concluded from it; how much it has read is kept, so that a second one alike is believed."""
    update = conclude(FULL, result(seen=7, anomaly="7 records are shown", run_started_at=NOW - 2), KNOWN, NOW)
    assert update == {
        **SCAN_OVER,
        "suspicious": "7 records are shown",
        "suspect_records": 7,
        "doubts": 0,
        "withheld_ids": "",
        "due_at": NOW - 2 + 15,
        "failures": 0,
        "error": "",
        "error_code": "",
    }


def test_a_suspect_window_leaves_the_full_scan_alone() -> None:
    """A full scan that is under way goes on where it is."""
    update = conclude(WINDOW, result(seen=0, anomaly="nothing is shown"), KNOWN, NOW)
    assert not [name for name in update if name.startswith("sweep_") or name == "suspect_records"]


def test_a_believed_scan_settles_the_suspicion() -> None:
    """It also shows that an empty window was right to be empty, as long as nothing newer comes."""
    before = msgspec.structs.replace(KNOWN, suspicious="nothing is shown", suspect_records=7, bare=11)
    update = conclude(FULL, result(bare=True), before, NOW)
    assert (update["suspicious"], update["suspect_records"], update["swept_records"]) == ("", 0, 50)
    assert update["bare"] == NEWEST
    assert conclude(FULL, result(), before, NOW)["bare"] == 11
    assert "suspicious" not in conclude(WINDOW, result(), before, NOW)


# Full scans


def test_pages_are_those_of_a_scan_by_page_numbers() -> None:
    """A keyset scan has none, so the number that was found before it stays."""
    before = msgspec.structs.replace(KNOWN, scan=FullScanProgress(pages=9))
    assert conclude(FULL, result(pages=4), before, NOW)["sweep_pages"] == 4
    assert conclude(FULL, result(pages=None), before, NOW)["sweep_pages"] == 9


@pytest.mark.parametrize(
    ("pages", "tracked", "expected"), [(1, 5000, 0), (None, 5000, 2000), (None, 2001, 2000), (None, 2000, 0)]
)
def test_a_list_stays_capped_while_more_is_known(pages: int | None, tracked: int, expected: int) -> None:
    """A scan by page numbers that ended shows that it is not; by keyset, only where no more is known than it shows."""
    before = msgspec.structs.replace(KNOWN, capped=2000, tracked=tracked)
    assert conclude(FULL, result(pages=pages), before, NOW)["capped"] == expected


def test_records_that_were_not_found_are_counted() -> None:
    """Where more were not found than may be deleted, their number is kept, until a scan finds them."""
    for name, value in (("held_back", 12), ("doubts", 2), ("unanswered", 3)):
        fields: dict[str, Any] = {name: value}
        assert conclude(FULL, result(**fields), KNOWN, NOW)[name] == value  # type: ignore[literal-required]
    assert conclude(FULL, result(), msgspec.structs.replace(KNOWN, held_back=12), NOW)["held_back"] == 0
    assert "held_back" not in conclude(WINDOW, result(), msgspec.structs.replace(KNOWN, held_back=12), NOW)


def test_the_end_leaves_nothing_of_the_scan() -> None:
    """The cursor of a scan that has ended is the one before it began, but for what the scan has found."""
    update = conclude(FULL, result(statuses="\nHeld\nOpen"), KNOWN, NOW)
    assert {name: update.get(name) for name in SCAN_OVER} == SCAN_OVER
    assert update["statuses"] == "Held\nOpen"


def test_a_checkpoint_is_read_back() -> None:
    """What each page of a full scan writes is how the next run begins."""
    shown = result(seen=200, changed=3, unreadable=1, statuses="\nOpen")
    update = checkpoint(FULL, shown)
    cursor = Cursor.parse({name.encode(): str(value).encode() for name, value in update.items()})
    assert cursor.newest == NEWEST
    assert cursor.scan == FullScanProgress(
        started=BEGAN, size=100, seen=200, changed=3, unreadable=1, statuses="\nOpen"
    )


# Statuses


def test_statuses_add_up_over_the_runs_of_a_scan() -> None:
    """Each run adds those that it finds, once, in their order."""
    first = merge_statuses(NO_STATUSES_YET, ["Open", "Held"])
    assert first == "\nHeld\nOpen"
    assert merge_statuses(first, ["Fulfilled", "Open"]) == "\nFulfilled\nHeld\nOpen"
    assert merge_statuses(NO_STATUSES_YET, []) == NO_STATUSES_YET


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ("", ["Open"]),  # a run of the scan has not collected them
        (NO_STATUSES_YET, [f"s{number}" for number in range(MAX_STATUSES + 1)]),
        (NO_STATUSES_YET, ["two\nlines"]),
    ],
)
def test_statuses_that_say_nothing(before: str, found: list[str]) -> None:
    """Where the scan has not seen all, or the field is not a status, none are learnt; that stays so for the scan."""
    assert merge_statuses(before, found) == ""
    assert merge_statuses(merge_statuses(before, found), ["Open"]) == ""


def test_a_scan_whose_list_moved_claims_nothing() -> None:
    """Records that are there were missed, so others may have been: neither freshness nor the mark moves."""
    update = conclude(FULL, result(moved=True, doubts=1), KNOWN, NOW)
    assert "fresh_as_of" not in update
    assert "last_success" not in update
    assert (update["mark"], update["swept_at"], update["due_at"]) == (KNOWN.mark, BEGAN, BEGAN + 15)


def test_a_scan_that_is_read_again_is_due_at_once() -> None:
    """Whichever strategy polls use: the next one begins with a full scan."""
    update = conclude(FULL, result(moved=True, doubts=1, again=True), KNOWN, NOW)
    assert (update["swept_at"], update["due_at"]) == (0.0, NOW)


def test_an_empty_first_list_is_believed_when_a_later_one_agrees() -> None:
    """Else all records would be called created after an outage. One that shows a record is believed at once."""
    first = conclude(FULL, result(seen=0), Cursor(), NOW)
    assert (first["baseline"], first["empty_at"]) == (False, BEGAN)
    before = Cursor(empty_at=BEGAN)
    soon = conclude(FULL, result(seen=0, started_at=BEGAN + CONFIRM_AFTER - 1), before, NOW + CONFIRM_AFTER)
    assert (soon["baseline"], soon["empty_at"]) == (False, BEGAN)
    assert conclude(FULL, result(seen=0, started_at=BEGAN + CONFIRM_AFTER), before, NOW + 330)["baseline"]
    shown = conclude(FULL, result(seen=1, started_at=BEGAN + 1), before, NOW + 1)
    assert (shown["baseline"], shown["empty_at"]) == (True, 0)
    assert conclude(FULL, result(seen=0), KNOWN, NOW)["baseline"]
