"""Past events again, to one group only: with the same ids, in order, marked as replayed.

A replay adds nothing to the stream. It puts entries that the group has dealt with back among its pending ones, in
the hands of a consumer that stands for nobody, from where the consumers of the group claim them: those of this
kit within a second, others as they claim idle entries (`XAUTOCLAIM`). Other groups see nothing of it, and
retention keeps what is pending.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.cancellation import finish
from worker.errors import NotReplayable, SettingsError
from worker.queue.consumer.group_client import LONG_AGO, REPLAY, text
from worker.redis import scripts

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.keys import Keys

CHUNK = 200
"""Entries that one call looks at: about a millisecond, in which Redis does nothing else."""
_ID = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?")


@dataclass(frozen=True, slots=True)
class ReplayRange:
    """Which events of a resource to replay; without any bound all that are kept.

    `since` and `until`: when they were published, in seconds since 1970 by the clock of Redis; `until` itself is
    left out. `from_id`, `to_id`: entry ids, both included; they count instead of the times. `subject`: those of one
    entity.

    Raises:
        SettingsError: An id is none.

    """

    since: float | None = None
    until: float | None = None
    from_id: str = ""
    to_id: str = ""
    subject: str = ""

    def __post_init__(self) -> None:
        for entry_id in (self.from_id, self.to_id):
            if entry_id and not _ID.fullmatch(entry_id):
                raise SettingsError(
                    f"{entry_id!r} is not the id of an entry, such as 1772448067513-0: `ordersync tail --json` shows "
                    "those of the events"
                )

    @property
    def first(self) -> str:
        """The id to begin with, as XRANGE takes it."""
        return self.from_id or ("-" if self.since is None else _at(self.since))

    @property
    def last(self) -> str:
        """The id to end with, as XRANGE takes it."""
        return self.to_id or ("+" if self.until is None else f"({_at(self.until)}-0")


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay has done.

    `looked_at`: entries in the range; `replayed`: of these, put back among the pending ones of the group;
    `pending`: left alone, since the group has not dealt with them yet.
    """

    resource: str
    group: str
    looked_at: int
    replayed: int
    pending: int


async def replay(
    client: Redis, keys: Keys, resource: str, group: str, requested: ReplayRange, *, dry_run: bool = False
) -> ReplayResult:
    """Deliver events of a resource to a group again.

    Events that the group has not read yet come anyway and are not counted. May be repeated: what is pending by
    then is left alone. Done in steps of some hundred entries; cut short, the earlier ones are replayed, oldest first.

    Raises:
        NotReplayable: There is no such group.

    """
    script = scripts.load(client, "worker.queue", "replay", begin=["groups"])
    names = [keys.stream(resource), keys.replayed(resource, group)]
    await _forget_marks(client, names, group)
    first, last = requested.first, requested.last
    looked_at, replayed, pending = 0, 0, 0
    while True:
        words = [group, REPLAY, str(LONG_AGO), first, last, str(CHUNK), requested.subject, str(int(dry_run))]
        status, *result = await finish(script(keys=names, args=words))
        if text(status) == "no group":
            raise NotReplayable(
                f"group {group} does not read {resource}: `ordersync groups` lists those that do. A group that is new "
                "begins with the oldest event that is kept, and needs no replay."
            )
        looked_at, replayed, pending = looked_at + result[0], replayed + result[1], pending + result[2]
        if result[0] < CHUNK:
            return ReplayResult(resource, group, looked_at, replayed, pending)
        # The end stays where it was at first: what is dealt with meanwhile is not replayed as well.
        first, last = f"({text(status)}", text(result[3])


async def _forget_marks(client: Redis, names: list[str], group: str) -> None:
    """Remove the marks of entries that are not pending any more: a client that is none of ours leaves them."""
    script = scripts.load(client, "worker.queue", "unmark")
    cursor = "0"
    while True:
        cursor = text(await finish(script(keys=names, args=[group, cursor, str(CHUNK)])))
        if cursor == "0":
            return


def _at(seconds: float) -> str:
    return f"{max(0, int(seconds * 1000))}"
