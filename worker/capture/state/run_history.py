"""The history of polls: run records, and rates per minute that are computed from them.

A run record is written with the last commit of a run, into the stream `ordersync:{A}:runs`, which keeps the last
10,000. Its fields are those of the summary line of the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from worker.capture.state.run import Outcome
from worker.clock import rfc3339
from worker.redis.stored import MOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from redis.asyncio import Redis

    from worker.keys import Keys

MINUTES = 15
"""Minutes for which rates are computed."""
MAX_RUNS_READ = 5000
"""Run records that are read for the rates; if there are more in that time, the earliest minutes stay empty."""
_AT_ONCE = 500
_PUBLISHED = ("snapshot", "created", "updated", "deleted", "recorded")
_TEXTS = frozenset(
    {
        "run_id",
        "account",
        "resource",
        "plan",
        "reason",
        "outcome",
        "covered",
        "error",
        "error_code",
        "trace_id",
    }
)


class RunRecord(msgspec.Struct, frozen=True):
    """One run. `values`: its fields, with numbers parsed. Times in seconds since 1970, by the clock of Redis."""

    entry_id: str
    values: Mapping[str, str | int | float]

    @property
    def ended_at(self) -> float:
        """When its record was written."""
        return int(self.entry_id.partition("-")[0]) / 1000

    @property
    def began_at(self) -> float:
        """When the run began."""
        return self.ended_at - self.number("duration_s")

    @property
    def events(self) -> int:
        """The number of events that the run published."""
        return int(sum(self.number(name) for name in _PUBLISHED))

    @property
    def failed(self) -> bool:
        """True if the run failed or its result is suspect."""
        return self.text("outcome") in {Outcome.FAILED, "suspicious"}

    def text(self, name: str) -> str:
        """Return a field as text; "" if it is missing."""
        return str(self.values.get(name, ""))

    def number(self, name: str) -> float:
        """Return a field as a number; 0 if it is missing or text."""
        value = self.values.get(name, 0)
        return 0 if isinstance(value, str) else value

    def as_json(self) -> dict[str, Any]:
        """Return the run as commands print it: the fields, the events published, and when it began and ended."""
        times = {"started_at": rfc3339(self.began_at), "ended_at": rfc3339(self.ended_at)}
        return {**times, **self.values, "events": self.events, "entry": self.entry_id}


def parse(entry_id: bytes, fields: Mapping[bytes, bytes]) -> RunRecord:
    """Return a run record from its entry in Redis. A record of a later version may have more fields."""
    values: dict[str, str | int | float] = {}
    for name, value in fields.items():
        key, text = name.decode("utf-8", "replace"), value.decode("utf-8", "replace")
        values[key] = text if key in _TEXTS else _number(text)
    return RunRecord(entry_id.decode(), values)


def _number(text: str) -> str | int | float:
    try:
        number = int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text
    return number if abs(number) <= MOST else text  # also for one that is no number


class History:
    """The run records of one account."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._key = redis, keys.runs

    async def newest_first(self, *, since: float = 0.0) -> AsyncIterator[RunRecord]:
        """Yield every run that ended after `since` (seconds since 1970), the latest first."""
        before, oldest = "+", str(max(0, int(since * 1000)))
        while entries := await self._redis.xrevrange(self._key, max=before, min=oldest, count=_AT_ONCE):
            for entry_id, fields in entries:
                yield parse(entry_id, fields)
            if len(entries) < _AT_ONCE:
                return
            before = f"({entries[-1][0].decode()}"

    async def contains(self, run_id: str) -> bool:
        """Return whether this run is among the last 500 that were recorded."""
        entries = await self._redis.xrevrange(self._key, count=_AT_ONCE)
        return any(fields.get(b"run_id") == run_id.encode() for _, fields in entries)

    async def oldest(self) -> float:
        """Return when the oldest stored run ended (seconds since 1970); 0 if there is none."""
        entries = await self._redis.xrange(self._key, count=1)
        return int(entries[0][0].decode().partition("-")[0]) / 1000 if entries else 0.0

    async def hours(self, first: int, last: int) -> set[int]:
        """Return the hours in this range (counted since 1970, both inclusive) in which a run has ended."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for hour in range(first, last + 1):
                pipe.xrange(
                    self._key, min=str(hour * 3_600_000), max=str((hour + 1) * 3_600_000 - 1), count=1
                )
            result = await pipe.execute()
        return {first + index for index, entries in enumerate(result) if entries}

    async def after(self, entry_id: str, *, limit: int) -> list[RunRecord]:
        """Return the runs recorded after this entry, oldest first; if there are more than `limit`, the latest ones."""
        entries = await self._redis.xrevrange(self._key, max="+", min=f"({entry_id}", count=limit)
        return [parse(item, fields) for item, fields in reversed(entries)]


class Rates:
    """Records read and events published in each of the last minutes, by resource. Reads each record once."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._runs: list[RunRecord] = []

    async def poll(self, now: float) -> dict[str, tuple[list[int], list[int]]]:
        """Return for each resource the records and events of each of the last `MINUTES` minutes, the latest last."""
        oldest = now - MINUTES * 60
        after = self._runs[-1].entry_id if self._runs else f"{max(0, int(oldest * 1000))}-0"
        self._runs += await self._history.after(after, limit=MAX_RUNS_READ)
        self._runs = [run for run in self._runs if run.ended_at > oldest]
        return per_minute(self._runs, now)


def per_minute(runs: Iterable[RunRecord], now: float) -> dict[str, tuple[list[int], list[int]]]:
    """Return the records and events of each of the last minutes. A long run is spread evenly over its duration."""
    sums: dict[str, tuple[list[float], list[float]]] = {}
    for run in runs:
        records, events = sums.setdefault(run.text("resource"), ([0.0] * MINUTES, [0.0] * MINUTES))
        for minute, share in _spread(now - run.ended_at, run.number("duration_s")):
            records[MINUTES - 1 - minute] += run.number("records") * share
            events[MINUTES - 1 - minute] += run.events * share
    return {name: ([round(n) for n in r], [round(n) for n in e]) for name, (r, e) in sums.items()}


def _spread(ended_ago: float, seconds: float) -> list[tuple[int, float]]:
    """Return the minutes before now that a run covers, each with its share of the run; without minutes too long ago."""
    ended_ago = max(0.0, ended_ago)
    if seconds < 1:
        minute = int(ended_ago // 60)
        return [(minute, 1.0)] if minute < MINUTES else []
    parts = []
    for minute in range(int(ended_ago // 60), min(MINUTES, int((ended_ago + seconds) // 60) + 1)):
        overlap = min(ended_ago + seconds, (minute + 1) * 60) - max(ended_ago, minute * 60)
        if overlap > 0:
            parts.append((minute, overlap / seconds))
    return parts
