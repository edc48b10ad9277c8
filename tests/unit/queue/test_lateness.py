"""Which consumer groups are late."""

from __future__ import annotations

import pytest

from ordersync_consumer.groups import Group, GroupConsumer
from worker.queue.lateness import LateGroup, lateness

NOW = 1_800_000_000.0


def entry(age: float) -> str:
    """Return the id of an entry that was written so many seconds ago."""
    return f"{int((NOW - age) * 1000)}-0"


@pytest.mark.parametrize(
    ("unread", "pending", "idle", "seconds"),
    [
        (700, None, None, 700),  # nobody has ever read
        (700, None, 650, 650),  # it read something once
        (5, None, 90_000, None),  # a nightly consumer, and an event of a moment ago
        (700, None, 2, None),  # it catches up
        (None, 700, 650, 650),  # its consumer died with an event
        (None, None, 90_000, None),  # nothing waits
        (599, None, None, None),
    ],
)
def test_lateness(
    unread: float | None, pending: float | None, idle: float | None, seconds: float | None
) -> None:
    """An event has waited, and nobody has read, both for as long as the setting says."""
    group = Group(
        name="warehouse",
        needed="",
        delivered="",
        pending=1 if pending else 0,
        oldest_pending=entry(pending) if pending else "",
        unread=1 if unread else 0,
        oldest_unread=entry(unread) if unread else "",
        held=0,
    )
    consumers = [] if idle is None else [GroupConsumer("c", 0, idle)]
    late = lateness("orders", group, consumers, NOW, 600)
    assert (late.seconds if late else None) == (None if seconds is None else pytest.approx(seconds, abs=0.01))
    assert late is None or "1 event waits" in late.cause
    assert lateness("orders", group, consumers, NOW, 0) is None


def test_advice_can_be_typed() -> None:
    """A consumer names its group, and an operator types what is advised: the name must not become another command."""
    assert (
        "`ordersync groups drop 'x; reboot #' orders`" in LateGroup("x; reboot #", "orders", 700, 1, 0).advice
    )


def test_cause_is_for_people() -> None:
    """How long nobody has read is told in the unit that fits."""
    causes = [LateGroup("x", "orders", seconds, 1, 0).cause for seconds in (90, 1377, 90_000, 300_000)]
    assert [cause.partition(", and")[0] for cause in causes] == [
        f"group x has not read for {words}" for words in ("90 s", "23 min", "25 h", "3 d")
    ]
