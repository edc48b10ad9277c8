"""Dead letters of an account, in all its resources: select, replay and drop them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from ordersync_consumer.dead import DELIVERY, RECORD, DeadLetter, DeadLetters, parse
from ordersync_consumer.groups import text, written_at
from worker.capture.state.parked import retry_parked
from worker.clock import SystemClock
from worker.config.resources import RESOURCES
from worker.errors import NotReplayable, SettingsError
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.keys import Keys

KINDS = (DELIVERY, RECORD)
_CHUNK = 200
_SURVEYED = 200
"""Letters of a resource that are looked at to count the reasons."""
_REASON = 200
"""Length of a reason that is shown."""


class Selection(msgspec.Struct, frozen=True):
    """A selection of dead letters: by ids or, without ids, by resource, group and kind.

    `resource` is None for all resources; `group` and `kind` are "" for all.
    """

    resource: str | None
    ids: tuple[str, ...]
    group: str = ""
    kind: str = ""


class DeadLetterAdmin:
    """The dead letters of one account."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self._dead = DeadLetters(client, self._keys, self._retry_record)

    async def find(self, letter_id: str, resource: str | None) -> DeadLetter:
        """Return one dead letter with all its data.

        Raises:
            NotReplayable: No dead letter has this id.
            SettingsError: Several resources have a dead letter with this id.

        """
        result = []
        for name in (resource,) if resource else RESOURCES:
            try:
                result.append(await self._dead.get(name, letter_id))
            except NotReplayable:
                continue
        if not result:
            raise NotReplayable(f"Unknown dead letter {letter_id}. To list them: ordersync dead list.")
        if len(result) > 1:
            names = ", ".join(letter.resource for letter in result)
            raise SettingsError(
                f"Several resources have a dead letter {letter_id}. Write one of them before the ID: {names}."
            )
        return result[0]

    async def pick(self, picked: Selection) -> list[DeadLetter]:
        """Return the selected dead letters without large data, the oldest of each resource first."""
        if picked.ids:
            return [_light(await self.find(letter_id, picked.resource)) for letter_id in picked.ids]
        return [
            _light(letter)
            for name in ((picked.resource,) if picked.resource else RESOURCES)
            async for letter in self._dead.each(name, kind=picked.kind, group=picked.group)
        ]

    async def replay(self, letter: DeadLetter) -> None:
        """Replay a dead letter and remove it.

        Raises:
            NotReplayable: The letter cannot be replayed. It is not removed.

        """
        await self._dead.replay(letter)

    async def drop(self, letters: Sequence[DeadLetter]) -> int:
        """Remove dead letters; return the number of removed ones."""
        dropped = 0
        for resource in RESOURCES:
            ids = [letter.letter_id for letter in letters if letter.resource == resource]
            for start in range(0, len(ids), _CHUNK):
                dropped += await self._dead.drop(resource, ids[start : start + _CHUNK])
        return dropped

    async def log(self, event: str, letters: Sequence[DeadLetter]) -> None:
        """Log what was done with `letters`, and how many dead letters are left."""
        now = SystemClock().now()
        for resource in RESOURCES:
            count = sum(1 for letter in letters if letter.resource == resource)
            if count:
                left = await self._dead.summary(resource)
                get_logger(account=self._keys.account).info(
                    event,
                    resource=resource,
                    letters=count,
                    left=left.letters,
                    oldest_s=round(max(0.0, now - left.oldest), 1) if left.letters else 0.0,
                )

    async def _retry_record(self, letter: DeadLetter) -> None:
        if not letter.subject and not letter.data:
            raise NotReplayable(
                "the dead letter cannot be matched to a record, because the record has no id and the privacy "
                "policy removed its content. Drop it; the record is published automatically when it can be read."
            )
        await retry_parked(self._redis, self._keys, letter)


def _light(letter: DeadLetter) -> DeadLetter:
    """Return a delivery without its event, which may be large. A record keeps its bytes, by which it is found."""
    return replace(letter, data=b"", event=None, trace="") if letter.kind == DELIVERY else letter


class LetterReason(msgspec.Struct, frozen=True):
    """Dead letters that have the same reason.

    Attributes:
        resource: Their resource.
        group: Their group; "" for records that cannot be read.
        reason: The reason, shortened.
        ids: Their ids, the latest first.
        oldest: When the oldest of them was written (seconds since 1970).
        counted: How many of the latest letters of the resource were looked at.
        letters: How many letters the resource has.

    """

    resource: str
    group: str
    reason: str
    ids: tuple[str, ...]
    oldest: float
    counted: int
    letters: int


async def reasons_of(client: Redis, keys: Keys, resource: str) -> list[LetterReason]:
    """Return the latest dead letters of a resource by reason, the most frequent first."""
    key = keys.dead(resource)
    letters = int(await client.xlen(key))
    entries = await client.xrevrange(key, count=_SURVEYED) if letters else []
    found: dict[tuple[str, str], list[str]] = {}
    for letter_id, fields in entries:
        letter = parse(resource, text(letter_id), fields)
        reason = letter.reason if len(letter.reason) <= _REASON else f"{letter.reason[: _REASON - 3]}..."
        found.setdefault((letter.group, reason), []).append(letter.letter_id)
    reasons = [
        LetterReason(resource, group, reason, tuple(ids), written_at(ids[-1]), len(entries), letters)
        for (group, reason), ids in found.items()
    ]
    return sorted(reasons, key=lambda item: -len(item.ids))
