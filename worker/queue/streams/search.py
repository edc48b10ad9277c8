"""Finding the events of a record in a stream.

A stream has no index. Redis itself looks through it, from the newest event to older ones and some hundred at a time,
so that only what is found is sent. The search ends with the first version of the record, at a time, or after so many
events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.cancellation import finish
from worker.errors import DataError
from worker.queue.envelope import Event, parse
from worker.queue.streams.groups import written_at
from worker.redis import scripts

if TYPE_CHECKING:
    from collections.abc import Collection

    from redis.asyncio import Redis

AT_ONCE = 300
"""Events that Redis looks at in one call: some milliseconds."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search has found, oldest first.

    `looked_at`: so many events. `back_to`: when the oldest of them was written (seconds since 1970; 0 for none).
    `cut_short`: there are older ones that it was not to look at.
    """

    events: tuple[Event, ...]
    looked_at: int
    back_to: float
    cut_short: bool


class EventSearch:
    """Looks through streams. Changes nothing."""

    def __init__(self, redis: Redis) -> None:
        self._script = scripts.load(redis, "worker.queue", "find")

    async def search(
        self,
        stream: str,
        subjects: Collection[str],
        texts: Collection[str] = (),
        *,
        since: float = 0.0,
        limit: int,
        newest: bool = False,
    ) -> SearchResult:
        """Events whose subject is one of these, or whose record holds one of the texts.

        No event written before `since` (seconds since 1970) is looked at, and no more than `most`. Without texts, it
        ends when the first version of each subject is found; with `newest`, when anything is.
        """
        events: list[Event] = []
        first_versions: set[str] = set()
        highest, lowest, looked_at, last = "+", f"{max(0, int(since * 1000))}-0", 0, ""
        while looked_at < limit:
            count = min(AT_ONCE, limit - looked_at)
            words: list[str | int] = [highest, lowest, count, len(subjects), *subjects, *texts]
            looked, oldest, entries = await finish(self._script(keys=[stream], args=words))
            for entry_id, flat in entries:
                event = _event(entry_id, flat)
                if event is not None and (event.subject in subjects or _holds(event, texts)):
                    events.append(event)
                    if event.version == 1:
                        first_versions.add(event.subject)
            looked_at += looked
            last = oldest.decode() or last
            is_complete = looked < count or (not texts and first_versions.issuperset(subjects))
            if is_complete or (newest and events):
                return _found(events, looked_at, last, cut_short=False)
            highest = f"({last}"
        return _found(events, looked_at, last, cut_short=True)


def _found(events: list[Event], looked_at: int, last: str, *, cut_short: bool) -> SearchResult:
    return SearchResult(tuple(reversed(events)), looked_at, written_at(last) if last else 0.0, cut_short)


def _event(entry_id: bytes, flat: list[bytes]) -> Event | None:
    """The event of an entry; None for one of another hand, which is nobody's."""
    try:
        return parse(entry_id, dict(zip(flat[::2], flat[1::2], strict=True)))
    except DataError:
        return None


def _holds(event: Event, texts: Collection[str]) -> bool:
    return any(text.encode() in event.data for text in texts)
