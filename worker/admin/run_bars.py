"""The runs of the last 24 hours, counted by half hours: how many there were, how many failed, what they published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.capture.state.run_history import MAX_RUNS_READ

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.capture.state.run_history import History, RunRecord

SLOT_SECONDS = 1800
SLOTS = 48


@dataclass(frozen=True, slots=True)
class Bar:
    """The runs of a resource that ended in one half hour.

    Attributes:
        begins: When the half hour begins (seconds since 1970).
        runs: How many runs ended in it.
        failed: How many of them failed or were suspicious.
        events: How many events they published.
        known: False if the half hour is before the oldest run that is kept: nothing is known of it.

    """

    begins: float
    runs: int
    failed: int
    events: int
    known: bool


class RunBars:
    """Counts the runs of one account. Each run record is read once."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._counts: dict[str, dict[int, tuple[int, int, int]]] = {}
        self._last = ""
        self._oldest = 0.0

    async def poll(self, now: float) -> None:
        """Read the runs that were recorded since the last call; `now` in seconds since 1970."""
        if self._last:
            runs = await self._history.after(self._last, limit=MAX_RUNS_READ)
        else:
            since = now - SLOTS * SLOT_SECONDS
            runs = [run async for run in self._history.newest_first(since=since)][::-1]
        if runs:
            self._last = runs[-1].entry_id
        self._oldest = await self._history.oldest()
        self._count(runs)
        first = int(now // SLOT_SECONDS) - SLOTS
        for slots in self._counts.values():
            for slot in [slot for slot in slots if slot < first]:
                del slots[slot]

    def of(self, resource: str, now: float) -> list[Bar]:
        """Return the bars of a resource, the latest last."""
        slots, last = self._counts.get(resource, {}), int(now // SLOT_SECONDS)
        known = int(self._oldest // SLOT_SECONDS) if self._oldest else last + 1
        return [
            Bar(slot * SLOT_SECONDS, *slots.get(slot, (0, 0, 0)), known=slot >= known or slot in slots)
            for slot in range(last - SLOTS + 1, last + 1)
        ]

    def _count(self, runs: Iterable[RunRecord]) -> None:
        for run in runs:
            slots, slot = self._counts.setdefault(run.text("resource"), {}), int(run.ended_at // SLOT_SECONDS)
            number, failed, events = slots.get(slot, (0, 0, 0))
            slots[slot] = (number + 1, failed + run.failed, events + run.events)
