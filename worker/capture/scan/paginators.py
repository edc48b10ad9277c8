"""The plan that says which pages a part of a poll takes, by its kind. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from worker.capture.scan.keyset import KeysetPaginator
from worker.capture.scan.multipass import MultiPassPaginator, NewestFirstPaginator
from worker.capture.scan.offset import OffsetPaginator
from worker.capture.scan.strategy import Strategy

if TYPE_CHECKING:
    from worker.capture.scan.strategy import ScanStep
    from worker.capture.state.cursor import Cursor
    from worker.ordermesh.contract.profile import Listing

Paginator: TypeAlias = OffsetPaginator | KeysetPaginator


def make_paginator(
    operation: str, step: ScanStep, cursor: Cursor, *, window: int, resumed: bool, listing: Listing
) -> Paginator:
    """The plan of a part, for a list that is asked for as `listing` says.

    `resumed`: it goes on with a sweep that is under way.
    """
    clamps = listing.past_end == "repeats"
    size = step.page_size
    if step.seeks:
        full = cursor.scan.width if cursor.scan.size == size and cursor.scan.pages > 1 else 0
        since = cursor.scan.since if resumed else step.since or 0
        return KeysetPaginator(operation, page_size=size, since=since, full=full, clamps=clamps)
    if step.strategy is Strategy.HEAD:
        return NewestFirstPaginator(operation, page_size=size, since=step.since or 0, clamps=clamps)
    if step.strategy is Strategy.WINDOW:
        return MultiPassPaginator(operation, page_size=size, window=window, clamps=clamps)
    if step.strategy is Strategy.OPEN:
        return OffsetPaginator(operation, page_size=size, window=window, clamps=clamps)
    return OffsetPaginator(
        operation,
        page_size=size,
        window=window,
        start=resume_at(cursor, size) if resumed else 0,
        # So many pages of another size say nothing of pages of this one.
        expected=cursor.scan.pages if cursor.scan.size == size else 0,
        total=cursor.scan.total if resumed else 0,
        clamps=clamps,
        is_capped=listing.capped,
        goes_over_again=not (resumed and cursor.scan.again),
    )


def resume_at(cursor: Cursor, page_size: int) -> int:
    """Where a sweep goes on, also with pages of another size: never behind what was committed.

    `sweep_width` is what a page really held, and no page will hold more than is asked for now.
    """
    if page_size == cursor.scan.size:
        return cursor.scan.page
    return cursor.scan.page * cursor.scan.width // page_size
