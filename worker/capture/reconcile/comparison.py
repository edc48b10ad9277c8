"""Whether what was published of a record covers what its audit log tells. No I/O.

An audit entry says that a record changed at a moment. What was published covers it if it was observed at that moment or
later: if the record, as it is known, says of itself that it was modified no earlier. There is no tolerance: where the
clock of the log runs before that of the record, or an entry does not move the record's time, the record is read by its
id, which costs a request and proves it all the same. A tolerance would hide a second change within its length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.clock import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.capture.resources import Resource
    from worker.ordermesh.contract.findings import Capabilities
    from worker.ordermesh.http.reply import AuditEntry

_SECOND = 1000


class Window(msgspec.Struct, frozen=True):
    """What a pass proves: what happened behind `after`, and up to `until`, in ms since 1970 of OrderMesh's clock."""

    after: int
    until: int

    @property
    def empty(self) -> bool:
        """Whether there is nothing to prove yet."""
        return self.until <= self.after


class Comparison(msgspec.Struct, frozen=True):
    """What became of one audit log: entries within the window, those without a time that can be read.

    `uncovered`: the time of the latest entry that is not known to be published; 0 if all of them are.
    """

    entries: int = 0
    timeless: int = 0
    uncovered: int = 0


def window_of(proven_until: int, *, server_now: float, fresh_as_of: float, lag: float) -> Window:
    """The window of a pass that begins at `server_now`, where everything before `proven_until` (ms) is proven.

    It ends `lag` seconds before now, since a change may be shown late, and so long before the last read began, since
    what nobody has tried to read yet is not missing. All times by the clock of OrderMesh.
    """
    return Window(proven_until, int((min(server_now, fresh_as_of) - lag) * _SECOND))


def compare(
    times: Sequence[int | None], modified: int, window: Window, *, whole_seconds: bool = False
) -> Comparison:
    """Hold the times of an audit log (None: cannot be read) against when the record, as known, was `modified`.

    All in ms since 1970. `modified` of 0 covers nothing: it is not known. `whole_seconds`: records tell no fractions of
    a second, as those of the shipment service.
    """
    within = [time for time in times if time is not None and window.after < time <= window.until]
    timeless = sum(time is None for time in times)
    uncovered = [time for time in within if not _covers(modified, time, times, whole_seconds)]
    return Comparison(len(within), timeless, max(uncovered, default=0))


def _covers(modified: int, time: int, times: Sequence[int | None], whole_seconds: bool) -> bool:
    if not whole_seconds or modified // _SECOND != time // _SECOND:
        return bool(modified) and modified >= time
    # A second change within the same second would look like the first: then the record itself has to tell.
    return sum(other is not None and other // _SECOND == time // _SECOND for other in times) == 1


def are_whole_seconds(times: Iterable[int]) -> bool:
    """Whether none of these times has a fraction of a second."""
    return all(time % _SECOND == 0 for time in times)


def times_of(entries: Iterable[AuditEntry]) -> list[int | None]:
    """When audit entries say that they were made, in their order."""
    return [parse_time(entry.time) if entry.time else None for entry in entries]


def can_be_proven(resource: Resource) -> bool:
    """Whether OrderMesh has, for this resource, the audit logs and the single reads that a proof needs."""
    return resource.audit is not None and resource.single is not None


def obstacle(resource: Resource, capabilities: Capabilities) -> str:
    """Why nothing can be proven at this gateway, in a sentence; "" if it can."""
    if not can_be_proven(resource):
        return "OrderMesh serves no audit logs, or no single records, of this resource"
    if capabilities.audit.supported is False:
        return f"the audit logs cannot be read: {capabilities.audit.why}"
    if capabilities.single.supported is False:
        return f"a single record cannot be read: {capabilities.single.why}"
    return ""
