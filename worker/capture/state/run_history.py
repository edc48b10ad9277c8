"""What polls have done: their records, and what comes out of them for each minute.

A record is written with the last commit of a run, into the stream `ordersync:{A}:runs`, of which the last 10,000 are
kept. Its fields are those of the summary line of the log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from worker.capture.state.run import Outcome
from worker.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from redis.asyncio import Redis

    from worker.keys import Keys

MINUTES = 15
"""Minutes that rates are told for."""
MAX_LOOKED_AT = 5000
"""Run records that are read for the rates; where there are more in that time, the earliest minutes stay empty."""
_AT_ONCE = 500
_PUBLISHED = ("snapshot", "created", "updated", "deleted", "recorded")
_TEXTS = frozenset(
    {"run_id", "account", "resource", "plan", "reason", "outcome", "error", "error_code", "trace_id"}
)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run. `values`: its fields, numbers as such. Times in seconds since 1970, by the clock of Redis."""

    entry_id: str
    values: Mapping[str, str | int | float] = field(repr=False)

    @property
    def ended_at(self) -> float:
        """When its record was written."""
        return int(self.entry_id.partition("-")[0]) / 1000

    @property
    def began_at(self) -> float:
        """When it began."""
        return self.ended_at - self.number("duration_s")

    @property
    def events(self) -> int:
        """Events that it published."""
        return int(sum(self.number(name) for name in _PUBLISHED))

    @property
    def failed(self) -> bool:
        """Whether it came to nothing, or its evidence spoke against it."""
        return self.text("outcome") in {Outcome.FAILED, "suspicious"}

    def text(self, name: str) -> str:
        """A field as text; "" where there is none."""
        return str(self.values.get(name, ""))

    def number(self, name: str) -> float:
        """A field as a number; 0 where there is none."""
        value = self.values.get(name, 0)
        return 0 if isinstance(value, str) else value

    def as_json(self) -> dict[str, Any]:
        """As commands print it: the fields, the events published, and when it began and ended."""
        times = {"started_at": rfc3339(self.began_at), "ended_at": rfc3339(self.ended_at)}
        return {**times, **self.values, "events": self.events, "entry": self.entry_id}


def parse(entry_id: bytes, fields: Mapping[bytes, bytes]) -> RunRecord:
    """A run record as Redis gives it. One of a later version may have more fields."""
    values: dict[str, str | int | float] = {}
    for name, value in fields.items():
        key, text = name.decode("utf-8", "replace"), value.decode("utf-8", "replace")
        values[key] = text if key in _TEXTS else _number(text)
    return RunRecord(entry_id.decode(), values)


def _number(text: str) -> str | int | float:
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text


class History:
    """The run records of one account."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._key = redis, keys.runs

    async def newest_first(self, *, since: float = 0.0) -> AsyncIterator[RunRecord]:
        """Every run that ended since then (seconds since 1970), the latest first."""
        before, oldest = "+", str(max(0, int(since * 1000)))
        while entries := await self._redis.xrevrange(self._key, max=before, min=oldest, count=_AT_ONCE):
            for entry_id, fields in entries:
                yield parse(entry_id, fields)
            if len(entries) < _AT_ONCE:
                return
            before = f"({entries[-1][0].decode()}"

    async def oldest(self) -> float:
        """When the oldest run that is kept ended (seconds since 1970); 0 if there is none."""
        entries = await self._redis.xrange(self._key, count=1)
        return int(entries[0][0].decode().partition("-")[0]) / 1000 if entries else 0.0

    async def hours(self, first: int, last: int) -> set[int]:
        """In which of these hours (counted since 1970, both inclusive) a run has ended."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for hour in range(first, last + 1):
                pipe.xrange(
                    self._key, min=str(hour * 3_600_000), max=str((hour + 1) * 3_600_000 - 1), count=1
                )
            result = await pipe.execute()
        return {first + at for at, entries in enumerate(result) if entries}

    async def after(self, entry_id: str, *, limit: int) -> list[RunRecord]:
        """Runs whose records stand behind this entry, oldest first; no more than `most`, of which the latest."""
        entries = await self._redis.xrevrange(self._key, max="+", min=f"({entry_id}", count=limit)
        return [parse(item, fields) for item, fields in reversed(entries)]


class Rates:
    """Records read and events published in each of the last minutes, by resource. Reads each record once."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._runs: list[RunRecord] = []

    async def poll(self, now: float) -> dict[str, tuple[list[int], list[int]]]:
        """For each resource: records and events of each of the last `MINUTES` minutes, the latest last."""
        oldest = now - MINUTES * 60
        after = self._runs[-1].entry_id if self._runs else f"{max(0, int(oldest * 1000))}-0"
        self._runs += await self._history.after(after, limit=MAX_LOOKED_AT)
        self._runs = [run for run in self._runs if run.ended_at > oldest]
        return per_minute(self._runs, now)


def per_minute(runs: Iterable[RunRecord], now: float) -> dict[str, tuple[list[int], list[int]]]:
    """What runs have read and published in each of the last minutes. A long one is spread evenly over its time."""
    sums: dict[str, tuple[list[float], list[float]]] = {}
    for run in runs:
        records, events = sums.setdefault(run.text("resource"), ([0.0] * MINUTES, [0.0] * MINUTES))
        for at, share in _spread(now - run.ended_at, run.number("duration_s")):
            records[MINUTES - 1 - at] += run.number("records") * share
            events[MINUTES - 1 - at] += run.events * share
    return {name: ([round(n) for n in r], [round(n) for n in e]) for name, (r, e) in sums.items()}


def _spread(ended_ago: float, seconds: float) -> list[tuple[int, float]]:
    """Over which minutes before now a run went, and with which part of it; minutes too long ago are left out."""
    ended_ago = max(0.0, ended_ago)
    if seconds < 1:
        at = int(ended_ago // 60)
        return [(at, 1.0)] if at < MINUTES else []
    parts = []
    for at in range(int(ended_ago // 60), min(MINUTES, int((ended_ago + seconds) // 60) + 1)):
        overlap = min(ended_ago + seconds, (at + 1) * 60) - max(ended_ago, at * 60)
        if overlap > 0:
            parts.append((at, overlap / seconds))
    return parts
