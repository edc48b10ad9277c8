"""Late groups: consumer groups that have not read for a while, though events wait for them."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from redis.exceptions import ResponseError

from ordersync_consumer.groups import waiting_seconds
from worker.clock import duration

if TYPE_CHECKING:
    from ordersync_consumer.groups import Group, GroupConsumer, Groups, StreamStatus


def drop_command(group: str, resource: str) -> str:
    """Return the command that drops a group, as it is typed in a shell: whoever may read can give a group any name."""
    return shlex.join(["ordersync", "groups", "drop", group, resource])


class LateGroup(msgspec.Struct, frozen=True):
    """A late group of a resource. `seconds`: for how long nobody has read while events waited."""

    name: str
    resource: str
    seconds: float
    unread: int
    pending: int

    @property
    def advice(self) -> str:
        """What to do."""
        return (
            "Start a consumer of the group. If the group is not needed any more, run "
            f"`{drop_command(self.name, self.resource)}`."
        )

    @property
    def cause(self) -> str:
        """Why the resource is degraded, in words."""
        count = self.unread + self.pending
        events = "1 event waits" if count == 1 else f"{count} events wait"
        return (
            f"group {self.name} has not read for {duration(self.seconds)}, and {events} for it. "
            f"{self.advice.rstrip('.')}"
        )


def lateness(
    resource: str, group: Group, consumers: list[GroupConsumer], now: float, after: float
) -> LateGroup | None:
    """Return the group as a late one; None if it has nothing to read, or has read within `after` seconds.

    `now` in seconds since 1970; an `after` of 0: no group is late.
    """
    seconds = waiting_seconds(group, consumers, now)
    if not after or seconds < after:
        return None
    return LateGroup(group.name, resource, seconds, group.unread, group.pending)


async def late_groups(
    groups: Groups, resource: str, status: StreamStatus, now: float, after: float
) -> list[LateGroup]:
    """Return the late groups of a stream; reads the consumers of groups that have something to read."""
    found = []
    for group in status.groups:
        if after and (group.unread or group.pending):
            with suppress(ResponseError):  # the group was dropped meanwhile
                consumers = await groups.consumers(resource, group.name)
                found.append(lateness(resource, group, consumers, now, after))
    return [late for late in found if late is not None]
