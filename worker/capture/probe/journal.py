"""The pages that a probe has seen so far, in Redis: a probe that is interrupted goes on with them.

A probe sends the same requests for as long as it gets the same answers. So one whose worker was killed is repeated
from its journal, up to the requests that the journal does not have. Several requests are under way at a time, so their
order is not kept; of the same request that is sent again the answers are. Of a record only its id, times, status,
merchant and field names are stored, and for a quarter of an hour at most.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from worker.cancellation import finish
from worker.capture.probe.samples import ProbeRefusal, SamplePage, SampleRecord
from worker.redis.connections import answer

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEPT_SECONDS = 900
"""After this time a journal says too little about the gateway of now."""


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request, as text, and the answer."""

    request: str
    refusal: ProbeRefusal | None = None
    records: tuple[SampleRecord, ...] = ()
    wrapper: str | None = None
    total_field: str | None = None
    total: int | None = None


_decode = msgspec.json.Decoder(_Entry).decode


class ProbeJournal:
    """The journal of one probe, which one worker at a time may write. `profile`: with what the probe begins."""

    def __init__(self, redis: Redis, key: str, profile: str) -> None:
        self._redis, self._key, self._profile = redis, key, profile
        self._known: dict[str, deque[_Entry]] = {}

    async def load(self) -> int:
        """Load what an earlier life has written; return the number of answers."""
        self._known = {}
        for raw in await answer(self._redis.lrange(self._key, 0, -1)):
            try:
                entry = _decode(raw)
            except (msgspec.DecodeError, RecursionError):
                break  # written by another version
            if entry.request.startswith(f"{self._profile} "):
                self._known.setdefault(entry.request, deque()).append(entry)
        return sum(map(len, self._known.values()))

    def next(self, request: str) -> SamplePage | ProbeRefusal | None:
        """Return the next answer to a request, if the journal has one; None if it has to be sent."""
        answers = self._known.get(f"{self._profile} {request}")
        if not answers:
            return None
        entry = answers.popleft()
        return entry.refusal or SamplePage(entry.records, entry.wrapper, entry.total_field, entry.total)

    async def add(self, request: str, page: SamplePage | ProbeRefusal) -> None:
        """Write the answer to a request that was sent."""
        request = f"{self._profile} {request}"
        if isinstance(page, ProbeRefusal):
            entry = _Entry(request, page)
        else:
            entry = _Entry(request, None, page.records, page.wrapper, page.total_field, page.total)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.rpush(self._key, msgspec.json.encode(entry))
            pipe.expire(self._key, KEPT_SECONDS)
            await finish(pipe.execute())

    async def drop(self) -> None:
        """Remove the journal, because the probe has ended."""
        self._known = {}
        await finish(answer(self._redis.delete(self._key)))
