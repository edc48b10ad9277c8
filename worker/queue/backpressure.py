"""Backpressure: polling of a resource pauses while its consumers, or the memory of Redis, are too far behind.

Polling pauses above a high-water mark and goes on below a lower one, so that it does not alternate between the two.
Nothing is lost meanwhile: changes at OrderMesh are read when polling goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.queue.lateness import drop_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ordersync_consumer.groups import Groups, StreamStatus
    from worker.clock import Clock

CHECK_SECONDS = 0.25
"""Between two checks during a read: other programs write to the same Redis, and groups come and go."""
MEMORY_SECONDS = 1.0
"""Seconds after which a read that begins looks at the memory of the server again: INFO takes more than the rest."""
_MEGABYTE = 1 << 20
_MEMORY_OF_A_BYTE = 2
"""Bytes of memory per byte of an entry at most, with the state of its record, the rounding of the allocator and the
buffers of the connection. Measured: about 1.3. A value that is too high only means more checks."""


class HighWaterMarks(msgspec.Struct, frozen=True):
    """The high-water marks; 0 disables a mark.

    Attributes:
        entries: Unread entries of the slowest group. A stream without groups never reaches this mark, or the next.
        bytes: Unread bytes of the slowest group.
        memory: Share of the maxmemory of Redis, if it has one.
        resume: Polling goes on below this share of a mark.

    """

    entries: int = 0
    bytes: int = 0
    memory: float = 0.0
    resume: float = 1.0


class PressureReport(msgspec.Struct, frozen=True):
    """The result of a check. `cause`: why polling pauses, in words; "" if it does not."""

    cause: str
    group: str
    unread: int
    unread_bytes: int
    used_memory: int
    maxmemory: int

    @property
    def figures(self) -> dict[str, str | int]:
        """The fields of the log line."""
        return {
            "group": self.group,
            "unread": self.unread,
            "unread_bytes": self.unread_bytes,
            "used_memory": self.used_memory,
            "maxmemory": self.maxmemory,
        }


class StreamGlance(msgspec.Struct, frozen=True):
    """What shows at little cost whether a mark may be reached, without the numbers.

    Attributes:
        groups: Groups of the stream.
        behind: Those among them that have not read its last entry.
        used_memory: Bytes that Redis compares with `maxmemory`.
        maxmemory: The limit of Redis in bytes; 0 means no limit.

    """

    groups: int = 0
    behind: int = 0
    used_memory: int = 0
    maxmemory: int = 0


def evaluate(
    resource: str, status: StreamStatus, marks: HighWaterMarks, *, paused: bool = False
) -> PressureReport:
    """Return the result of comparing a stream with the marks; with the lower ones if polling is `paused`."""
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
            "Start more consumers of the group. If it is not needed any more, run "
            f"`{drop_command(slowest.name, resource)}`: this discards what it has not read"
        )
        if marks.entries and slowest.unread >= marks.entries * factor:
            yield (
                f"group {slowest.name} has {slowest.unread} unread entries (polling pauses at {marks.entries} "
                f"and resumes below {marks.entries * low:.0f}). {advice}"
            )
        size = slowest.unread * status.entry_bytes
        if marks.bytes and size >= marks.bytes * factor:
            yield (
                f"group {slowest.name} has about {size / _MEGABYTE:.1f} MB unread (polling pauses at "
                f"{marks.bytes / _MEGABYTE:.1f} MB and resumes below {marks.bytes * low / _MEGABYTE:.1f} MB). "
                f"{advice}"
            )
    if marks.memory and status.maxmemory and status.used_memory >= status.maxmemory * marks.memory * factor:
        yield (
            f"Redis uses {status.used_memory / status.maxmemory:.0%} of its maxmemory (polling pauses at "
            f"{marks.memory:.0%} and resumes below {marks.memory * low:.0%}). Give it more "
            "memory (CONFIG SET maxmemory), or keep fewer events (ORDERSYNC_RETENTION__MAX_AGE, __MAX_ENTRIES, "
            "__MAX_BYTES). `ordersync groups` shows how many events are kept for each group"
        )


def headroom(status: StreamStatus, marks: HighWaterMarks) -> float:
    """Return how many entries may be written before a mark can be reached; 1 if the length of entries is unknown."""
    size, slowest = status.entry_bytes, status.slowest
    limits = [float("inf")]
    if slowest is not None:
        if marks.entries:
            limits.append(marks.entries - slowest.unread)
        if marks.bytes:
            limits.append(marks.bytes / size - slowest.unread if size else 1)
    if marks.memory and status.maxmemory:
        left = status.maxmemory * marks.memory - status.used_memory
        limits.append(left / (size * _MEMORY_OF_A_BYTE) if size else 1)
    return min(limits)


class MemoryLook:
    """The memory of one server as it was seen last, by all accounts of this process that have their keys there."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._at = clock, -float("inf")
        self._used = self._most = 0

    @property
    def is_old(self) -> bool:
        """Whether it has to be looked at again."""
        return self._clock.monotonic() - self._at >= MEMORY_SECONDS

    def note(self, glance: StreamGlance) -> None:
        """Take note of what was seen."""
        self._used, self._most, self._at = glance.used_memory, glance.maxmemory, self._clock.monotonic()

    def add_to(self, glance: StreamGlance) -> StreamGlance:
        """Return a glance with the memory as it was seen last."""
        return msgspec.structs.replace(glance, used_memory=self._used, maxmemory=self._most)


class Backpressure:
    """Checks the streams of one account. `memory`: what was seen of its server; without it each read looks."""

    def __init__(
        self, groups: Groups, marks: HighWaterMarks, clock: Clock, memory: MemoryLook | None = None
    ) -> None:
        self.groups, self.marks, self.clock, self._memory = groups, marks, clock, memory

    @property
    def needs_memory(self) -> bool:
        """Whether a read that begins has to look at the memory of the server."""
        return self.marks.memory > 0 and (self._memory is None or self._memory.is_old)

    def with_memory(self, glance: StreamGlance, *, is_new: bool) -> StreamGlance:
        """Return a glance with the memory of the server. `is_new`: it was looked at."""
        if self._memory is None:
            return glance
        if is_new:
            self._memory.note(glance)
        return self._memory.add_to(glance)

    def gate(self, resource: str) -> BackpressureGate:
        """Return a gate for one read of a resource."""
        return BackpressureGate(self, resource)


class BackpressureGate:
    """Decides for one read whether it may begin, and whether it may go on."""

    def __init__(self, backpressure: Backpressure, resource: str) -> None:
        self._backpressure, self._resource = backpressure, resource
        self._next_check, self._headroom = 0.0, 0.0

    async def check_now(self, written: int = 0, *, paused: bool = False) -> PressureReport:
        """Check the stream.

        Args:
            written: Entries that this read has written so far.
            paused: True if polling is paused, and goes on below the lower marks.

        """
        backpressure = self._backpressure
        status = await backpressure.groups.status(self._resource)
        self._next_check = backpressure.clock.monotonic() + CHECK_SECONDS
        self._headroom = written + headroom(status, backpressure.marks)
        return evaluate(self._resource, status, backpressure.marks, paused=paused)

    async def begin(self, glance: StreamGlance, *, paused: bool) -> PressureReport:
        """Check the stream as the read begins: closely only if `glance` shows that a mark may be reached.

        `paused`: polling is paused, and goes on below the lower marks.
        """
        marks = self._backpressure.marks
        has_limit = marks.memory > 0 and glance.maxmemory > 0
        is_full = has_limit and glance.used_memory >= glance.maxmemory * marks.memory
        if paused or is_full or (glance.behind and (marks.entries or marks.bytes)):
            return await self.check_now(paused=paused)
        self._next_check = self._backpressure.clock.monotonic() + CHECK_SECONDS
        self._headroom = 1 if glance.groups or has_limit else float("inf")
        return PressureReport("", "", 0, 0, glance.used_memory, glance.maxmemory)

    async def check(self, written: int) -> PressureReport | None:
        """Check between two pages, if a mark may have been reached. Return None if the read may go on."""
        if written < self._headroom and self._backpressure.clock.monotonic() < self._next_check:
            return None
        report = await self.check_now(written)
        return report if report.cause else None
