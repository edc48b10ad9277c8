"""A run: its counts add up, and its summary says what happened."""

from __future__ import annotations

from typing import get_type_hints

import msgspec
import pytest

from worker.capture.records.actions import Action
from worker.capture.records.diff import Change
from worker.capture.records.raw_records import RawRecord
from worker.capture.state.cursor import Cursor, CursorUpdate
from worker.capture.state.full_scan import FullScanProgress
from worker.capture.state.run import Outcome, Run
from worker.errors import DataError


def change(action: Action) -> Change:
    return Change(action, RawRecord(b"a", "a", b"12345678", msgspec.Raw(b"{}")), b"", b"")


def run() -> Run:
    return Run("r1", "default", "orders", "sweep", "poll", began=10.0, started_at=1_800_000_000.0)


def test_counts_add_up() -> None:
    """Every record of a page is counted once: under its action, or as unchanged."""
    one = run()
    one.count_page(len(Action), [change(action) for action in Action])
    one.count_page(5, [change(Action.UPDATED), change(Action.UPDATED)])
    counts = {action: getattr(one, action.value) for action in Action}
    assert (one.pages, one.records, one.published) == (2, len(Action) + 5, 6)
    assert sum(counts.values()) + one.unchanged == one.records
    assert counts[Action.UPDATED] == 3


def test_a_run_before_adds_its_time() -> None:
    """A list that is read twice took the time of both, and the requests of both."""
    first, second = run(), run()
    second.began, second.started_at = 20.0, 1_800_000_010.0
    first.usage.requests, second.usage.requests = 31, 30
    second.add(first)
    assert (second.summary(25.0)["duration_s"], second.summary(25.0)["requests"]) == (15.0, 61)
    assert second.clock_moved(1_800_000_015.0, 25.0) == 0.0


def test_summary_names_every_action() -> None:
    """The summary line has a count for each action, and an error only after a failure."""
    one = run()
    fields = one.summary(12.5)
    assert {action.value for action in Action} <= fields.keys()
    assert (fields["duration_s"], fields["outcome"]) == (2.5, "partial")
    assert not {"error", "error_code", "freshness_s"} & fields.keys()
    one.fail("unreadable_answer", ValueError())
    one.freshness = 1.23456
    fields = one.summary(12.5)
    assert (fields["error"], fields["error_code"]) == ("ValueError", "unreadable_answer")
    assert (fields["outcome"], fields["freshness_s"]) == (Outcome.FAILED.value, 1.235)


@pytest.mark.parametrize(
    ("plan", "said"), [("sweep", True), ("open+sweep", True), ("open", False), ("head+open", False)]
)
def test_the_total_is_that_of_the_list(plan: str, *, said: bool) -> None:
    """A read of open records asks for one status after the other: the last total is not that of the list."""
    run = Run("r1", "default", "orders", plan, "poll", began=10.0, started_at=1_800_000_000.0)
    run.total = 7
    assert ("total" in run.summary(11.0)) is said


def test_cursor_of_another_hand_is_refused() -> None:
    """A cursor that somebody edited is a DataError that says what to do."""
    for fields in ({b"sequence": b"x"}, {b"sweep_page": b"1.5"}, {b"baseline": b"\xff"}):
        with pytest.raises(DataError, match="restore the old value"):
            Cursor.parse(fields)


def test_cursor_of_a_later_version_is_read() -> None:
    """Fields that this version does not know pass."""
    assert Cursor.parse({b"sequence": b"3", b"baseline": b"1", b"later": b"x"}) == Cursor(
        sequence=3, baseline=True
    )


def test_each_field_of_an_update_is_read_back() -> None:
    """Every field that a commit writes is one of the cursor, of the same type; four others scripts write alone."""
    scan = {f"sweep_{name}": kind for name, kind in get_type_hints(FullScanProgress).items()}
    read = {name: kind for name, kind in get_type_hints(Cursor).items() if name != "scan"}
    written = get_type_hints(CursorUpdate)
    assert written == {
        name: kind
        for name, kind in {**read, **scan}.items()
        if name not in {"sequence", "committed", "gaps", "stale"}
    }
    values = {bool: b"1", int: b"2", float: b"2.5", str: b"x"}
    cursor = Cursor.parse({name.encode(): values[kind] for name, kind in written.items()})
    for name in written:
        unset = Cursor()
        if name.startswith("sweep_"):
            part = name.removeprefix("sweep_")
            assert getattr(cursor.scan, part) != getattr(unset.scan, part)
        else:
            assert getattr(cursor, name) != getattr(unset, name)
