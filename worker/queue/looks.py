"""What a retention pass sees of the streams of an account before it reads any: which there are, and which have changed.

Most streams do not exist, and most of the others are as they were. So a pass asks with one call for all, and trims and
surveys those alone of which it does not know that there is nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ordersync_consumer.groups import written_at
from worker.redis import scripts
from worker.redis.stored import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis


@dataclass(frozen=True, slots=True)
class StreamLook:
    """A stream at one moment.

    Attributes:
        entries: Number of entries.
        first: Id of the first one; "" if there is none, as for the next.
        last: Id of the last one.
        groups: Number of groups.
        behind: Groups among them that have not acknowledged all of it.

    """

    entries: int
    first: str
    last: str
    groups: int
    behind: int

    def exceeds(self, max_age: float, now: float) -> bool:
        """Whether the first entry is older than `max_age` seconds (0: no limit) at `now` (seconds since 1970)."""
        return bool(max_age and self.first) and written_at(self.first) + max_age <= now


class StreamLooks:
    """Looks at the streams of one account, and remembers which of them have nothing to be trimmed.

    `streams`: their keys.
    """

    def __init__(self, redis: Redis, streams: Sequence[str]) -> None:
        self._streams, self._there = streams, set[str]()
        self._settled: dict[str, StreamLook] = {}
        self._script = scripts.load(redis, "worker.queue", "look")

    async def look(self) -> dict[str, StreamLook | None]:
        """Return the streams that exist, by key; None for a key that is not a stream, or may not be read."""
        keys = sorted(self._streams, key=lambda stream: stream not in self._there)
        answer = await self._script(keys=keys, args=[len(self._there)])
        found: dict[str, StreamLook | None] = {}
        for key, told in zip(keys, answer, strict=True):
            if isinstance(told, list):
                entries, first, last, groups, behind = told
                found[key] = StreamLook(entries, text_of(first), text_of(last), groups, behind)
            elif told:
                found[key] = None
        self._there = set(found)
        self._settled = {key: look for key, look in self._settled.items() if key in found}
        return found

    def is_settled(self, stream: str, look: StreamLook | None) -> bool:
        """Return whether the stream looks as it did when there was nothing to be trimmed or told of it."""
        return look is not None and self._settled.get(stream) == look

    def settle(self, stream: str, look: StreamLook | None) -> None:
        """Remember that there is nothing to be trimmed of a stream that looks like this, but by age, or to be told."""
        if look is not None and not look.behind:
            self._settled[stream] = look

    def unsettle(self, stream: str) -> None:
        """Forget that."""
        self._settled.pop(stream, None)
