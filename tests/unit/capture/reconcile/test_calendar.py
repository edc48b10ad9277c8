"""The calendar of what is proven: a word for each hour, out of passes, gaps and runs."""

from __future__ import annotations

from worker.capture.reconcile.calendar import HOUR_MS, Hour, calendar
from worker.capture.reconcile.progress import Gap, ReconcileCounts, ReconcilePass, ReconcileProgress

DAY = 20_000
MIDNIGHT = DAY * 24
NOW = MIDNIGHT + 12
RUNNING = range(MIDNIGHT, NOW + 1)


def shown(
    progress: ReconcileProgress,
    *,
    gaps: tuple[Gap, ...] = (),
    healed: tuple[int, ...] = (),
    down: tuple[int, ...] = (),
) -> list[Hour]:
    """The hours of today, of which runs are kept from midnight on but for those that were `down`."""
    counts = ReconcileCounts(healed_at=dict.fromkeys(healed, 1))
    (today,) = calendar(
        progress,
        gaps,
        [ReconcilePass(0, 0, 0.0, 0.0, proven=True, counts=counts)],
        active=set(RUNNING) - set(down),
        known_since=MIDNIGHT,
        now=NOW,
        days=1,
    )
    assert today.day == DAY
    return list(today.hours)


def test_an_hour_is_verified_when_all_of_it_is_proven() -> None:
    """From the first read on; the hour in which the proof ends is not yet, nor is the present one."""
    proven = ReconcileProgress(
        complete_since=(MIDNIGHT + 2) * HOUR_MS + 5, complete_until=(MIDNIGHT + 9) * HOUR_MS - 1
    )
    hours = shown(proven)
    assert hours[2:8] == [Hour.VERIFIED] * 6
    assert hours[8:13] == [Hour.UNPROVEN] * 5
    assert hours[13:] == [Hour.BEFORE] * 11
    exactly = ReconcileProgress(complete_since=1, complete_until=(MIDNIGHT + 9) * HOUR_MS)
    assert shown(exactly)[8:10] == [Hour.VERIFIED, Hour.UNPROVEN]


def test_where_nothing_is_proven_nothing_is_claimed() -> None:
    """Runs alone prove nothing; hours without any are told from those that wait for their proof."""
    hours = shown(ReconcileProgress(), down=(MIDNIGHT + 3, MIDNIGHT + 4))
    assert hours[:3] == [Hour.UNPROVEN] * 3
    assert hours[3:5] == [Hour.DOWN] * 2
    assert hours[5:13] == [Hour.UNPROVEN] * 8


def test_what_was_down_and_is_proven_is_proven() -> None:
    """The catch-up has published it, and the audit logs say that it is all."""
    proven = ReconcileProgress(complete_since=1, complete_until=(MIDNIGHT + 9) * HOUR_MS)
    assert shown(proven, down=(MIDNIGHT + 3,))[3] is Hour.VERIFIED


def test_gaps_stand_at_the_hour_of_their_entry() -> None:
    """Open ones before all else; a record that waits for its deletion is none, nor has one without a time an hour."""
    proven = ReconcileProgress(complete_since=1, complete_until=(MIDNIGHT + 6) * HOUR_MS)
    at = (MIDNIGHT + 7) * HOUR_MS
    gaps = (Gap(at + 1, 1, "stale", 0.0), Gap(at + HOUR_MS, 1, "absent", 0.0), Gap(0, 1, "server_error", 0.0))
    hours = shown(proven, gaps=gaps, healed=(MIDNIGHT + 5, MIDNIGHT + 7))
    assert hours[4:9] == [Hour.VERIFIED, Hour.HEALED, Hour.UNPROVEN, Hour.OPEN, Hour.UNPROVEN]


def test_days_come_one_after_the_other() -> None:
    """The latest last; what was before the first run that is known stays empty."""
    days = calendar(ReconcileProgress(), [], [], active=set(RUNNING), known_since=MIDNIGHT, now=NOW, days=3)
    assert [day.day for day in days] == [DAY - 2, DAY - 1, DAY]
    assert {hour for day in days[:2] for hour in day.hours} == {Hour.BEFORE}
