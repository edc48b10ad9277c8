"""Dead letters: records and events that could not be processed, the reasons, and how to retry them.

The stream `ordersync:{A}:dead:RESOURCE` contains two kinds:

- `record`: a record of OrderMesh that a poll could not read. Fields: kind, reason, subject, where (operation and page),
  time, data. Of a record that is too large, size (bytes) and fingerprint (hex) replace data; with a
  privacy policy nothing does.
- `delivery`: an event that a group could not process. The same fields, with the id of the entry as `where`; then group,
  consumer, attempts, trace, and the complete event: `data` under its own name, the other fields as `event.NAME`.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from ordersync_consumer import envelope
from ordersync_consumer.cancellation import finish
from ordersync_consumer.client import answer
from ordersync_consumer.errors import DataError, NotReplayable
from ordersync_consumer.functions import function
from ordersync_consumer.groups import LONG_AGO, REPLAY, text, written_at
from ordersync_consumer.redaction import words_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from ordersync_consumer.envelope import Event
    from ordersync_consumer.keys import Keys

RECORD, DELIVERY = "record", "delivery"
_PAGE = 100
_EVENT = b"event."


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter.

    Attributes:
        letter_id: Its id in the stream of dead letters.
        resource: Name of the resource.
        kind: `record` or `delivery`.
        reason: Why it could not be processed.
        subject: Id of the record.
        where: The operation and page, or the id of the entry.
        time: When it was written (RFC 3339).
        data: The record as served; empty if it is too large or a privacy policy forbids to store it.
        group: Name of the group; "" for a record, as are the next two.
        consumer: Name of the consumer.
        trace: The stack trace of the last attempt.
        attempts: How often it was tried.
        event: The event; None for a record, or if the entry was not an event.
        size: Length of the record in bytes, if it is not stored.
        fingerprint: Fingerprint of the record, if it is not stored.

    """

    letter_id: str
    resource: str
    kind: str
    reason: str
    subject: str
    where: str
    time: str
    data: bytes = field(repr=False)
    group: str = ""
    consumer: str = ""
    attempts: int = 0
    trace: str = field(default="", repr=False)
    event: Event | None = field(default=None, repr=False)
    size: int = 0
    fingerprint: bytes = b""

    @property
    def written_at(self) -> float:
        """When it was written, in seconds since 1970; 0 if `time` is invalid."""
        try:
            return datetime.fromisoformat(self.time).timestamp()
        except (OverflowError, ValueError):
            return 0.0


class DeadLetterSummary(msgspec.Struct, frozen=True):
    """How many dead letters a resource has, and when the oldest was written (seconds since 1970; 0 without any)."""

    letters: int
    oldest: float


class DeadLetters:
    """The dead letters of one account.

    `recheck` is awaited to replay a letter of kind `record`: it makes the next full scan process the record again. The
    capture provides it, because the queue does not depend on the capture.
    """

    def __init__(
        self, client: Redis, keys: Keys, recheck: Callable[[DeadLetter], Awaitable[None]] | None = None
    ) -> None:
        self._redis, self._keys, self._recheck = client, keys, recheck
        self._reopen = function(client, "reopen")

    async def summary(self, resource: str) -> DeadLetterSummary:
        """Return the number of dead letters of a resource and the time of the oldest."""
        first = await self._entries(resource, "-", "+", 1)
        if not first:
            return DeadLetterSummary(0, 0.0)
        return DeadLetterSummary(
            await self._redis.xlen(self._keys.dead(resource)), written_at(text(first[0][0]))
        )

    async def each(
        self, resource: str, *, kind: str = "", group: str = "", subject: str = ""
    ) -> AsyncIterator[DeadLetter]:
        """Yield the letters of a resource, oldest first; only those of a kind, group and subject, if given."""
        after = "-"
        while True:
            entries = await self._entries(resource, after, "+", _PAGE)
            for letter_id, fields in entries:
                letter = parse(resource, text(letter_id), fields)
                if (
                    kind in ("", letter.kind)
                    and group in ("", letter.group)
                    and subject in ("", letter.subject)
                ):
                    yield letter
            if len(entries) < _PAGE:
                return
            after = f"({text(entries[-1][0])}"

    async def get(self, resource: str, letter_id: str) -> DeadLetter:
        """Return one letter.

        Raises:
            NotReplayable: The letter does not exist.

        """
        entries = await self._entries(resource, letter_id, letter_id, 1)
        if not entries:
            raise NotReplayable(
                f"{resource} has no dead letter {letter_id}. Run `ordersync dead list {resource}` to list them."
            )
        return parse(resource, text(entries[0][0]), entries[0][1])

    async def replay(self, letter: DeadLetter) -> None:
        """Retry a letter and remove it.

        An event is delivered to its group again, marked as replayed, and its attempts are counted from 1. A record is
        processed again by the next full scan.

        Raises:
            NotReplayable: The letter cannot be replayed, and is kept. The message says what to do.

        """
        if letter.kind == DELIVERY:
            await self._deliver(letter)
        elif letter.kind == RECORD and self._recheck is not None:
            await self._recheck(letter)
            await self.drop(letter.resource, [letter.letter_id])
        else:
            raise NotReplayable(f"This version cannot replay dead letters of kind {letter.kind!r}.")

    async def drop(self, resource: str, letter_ids: Sequence[str]) -> int:
        """Remove letters. Return how many of them existed."""
        if not letter_ids:
            return 0
        return int(await answer(self._redis.xdel(self._keys.dead(resource), *letter_ids)))

    async def drop_all(self, resource: str) -> int:
        """Remove all letters of a resource. Return how many there were."""
        dropped = 0
        while entries := await self._entries(resource, "-", "+", _PAGE):
            dropped += await self.drop(resource, [text(letter_id) for letter_id, _ in entries])
        return dropped

    async def _entries(
        self, resource: str, first: str, last: str, count: int
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Return entries as bytes, also if the client decodes responses: `data` may not be text."""
        command = ("XRANGE", self._keys.dead(resource), first, last, "COUNT", count)
        result: list[tuple[bytes, dict[bytes, bytes]]] = await answer(
            self._redis.execute_command(*command, NEVER_DECODE=True)  # type: ignore[no-untyped-call] # untyped in redis-py
        )
        return result

    async def _deliver(self, letter: DeadLetter) -> None:
        keys, resource = self._keys, letter.resource
        names = [keys.stream(resource), keys.dead(resource), keys.replayed(resource, letter.group)]
        arguments: list[str | int] = [letter.group, letter.letter_id, letter.where, REPLAY, LONG_AGO]
        status = text(await finish(self._reopen(keys=names, args=arguments)))
        if status != "ok":
            raise NotReplayable(
                _WHY_NOT[status].format(letter=letter, resource=resource, subject=shlex.quote(letter.subject))
            )


_WHY_NOT = {
    "no letter": "{resource} has no dead letter {letter.letter_id} any more: it was replayed or dropped.",
    "no group": "group {letter.group} does not read {resource} any more. Drop the letter, or start a consumer "
    "of the group and replay the letter again.",
    "trimmed": "entry {letter.where} is not kept in the stream any more, and an event is published once only. Run "
    "`ordersync resync {resource} --id {subject} --force` to publish the record as it is now, to every group.",
    "unread": "group {letter.group} has not read entry {letter.where} yet, and will read it anyway. Drop the letter.",
}


def parse(resource: str, letter_id: str, fields: Mapping[bytes, bytes]) -> DeadLetter:
    """Return the dead letter in an entry.

    Raises:
        DataError: This program did not write the entry.

    """
    values = {name: value.decode("utf-8", "replace") for name, value in fields.items() if name != b"data"}
    event_fields = {name[len(_EVENT) :]: value for name, value in fields.items() if name.startswith(_EVENT)}
    data, event = fields.get(b"data", b""), None
    try:
        if event_fields:
            try:
                event = envelope.parse(values[b"where"].encode(), {**event_fields, b"data": data})
                data = event.data
            except DataError:  # the entry became a dead letter because it is not an event
                pass
        return DeadLetter(
            letter_id=letter_id,
            resource=resource,
            kind=values[b"kind"],
            reason=values[b"reason"],
            subject=values[b"subject"],
            where=values[b"where"],
            time=values[b"time"],
            data=data,
            group=values.get(b"group", ""),
            consumer=values.get(b"consumer", ""),
            attempts=int(values.get(b"attempts", "0")),
            trace=values.get(b"trace", ""),
            event=event,
            size=int(values.get(b"size", "0")),
            fingerprint=bytes.fromhex(values.get(b"fingerprint", "")),
        )
    except (KeyError, ValueError) as error:
        raise DataError(
            f"dead letter {letter_id} of {resource} was not written by ordermesh-sync: "
            f"{type(error).__name__}: {words_of(error)}. Inspect it with XRANGE; remove it with XDEL if it is not "
            "needed."
        ) from None
