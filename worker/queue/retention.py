"""Retention: how long events are kept, and for whom they are kept longer.

The limits of a resource (age, entries, bytes) say what may go; what a group still needs stays, whatever they
say. See lua/trim.lua for what it promises. Nothing is ever removed by writing: the commit knows no MAXLEN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis.exceptions

from worker.cancellation import finish
from worker.queue.dead import DeadLetters
from worker.queue.streams.groups import Groups, RetentionLimits, idle_seconds, written_at
from worker.redis import scripts
from worker.redis.connections import is_full
from worker.telemetry.log import Repeats, get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from worker.clock import Clock
    from worker.keys import Keys
    from worker.queue.streams.groups import StreamStatus

STEP = 5000
"""Entries that one call removes at most: a few milliseconds, in which Redis does nothing else."""
FIRST_SECONDS = 10.0
"""After the start of a worker; the later passes are as far apart as the setting says."""
REQUESTED_PASS_SECONDS = 3.0
"""Until the next pass where polling waits for room."""
PASS_SECONDS = 4.0
"""A pass ends after this time, wherever it is; the next one carries on. It is less than a job may be silent."""
REPEAT_LOG_SECONDS = 600.0
"""Seconds after which the same is said again of a group that holds back or does not read, or of dead letters."""


class Retention:
    """Keeps the streams of one account within their limits, and tells of what stays in them and why."""

    def __init__(
        self,
        *,
        redis_client: Redis,
        keys: Keys,
        limits: Mapping[str, RetentionLimits],
        declared: Mapping[str, Sequence[str]],
        idle_after: float,
        every: float,
        clock: Clock,
        step: int = STEP,
    ) -> None:
        self._redis = redis_client
        self._groups, self._letters = Groups(redis_client, keys), DeadLetters(redis_client, keys)
        self._keys, self._limits, self._declared = keys, limits, declared
        self._idle_after, self._every, self._clock, self._step = idle_after, every, clock, step
        self._due_at = clock.monotonic() + min(every, FIRST_SECONDS)
        self._script = scripts.load(redis_client, "worker.queue", "trim", begin=["needs"])
        self._repeats = Repeats(REPEAT_LOG_SECONDS)
        self._log = get_logger(account=keys.account)

    def due(self) -> bool:
        """Whether it is time for a pass. Who asks is expected to see to it: the next one is due after a while."""
        now = self._clock.monotonic()
        if now < self._due_at:
            return False
        self._due_at = now + self._every
        return True

    def request_pass(self) -> None:
        """Room is needed: the next pass is due soon."""
        self._due_at = min(self._due_at, self._clock.monotonic() + REQUESTED_PASS_SECONDS)

    async def run(self, seconds: float = PASS_SECONDS) -> bool:
        """Trim every stream that has limits. False if there was no time to finish.

        A stream that lacks one of its declared groups, and cannot be given it since Redis is full, is left alone.
        """
        deadline = self._clock.monotonic() + seconds
        left_alone = await self.declare()
        done = True
        for resource, limits in self._limits.items():
            try:
                if resource not in left_alone:
                    done = await self._trim(resource, limits, deadline) and done
                await self._tell_of_letters(resource)
            except redis.exceptions.ResponseError as error:
                if self._repeats.allow(f"failed {resource}", self._clock.monotonic()):
                    self._log.error(
                        "retention_failed", resource=resource, error=str(error),
                        advice="the stream is not what this program writes, or the user lacks a permission",
                    )  # fmt: skip
        if not done:
            self._due_at = self._clock.monotonic()
        return done

    async def declare(self) -> set[str]:
        """Make every declared group exist. The resources that lack one all the same, since Redis is full."""
        try:
            for group, resource in await self._groups.declare(self._declared):
                self._log.info("group_created", resource=resource, group=group)
        except redis.exceptions.ResponseError as error:
            if not is_full(error):
                raise
            return {resource for _, resource in await self._groups.missing(self._declared)}
        return set()

    async def trim(
        self, resource: str, limits: RetentionLimits, deadline: float = float("inf")
    ) -> tuple[int, bool]:
        """Remove what the limits do not keep and no group needs: how many entries, and whether it is done.

        `deadline` is of the monotonic clock.
        """
        removed, more, stream = 0, 1, self._keys.stream(resource)
        while more and self._clock.monotonic() < deadline:
            count, more = await finish(self._script(keys=[stream], args=[*limits.arguments, self._step]))
            removed += count
        return removed, not more

    async def _trim(self, resource: str, limits: RetentionLimits, deadline: float) -> bool:
        first = await self._first(resource)
        removed, done = await self.trim(resource, limits, deadline)
        status = await self._groups.status(resource, limits)
        if removed:
            self._log.info(
                "stream_trimmed", resource=resource, entries=removed, left=status.entries,
                first=first, kept_from=await self._first(resource),
            )  # fmt: skip
        if done:
            await self._report(resource, status)
        return done

    async def _first(self, resource: str) -> str:
        """The id of the oldest entry; "" if there is none."""
        result = await self._redis.xrange(self._keys.stream(resource), count=1)
        return result[0][0].decode() if result else ""

    async def _tell_of_letters(self, resource: str) -> None:
        """Say how many dead letters there are, and for how long, as long as there are any."""
        result = await self._letters.summary(resource)
        if result.letters and self._repeats.allow(f"letters {resource}", self._clock.monotonic()):
            self._log.warning(
                "dead_letters", resource=resource, letters=result.letters,
                oldest_s=round(max(0.0, self._clock.now() - result.oldest)),
                advice=f"ordersync dead list {resource} says why; then replay or drop them",
            )  # fmt: skip
        elif not result.letters:
            self._repeats.forget_all(f"letters {resource}")

    async def _report(self, resource: str, status: StreamStatus) -> None:
        """Say which groups hold back what the limits would not keep, and which do not read."""
        now = self._clock.now()
        for group in status.groups:
            if group.held and self._repeats.allow(f"held {resource} {group.name}", self._clock.monotonic()):
                self._log.warning(
                    "retention_held_back", resource=resource, group=group.name, entries=group.held,
                    first=group.needed, unread=group.unread, pending=group.pending,
                    advice="they go when the group has read and acknowledged them, or is dropped: "
                    f"ordersync groups drop {group.name} {resource}",
                )  # fmt: skip
            if not (group.unread or group.pending):
                continue
            idle = idle_seconds(group, await self._groups.consumers(resource, group.name), now)
            if idle >= self._idle_after and self._repeats.allow(
                f"idle {resource} {group.name}", self._clock.monotonic()
            ):
                oldest = group.oldest_pending or group.oldest_unread
                self._log.warning(
                    "group_idle", resource=resource, group=group.name, idle_s=round(idle),
                    unread=group.unread, pending=group.pending, oldest_s=round(now - written_at(oldest)),
                    advice="start its consumers; if it is not needed any more: "
                    f"ordersync groups drop {group.name} {resource}",
                )  # fmt: skip
