"""Dead letters: what could not be dealt with, why, and how to try again.

The stream `ordersync:{A}:dead:RESOURCE` holds two kinds of them:

- `record`: a record of OrderMesh that cannot be read, parked by a poll. Fields: kind, reason, subject, where
  (operation and page), time, data. Under a privacy policy not data but size (bytes) and fingerprint (hex).
- `delivery`: an event that a group could not deal with. The same fields, where `where` is the id of the entry; then
  group, consumer, attempts, trace, and the event whole: `data` under its own name, the others as `event.NAME`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.cancellation import finish
from worker.clock import parse_time
from worker.errors import DataError, NotReplayable
from worker.queue import envelope
from worker.queue.consumer.group_client import LONG_AGO, REPLAY, text
from worker.queue.streams.groups import written_at
from worker.redis import scripts
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.keys import Keys
    from worker.queue.envelope import Event

RECORD, DELIVERY = "record", "delivery"
_PAGE = 100
_EVENT = b"event."


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter.

    `letter_id`: its place among those of its resource. `subject` and `data`: of the record, as served. `where`:
    the operation and page, or the id of the entry. `time`: when it was written (RFC 3339).
    Of a record under a privacy policy, whose `data` is not kept: `size` (bytes) and `fingerprint`.
    Of a delivery: `group`, `consumer`, `attempts`, `trace`, and `event`, None where the entry is no event.
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
        """When it was written, in seconds since 1970."""
        return (parse_time(self.time) or 0) / 1000


@dataclass(frozen=True, slots=True)
class DeadLetterSummary:
    """The letters of a resource: how many, and when the oldest was written (seconds since 1970; 0 for none)."""

    letters: int
    oldest: float


class DeadLetters:
    """The dead letters of one account.

    `look_again` is awaited to replay a letter of kind `record`: it lets the next complete read look at the
    record anew. It belongs to the capture, which the queue knows nothing of.
    """

    def __init__(
        self, client: Redis, keys: Keys, look_again: Callable[[DeadLetter], Awaitable[None]] | None = None
    ) -> None:
        self._redis, self._keys, self._look_again = client, keys, look_again
        self._reopen = scripts.load(client, "worker.queue", "reopen", begin=["groups"])

    async def summary(self, resource: str) -> DeadLetterSummary:
        """How many there are, and since when."""
        first = await self._entries(resource, "-", "+", 1)
        if not first:
            return DeadLetterSummary(0, 0.0)
        return DeadLetterSummary(
            await self._redis.xlen(self._keys.dead(resource)), written_at(text(first[0][0]))
        )

    async def each(
        self, resource: str, *, kind: str = "", group: str = "", subject: str = ""
    ) -> AsyncIterator[DeadLetter]:
        """The letters of a resource, oldest first; those of a kind, group or subject alone."""
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
        """One letter.

        Raises:
            NotReplayable: There is none.

        """
        entries = await self._entries(resource, letter_id, letter_id, 1)
        if not entries:
            raise NotReplayable(
                f"{resource} has no dead letter {letter_id}: `ordersync dead list {resource}` shows those there are."
            )
        return parse(resource, text(entries[0][0]), entries[0][1])

    async def replay(self, letter: DeadLetter) -> None:
        """Try again, and remove the letter.

        The event comes to its group again, marked as replayed and with its attempts counted anew; or the next
        complete read looks at the record again.

        Raises:
            NotReplayable: It cannot be done; the letter stays. The message says what can.

        """
        if letter.kind == DELIVERY:
            await self._deliver(letter)
        elif letter.kind == RECORD and self._look_again is not None:
            await self._look_again(letter)
            await self.drop(letter.resource, [letter.letter_id])
        else:
            raise NotReplayable(f"a dead letter of kind {letter.kind!r} cannot be replayed by this version")

    async def drop(self, resource: str, letter_ids: Sequence[str]) -> int:
        """Remove letters for good. How many there were."""
        if not letter_ids:
            return 0
        return int(await answer(self._redis.xdel(self._keys.dead(resource), *letter_ids)))

    async def drop_all(self, resource: str) -> int:
        """Remove all letters that are there now. How many there were."""
        dropped = 0
        while entries := await self._entries(resource, "-", "+", _PAGE):
            dropped += await self.drop(resource, [text(letter_id) for letter_id, _ in entries])
        return dropped

    async def _entries(
        self, resource: str, first: str, last: str, count: int
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Letters as they stand there: as bytes, whether the client decodes answers or not. `data` may be no text."""
        words = ("XRANGE", self._keys.dead(resource), first, last, "COUNT", count)
        result: list[tuple[bytes, dict[bytes, bytes]]] = await answer(
            self._redis.execute_command(*words, NEVER_DECODE=True)  # type: ignore[no-untyped-call]
        )
        return result

    async def _deliver(self, letter: DeadLetter) -> None:
        keys, resource = self._keys, letter.resource
        names = [keys.stream(resource), keys.dead(resource), keys.replayed(resource, letter.group)]
        words = [letter.group, letter.letter_id, letter.where, REPLAY, str(LONG_AGO)]
        status = text(await finish(self._reopen(keys=names, args=words)))
        if status != "ok":
            raise NotReplayable(_WHY_NOT[status].format(letter=letter, resource=resource))


_WHY_NOT = {
    "no letter": "{resource} has no dead letter {letter.letter_id} any more: somebody has replayed or dropped it.",
    "no group": "group {letter.group} does not read {resource} any more, so nobody would get the event. Drop the "
    "letter, or start a consumer of the group and try again.",
    "trimmed": "entry {letter.where} is not kept in the stream any more, and an event is not published twice. Publish "
    "the record as it is now, to every group: ordersync resync {resource} --id {letter.subject} --force",
    "unread": "group {letter.group} has not read as far as entry {letter.where}: the event comes by itself. Drop the "
    "letter.",
}


def parse(resource: str, letter_id: str, fields: Mapping[bytes, bytes]) -> DeadLetter:
    """The letter of an entry.

    Raises:
        DataError: It was not written by this program.

    """
    values = {name: value.decode("utf-8", "replace") for name, value in fields.items() if name != b"data"}
    event_fields = {name[len(_EVENT) :]: value for name, value in fields.items() if name.startswith(_EVENT)}
    data, event = fields.get(b"data", b""), None
    try:
        if event_fields:
            try:
                event = envelope.parse(values[b"where"].encode(), {**event_fields, b"data": data})
                data = event.data
            except DataError:  # it became a letter since it is none
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
            f"dead letter {letter_id} of {resource} was not written by ordermesh-sync: {error!r}. Look at it with "
            "XRANGE, and remove it with XDEL when you know what it is."
        ) from None
