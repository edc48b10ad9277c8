"""Backpressure: when polling pauses, when it goes on, and how much may be written before the next look."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordersync_consumer.groups import Group, StreamStatus
from tests.support.scripted_server import OwnClock
from worker.queue.backpressure import (
    MEMORY_SECONDS,
    Backpressure,
    HighWaterMarks,
    MemoryLook,
    StreamGlance,
    evaluate,
    headroom,
)

MARKS = HighWaterMarks(entries=1000, bytes=1_000_000, memory=0.9, resume=0.5)


def group(name: str, unread: int) -> Group:
    return Group(
        name, needed="", delivered="", pending=0, oldest_pending="", unread=unread, oldest_unread="", held=0
    )


def survey(*unread: int, entry_bytes: float = 100.0, used: int = 0, most: int = 0) -> StreamStatus:
    groups = tuple(group(f"g{at}", each) for at, each in enumerate(unread))
    return StreamStatus(max((*unread, 5000)), entry_bytes, used, most, groups)


@pytest.mark.parametrize(
    ("looked", "cause"),
    [
        (survey(), ""),  # nobody reads by a group: the length of the stream is no pressure
        (survey(999), ""),
        (
            survey(3, 1000, 7),
            "group g1 has 1000 unread entries (polling pauses at 1000 and resumes below 500)",
        ),
        (survey(1000), "`ordersync groups drop g0 orders`: this discards"),
        (survey(100, entry_bytes=10_000), "group g0 has about 1.0 MB unread (polling pauses at 1.0 MB"),
        (survey(99, entry_bytes=10_000), ""),
        (survey(used=899, most=1000), ""),
        (
            survey(used=900, most=1000),
            "Redis uses 90% of its maxmemory (polling pauses at 90% and resumes below 45%)",
        ),
        (survey(used=900, most=1000), "CONFIG SET maxmemory"),
        (survey(used=900, most=0), ""),  # a Redis without a limit of its own
    ],
)
def test_the_high_water_marks(looked: StreamStatus, cause: str) -> None:
    """Each mark counts for itself, and the cause says which, how far, and what to do."""
    load = evaluate("orders", looked, MARKS)
    assert cause in load.cause
    assert bool(load.cause) == bool(cause)


@pytest.mark.parametrize(
    "looked",
    [survey(500), survey(50, entry_bytes=10_000), survey(used=450, most=1000)],
)
def test_it_goes_on_below_a_lower_mark(looked: StreamStatus) -> None:
    """What would not stop a read keeps one that was stopped from going on: it does not flutter."""
    assert not evaluate("orders", looked, MARKS).cause
    assert evaluate("orders", looked, MARKS, paused=True).cause


@pytest.mark.parametrize(
    "looked",
    [survey(499), survey(49, entry_bytes=10_000), survey(used=449, most=1000), survey()],
)
def test_it_goes_on_by_itself(looked: StreamStatus) -> None:
    """Below the lower marks, and when the group is gone."""
    assert not evaluate("orders", looked, MARKS, paused=True).cause


def test_marks_can_be_turned_off() -> None:
    """0 is no mark."""
    looked = survey(10**9, entry_bytes=1e6, used=100, most=100)
    assert not evaluate("orders", looked, HighWaterMarks(resume=0.5), paused=True).cause
    assert headroom(looked, HighWaterMarks()) == float("inf")


def test_the_figures_are_those_of_the_slowest() -> None:
    """What the log says beside the cause."""
    load = evaluate("orders", survey(10, 900, entry_bytes=20.0, used=5, most=50), MARKS)
    assert load.figures == {
        "group": "g1", "unread": 900, "unread_bytes": 18_000, "used_memory": 5, "maxmemory": 50,
    }  # fmt: skip


@given(
    unread=st.lists(st.integers(0, 2000), max_size=3),
    size=st.floats(1, 5000),
    used=st.integers(0, 10_000_000),
    written=st.integers(0, 3000),
    cost=st.floats(1, 2),
)
def test_no_mark_is_reached_before_there_is_no_room(
    unread: list[int], size: float, used: int, written: int, cost: float
) -> None:
    """A read that writes less than there is room for cannot pass a mark unseen.

    Nor where an entry takes more memory than its names and values have bytes, as it does.
    """
    before = survey(*unread, entry_bytes=size, used=used, most=10_000_000)
    if written < headroom(before, MARKS):
        grown = int(written * size * cost)
        after: dict[str, Any] = {"entry_bytes": size, "used": used + grown, "most": 10_000_000}
        assert not evaluate("orders", survey(*(each + written for each in unread), **after), MARKS).cause


def test_advice_can_be_typed() -> None:
    """A consumer names its group: the name must not become another command."""
    looked = StreamStatus(5000, 100.0, 0, 0, (group("x; reboot #", 1000),))
    assert "`ordersync groups drop 'x; reboot #' orders`" in evaluate("orders", looked, MARKS).cause


def test_entries_of_unknown_length_get_no_room() -> None:
    """The first ones that are written tell how long they are; until then the count alone bounds them."""
    assert headroom(survey(entry_bytes=0.0, used=0, most=10_000_000), MARKS) == 1
    assert headroom(survey(0, entry_bytes=0.0), MARKS) == 1
    assert headroom(survey(0, entry_bytes=0.0), HighWaterMarks(entries=1000)) == 1000


def test_reads_of_all_accounts_share_a_look_at_the_memory() -> None:
    """For a second; one that goes by no mark of memory never looks, and the groups are those of its own stream."""
    clock = OwnClock()
    looks = MemoryLook(clock)
    one, other, without = (
        Backpressure(cast("Any", None), marks, clock, looks)
        for marks in (MARKS, MARKS, HighWaterMarks(entries=1))
    )
    assert (one.needs_memory, without.needs_memory) == (True, False)
    assert one.with_memory(StreamGlance(0, 0, 90, 100), is_new=True) == StreamGlance(0, 0, 90, 100)
    assert not other.needs_memory
    assert other.with_memory(StreamGlance(2, 1), is_new=False) == StreamGlance(2, 1, 90, 100)
    clock.offset += MEMORY_SECONDS
    assert other.needs_memory
    assert Backpressure(
        cast("Any", None), MARKS, clock
    ).needs_memory  # of a cluster: each read looks at its own node
