"""Each step gets its paginator, and a full scan that is resumed goes on where its cursor says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.capture.scan.keyset import KeysetPaginator
from worker.capture.scan.multipass import MultiPassPaginator, NewestFirstPaginator
from worker.capture.scan.offset import OffsetPaginator
from worker.capture.scan.paginators import FullScanPaginator, Paginator, fast_paginator, full_scan_paginator
from worker.capture.scan.strategy import PageSummary, ScanStep, Strategy
from worker.capture.state.cursor import Cursor, CursorUpdate
from worker.ordermesh.contract.profile import Listing

FULL = ScanStep(Strategy.SWEEP, 100)
BY_TIME = replace(FULL, since=0, seeks=True)
UNDER_WAY: CursorUpdate = {"sweep_started": 1.0, "sweep_size": 100}


def scan(step: ScanStep, fields: CursorUpdate) -> FullScanPaginator:
    """The paginator of a full scan, where the cursor has these fields."""
    raw = {name: int(value) if isinstance(value, bool) else value for name, value in fields.items()}
    cursor = Cursor.parse({name.encode(): str(value).encode() for name, value in raw.items()})
    return full_scan_paginator("x", step, cursor, window=4, listing=Listing())


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (ScanStep(Strategy.WINDOW, 100, since=1), MultiPassPaginator),
        (ScanStep(Strategy.WINDOW, 100, since=1, seeks=True), KeysetPaginator),
        (ScanStep(Strategy.HEAD, 100, since=1), NewestFirstPaginator),
        (ScanStep(Strategy.OPEN, 100, chosen="Open"), OffsetPaginator),
    ],
)
def test_a_step_has_its_paginator(step: ScanStep, kind: type[Paginator]) -> None:
    """How a list is read follows from the step."""
    assert type(fast_paginator("x", step, Cursor(), window=4, listing=Listing())) is kind


def test_a_full_scan_resumes_where_it_was() -> None:
    """What a scan by page numbers leaves in the cursor brings the next run to the same page."""
    first = scan(FULL, {})
    for page in range(3):
        first.accept(PageSummary([b"%d" % (page * 100 + i) for i in range(100)], 1000))
    kept: CursorUpdate = {**UNDER_WAY, **first.cursor_fields(first.next_page)}
    again = scan(FULL, kept)
    assert (again.next_page, again.ask(again.next_step).page) == (3, 3)
    assert not again.advanced
    # With smaller pages, no record is left out.
    assert scan(replace(FULL, page_size=30), kept).next_page == 10


def test_a_scan_by_time_resumes_where_it_was() -> None:
    """It goes on from the time that it has come to."""
    first = scan(BY_TIME, {})
    first.accept(PageSummary([b"%d" % i for i in range(100)], 1000, list(range(1, 101))))
    again = scan(BY_TIME, {**UNDER_WAY, **first.cursor_fields(first.next_page)})
    assert again.ask(again.next_step).since == 100


def test_page_numbers_do_not_resume_a_scan_by_time() -> None:
    """A scan by page numbers that takes over from one by time has not read page 0, whatever the other has read."""
    by_time = scan(BY_TIME, {})
    for page in range(2):  # more records of one time than fill a page
        by_time.accept(PageSummary([b"%d" % (page * 100 + i) for i in range(100)], 1000, [0] * 100))
    assert by_time.next_page == 2
    by_number = scan(FULL, {**UNDER_WAY, **by_time.cursor_fields(by_time.next_page)})
    assert by_number.next_page == 0


@pytest.mark.parametrize(("size", "expected"), [(100, 2), (50, 0)])
def test_an_early_end_is_refused_by_the_pages_of_the_same_size(size: int, expected: int) -> None:
    """The number of pages that the last scan found says nothing about pages of another size."""
    before: CursorUpdate = {"sweep_size": 100, "sweep_pages": 2}
    assert scan(replace(FULL, page_size=size), before).expected == expected


def test_a_scan_is_read_again_once_over_all_its_runs() -> None:
    """A run that resumes the second reading does not begin a third."""
    for again in (True, False):
        kept: CursorUpdate = {"sweep_started": 1.0, "sweep_size": 2, "sweep_page": 1, "sweep_again": again}
        paginator = scan(replace(FULL, page_size=2), kept)
        paginator.accept(PageSummary([b"a", b"b"], 9))
        paginator.accept(PageSummary([b"c", b"d"], 6))
        paginator.accept(PageSummary([], 6))
        assert paginator.done is again
