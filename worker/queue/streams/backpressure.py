"""Backpressure: whether a resource may be read on, or its consumers (or Redis) have to catch up first.

Above a mark polling pauses, below a lower one it goes on, so that it does not flutter between the two. Nothing
is dropped meanwhile: what changes at OrderMesh is read when polling goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.clock import Clock
    from worker.queue.streams.groups import Groups, StreamStatus

LOOK_SECONDS = 0.25
"""Between two looks in a read: others write to the same Redis, and groups come and go."""
_MEGABYTE = 1 << 20
_MEMORY_OF_A_BYTE = 2
"""Memory that Redis takes, at most, for a byte of an entry: there is also the state of its record, what the allocator
rounds up, and the buffers through which it came. About 1.3 by measurement; too much only means a look more."""


@dataclass(frozen=True, slots=True)
class HighWaterMarks:
    """The high-water marks; 0 is none. `resume` is the part of a mark below which polling goes on.

    `entries`, `bytes`: what the slowest group of a stream has not read; a stream without groups is under no
    pressure. `memory`: share of the maxmemory of Redis, where it has one.
    """

    entries: int = 0
    bytes: int = 0
    memory: float = 0.0
    resume: float = 1.0


@dataclass(frozen=True, slots=True)
class PressureReport:
    """How a stream stood when it was looked at. `cause` says in words why polling pauses; "" if it does not."""

    cause: str
    group: str
    unread: int
    unread_bytes: int
    used_memory: int
    maxmemory: int

    @property
    def figures(self) -> dict[str, str | int]:
        """What the log says of it."""
        return {
            "group": self.group,
            "unread": self.unread,
            "unread_bytes": self.unread_bytes,
            "used_memory": self.used_memory,
            "maxmemory": self.maxmemory,
        }


def evaluate(
    resource: str, status: StreamStatus, marks: HighWaterMarks, *, paused: bool = False
) -> PressureReport:
    """Hold a stream against the marks; against the lower ones if polling is `paused`."""
    slowest = status.slowest
    unread = slowest.unread if slowest else 0
    return PressureReport(
        cause="; ".join(_causes(resource, status, marks, marks.resume if paused else 1.0)),
        group=slowest.name if slowest else "",
        unread=unread,
        unread_bytes=round(unread * status.entry_bytes),
        used_memory=status.used_memory,
        maxmemory=status.maxmemory,
    )


def _causes(resource: str, status: StreamStatus, marks: HighWaterMarks, factor: float) -> Iterator[str]:
    slowest, low = status.slowest, marks.resume
    if slowest is not None:
        advice = (
            f"Start its consumers, or more of them; `ordersync groups drop {slowest.name} {resource}` "
            "gives up what it has not read"
        )
        if marks.entries and slowest.unread >= marks.entries * factor:
            yield (
                f"group {slowest.name} has {slowest.unread} entries to read (polling pauses at {marks.entries} "
                f"and goes on below {marks.entries * low:.0f}). {advice}"
            )
        size = slowest.unread * status.entry_bytes
        if marks.bytes and size >= marks.bytes * factor:
            yield (
                f"group {slowest.name} has about {size / _MEGABYTE:.1f} MB to read (polling pauses at "
                f"{marks.bytes / _MEGABYTE:.1f} MB and goes on below {marks.bytes * low / _MEGABYTE:.1f} MB). "
                f"{advice}"
            )
    if marks.memory and status.maxmemory and status.used_memory >= status.maxmemory * marks.memory * factor:
        yield (
            f"Redis uses {status.used_memory / status.maxmemory:.0%} of its maxmemory (polling pauses at "
            f"{marks.memory:.0%} and goes on below {marks.memory * low:.0%}). Give it more (CONFIG SET maxmemory), "
            "or keep less (ORDERSYNC_RETENTION__MAX_AGE, __MAX_ENTRIES, __MAX_BYTES); `ordersync groups` shows "
            "which groups hold back how much"
        )


def headroom(status: StreamStatus, marks: HighWaterMarks) -> float:
    """How many entries may be written before a mark can be reached.

    No more than the next one while nobody knows how long they are.
    """
    size, slowest = status.entry_bytes, status.slowest
    rooms = [float("inf")]
    if slowest is not None:
        if marks.entries:
            rooms.append(marks.entries - slowest.unread)
        if marks.bytes:
            rooms.append(marks.bytes / size - slowest.unread if size else 1)
    if marks.memory and status.maxmemory:
        left = status.maxmemory * marks.memory - status.used_memory
        rooms.append(left / (size * _MEMORY_OF_A_BYTE) if size else 1)
    return min(rooms)


class Backpressure:
    """Looks at the streams of one account."""

    def __init__(self, groups: Groups, marks: HighWaterMarks, clock: Clock) -> None:
        self.groups, self.marks, self.clock = groups, marks, clock

    def gate(self, resource: str) -> BackpressureGate:
        """For one read of a resource."""
        return BackpressureGate(self, resource)


class BackpressureGate:
    """Whether one read may begin, and go on."""

    def __init__(self, backpressure: Backpressure, resource: str) -> None:
        self._pressure, self._resource = backpressure, resource
        self._look_at, self._room = 0.0, 0.0

    async def check_now(self, written: int = 0, *, paused: bool = False) -> PressureReport:
        """Look at the stream. `written`: entries that this read has written so far."""
        backpressure = self._pressure
        status = await backpressure.groups.status(self._resource)
        self._look_at = backpressure.clock.monotonic() + LOOK_SECONDS
        self._room = written + headroom(status, backpressure.marks)
        return evaluate(self._resource, status, backpressure.marks, paused=paused)

    async def check(self, written: int) -> PressureReport | None:
        """Between two pages: why the read must pause, or None. Looks only when a mark may have been reached."""
        if written < self._room and self._pressure.clock.monotonic() < self._look_at:
            return None
        load = await self.check_now(written)
        return load if load.cause else None
