"""Finding the events of a record in a stream.

The state of a record links to its last event, and each event to the one before: `EventSearch.follow` finds them in a
time that does not grow with the stream. Where there is no link, a script in Redis scans the stream from the newest
event back, some hundred events per call, and returns the matches only. That search ends at the first version of the
record, at a time, or after a number of events.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from ordersync_consumer.envelope import Event, parse
from ordersync_consumer.groups import written_at
from worker.cancellation import finish
from worker.errors import DataError
from worker.redis.functions import function

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from redis.asyncio import Redis

AT_ONCE = 300
"""Events that Redis scans in one call: some milliseconds."""

LOOKUPS_AT_ONCE = 250
"""Look-ups after which a call that follows links ends: some milliseconds. An event takes up to ten of them."""


class ChainEnd(StrEnum):
    """Why no more events of a record were found by their links; see `lua/follow.lua`."""

    COMPLETE = "complete"
    """All events are found, or what an erasure has left."""
    TRIMMED = "trimmed"
    """Retention has removed the earlier ones."""
    MISSING = "missing"
    """The event before them was removed alone, so its link is lost."""
    UNLINKED = "unlinked"
    """The event before them is unknown: an earlier version published it."""


class Chain(msgspec.Struct, frozen=True):
    """The events of a record that were found by their links, oldest first, and why there are no more."""

    events: tuple[Event, ...]
    end: ChainEnd


class SearchResult(msgspec.Struct, frozen=True):
    """The result of a search.

    Attributes:
        events: The matching events, oldest first.
        looked_at: Number of events that were scanned.
        back_to: When the oldest of them was written, in seconds since 1970; 0 if none was scanned.
        cut_short: True if the search ended at its limit, before older events.

    """

    events: tuple[Event, ...]
    looked_at: int
    back_to: float
    cut_short: bool


class EventSearch:
    """Searches streams. Read-only."""

    def __init__(self, redis: Redis) -> None:
        self._script = function(redis, "worker.queue", "find")
        self._follow = function(redis, "worker.queue", "follow")

    async def entries(
        self, stream: str, subjects: Collection[str]
    ) -> AsyncIterator[tuple[bytes, dict[bytes, bytes]]]:
        """Yield id and fields of every entry with one of these subjects, newest first, whoever wrote it."""
        highest = "+"
        while True:
            arguments: list[str | int] = [highest, "-", AT_ONCE, len(subjects), *subjects]
            scanned, last, entries = await finish(self._script(keys=[stream], args=arguments))
            for entry_id, flat in entries:
                yield entry_id, dict(zip(flat[::2], flat[1::2], strict=True))
            if scanned < AT_ONCE:
                return
            highest = f"({last.decode()}"

    async def follow(self, stream: str, subject: str, last_event: int) -> Chain:
        """Return the events of a record, from its last one back along their links.

        Args:
            stream: Key of the stream.
            subject: The record.
            last_event: The sequence of its last event.

        """
        events: list[Event] = []
        wanted = str(last_event)
        while True:
            end, wanted, entries = await finish(
                self._follow(keys=[stream], args=[subject, wanted, LOOKUPS_AT_ONCE])
            )
            found = [_event(entry_id, flat) for entry_id, flat in entries]
            events += [event for event in found if event is not None]
            if end != b"more":
                return Chain(tuple(reversed(events)), ChainEnd(end.decode()))

    async def search(
        self,
        stream: str,
        subjects: Collection[str],
        texts: Collection[str] = (),
        *,
        since: float = 0.0,
        before: str = "",
        limit: int,
        newest: bool = False,
    ) -> SearchResult:
        """Return events with one of these subjects, or whose record contains one of the texts.

        Args:
            stream: Key of the stream.
            subjects: Without `texts`, the search ends when the first version of each subject is found.
            texts: Parts of a record.
            since: Ignore events written before this time, in seconds since 1970.
            before: Begin with the event before this entry; "" for the newest one.
            limit: Scan this number of events at most.
            newest: End the search at the first match.

        """
        events: list[Event] = []
        first_versions: set[str] = set()
        lowest, looked_at, last = f"{max(0, int(since * 1000))}-0", 0, ""
        highest = f"({before}" if before else "+"
        while looked_at < limit:
            count = min(AT_ONCE, limit - looked_at)
            arguments: list[str | int] = [highest, lowest, count, len(subjects), *subjects, *texts]
            scanned, oldest, entries = await finish(self._script(keys=[stream], args=arguments))
            for entry_id, flat in entries:
                event = _event(entry_id, flat)
                if event is not None and (event.subject in subjects or _contains(event, texts)):
                    events.append(event)
                    if event.version == 1:
                        first_versions.add(event.subject)
            looked_at += scanned
            last = oldest.decode() or last
            is_complete = scanned < count or (not texts and first_versions.issuperset(subjects))
            if is_complete or (newest and events):
                return _result(events, looked_at, last, cut_short=False)
            highest = f"({last}"
        return _result(events, looked_at, last, cut_short=True)


def _result(events: list[Event], looked_at: int, last: str, *, cut_short: bool) -> SearchResult:
    return SearchResult(tuple(reversed(events)), looked_at, written_at(last) if last else 0.0, cut_short)


def _event(entry_id: bytes, flat: list[bytes]) -> Event | None:
    """Return the event of an entry; None if this program did not write the entry."""
    try:
        return parse(entry_id, dict(zip(flat[::2], flat[1::2], strict=True)))
    except DataError:
        return None


def _contains(event: Event, texts: Collection[str]) -> bool:
    return any(text.encode() in event.data for text in texts)
