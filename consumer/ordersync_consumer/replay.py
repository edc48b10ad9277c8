"""Replay: deliver past events to one group again, with the same ids, in order, marked as replayed.

A replay adds nothing to the stream. It makes entries that the group has acknowledged pending again, for a reserved
consumer name that no process uses. The consumers of the group claim them from there: those of this kit within a second,
other clients when they claim idle entries (`XAUTOCLAIM`). Other groups are not affected, and retention keeps pending
entries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ordersync_consumer.cancellation import finish
from ordersync_consumer.errors import NotReplayable, SettingsError
from ordersync_consumer.functions import function
from ordersync_consumer.groups import LONG_AGO, REPLAY, text

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ordersync_consumer.keys import Keys

CHUNK = 200
"""Entries per call: about a millisecond, in which Redis serves no other client."""
_ID = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?")


@dataclass(frozen=True, slots=True)
class ReplayRange:
    """Which events of a resource to replay; by default all that are kept.

    Attributes:
        since: Published at this time or later, in seconds since 1970 by the clock of Redis.
        until: Published before this time.
        from_id: First entry id, inclusive; it replaces `since`.
        to_id: Last entry id, inclusive; it replaces `until`.
        subject: Events of this entity only.

    Raises:
        SettingsError: An id is invalid.

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
                    f"{entry_id!r} is not the id of an entry, such as 1772448067513-0. Run `ordersync tail --json` "
                    "to see the ids of events."
                )

    @property
    def first(self) -> str:
        """The start of the range, as an argument of XRANGE."""
        return self.from_id or ("-" if self.since is None else _milliseconds(self.since))

    @property
    def last(self) -> str:
        """The end of the range, as an argument of XRANGE."""
        return self.to_id or ("+" if self.until is None else f"({_milliseconds(self.until)}-0")


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The result of a replay.

    Attributes:
        resource: Name of the resource.
        group: Name of the group.
        looked_at: Number of entries in the range.
        replayed: Of these, made pending again.
        pending: Of these, skipped because they were pending already.

    """

    resource: str
    group: str
    looked_at: int
    replayed: int
    pending: int


async def replay(
    client: Redis, keys: Keys, resource: str, group: str, requested: ReplayRange, *, dry_run: bool = False
) -> ReplayResult:
    """Deliver events of a resource to a group again, oldest first.

    Events that the group has not read yet are not counted: it will read them anyway. The call may be repeated: pending
    entries are skipped. It works in steps of some hundred entries; if it is interrupted, the first steps are done.

    Args:
        client: The client.
        keys: The keys of the account.
        resource: Name of the resource.
        group: Name of the group.
        requested: Which events.
        dry_run: Only count them.

    Raises:
        NotReplayable: The group does not exist.

    """
    script = function(client, "replay")
    names = [keys.stream(resource), keys.replayed(resource, group)]
    await _remove_stale_marks(client, names, group)
    first, last = requested.first, requested.last
    looked_at, replayed, pending = 0, 0, 0
    while True:
        arguments: list[str | int] = [
            group,
            REPLAY,
            LONG_AGO,
            first,
            last,
            CHUNK,
            requested.subject,
            int(dry_run),
        ]
        status, *result = await finish(script(keys=names, args=arguments))
        if text(status) == "no group":
            raise NotReplayable(
                f"group {group} does not read {resource}: run `ordersync groups` to list the groups. A new group "
                "begins with the oldest event that is kept, so it needs no replay."
            )
        looked_at, replayed, pending = looked_at + result[0], replayed + result[1], pending + result[2]
        if result[0] < CHUNK:
            return ReplayResult(resource, group, looked_at, replayed, pending)
        # The end of the first step stays: what the group acknowledges meanwhile is not replayed.
        first, last = f"({text(status)}", text(result[3])


async def _remove_stale_marks(client: Redis, names: list[str], group: str) -> None:
    """Remove the marks of entries that are not pending any more: clients other than this kit leave them."""
    script = function(client, "unmark")
    cursor = "0"
    while True:
        cursor = text(await finish(script(keys=names, args=[group, cursor, str(CHUNK)])))
        if cursor == "0":
            return


def _milliseconds(seconds: float) -> str:
    return f"{max(0, int(seconds * 1000))}"
