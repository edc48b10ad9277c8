"""Retention: trimming the streams.

The limits of a resource (age, entries, bytes) say which events may be removed. An event that a group still needs is
kept even if it exceeds the limits; see lua/trim.lua for the guarantees. Writing never removes events: a commit does not
use MAXLEN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis.exceptions

from worker.cancellation import finish
from ordersync_consumer.dead import DeadLetters
from ordersync_consumer.groups import Groups, RetentionLimits, idle_seconds, written_at
from worker.redis import scripts
from worker.redis.refusals import is_full
from worker.telemetry.log import Repeats, get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from worker.clock import Clock
    from worker.keys import Keys
    from ordersync_consumer.groups import StreamStatus

STEP = 5000
"""Entries per call at most: a few milliseconds, in which Redis serves no other client."""
FIRST_SECONDS = 10.0
"""From the start of a worker to the first pass. The setting determines the later ones."""
REQUESTED_PASS_SECONDS = 3.0
"""Until the next pass while polling waits for free memory."""
PASS_SECONDS = 4.0
"""A pass ends after this time, and the next one goes on. It is less than the timeout of a job."""
REPEAT_LOG_SECONDS = 600.0
"""Seconds after which a warning about the same group, or the same dead letters, is repeated."""


class Retention:
    """Trims the streams of one account, and logs what it keeps beyond the limits.

    Args:
        redis_client: The client.
        keys: The keys of the account.
        limits: The limits of each resource.
        declared: Names of the declared groups, each with its resources.
        idle_after: Seconds without a read after which a warning about a group is logged.
        every: Seconds between two passes.
        clock: The time.
        step: Entries per call at most.

    """

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
        """Return True if a pass is due. This schedules the next pass, so the caller must run the current one."""
        now = self._clock.monotonic()
        if now < self._due_at:
            return False
        self._due_at = now + self._every
        return True

    def request_pass(self) -> None:
        """Schedule a pass soon, because polling waits for free memory."""
        self._due_at = min(self._due_at, self._clock.monotonic() + REQUESTED_PASS_SECONDS)

    async def run(self, seconds: float = PASS_SECONDS) -> bool:
        """Trim every stream that has limits. Return False if `seconds` were not enough; then a pass is due at once.

        A stream is skipped if one of its declared groups does not exist and cannot be created because Redis is full.
        """
        deadline = self._clock.monotonic() + seconds
        skipped = await self.declare()
        done = True
        for resource, limits in self._limits.items():
            try:
                if resource not in skipped:
                    done = await self._trim(resource, limits, deadline) and done
                await self._report_dead_letters(resource)
            except redis.exceptions.ResponseError as error:
                if self._repeats.allow(f"failed {resource}", self._clock.monotonic()):
                    self._log.error(
                        "retention_failed", resource=resource, error=str(error),
                        advice="The stream contains foreign entries, or the Redis user lacks a permission. "
                        "Run `ordersync doctor`.",
                    )  # fmt: skip
        if not done:
            self._due_at = self._clock.monotonic()
        return done

    async def declare(self) -> set[str]:
        """Create the declared groups. Return the resources for which that failed because Redis is full."""
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
        """Remove the entries that exceed the limits and that no group needs.

        Args:
            resource: Name of the resource.
            limits: What to keep.
            deadline: Time of the monotonic clock at which to stop.

        Returns:
            How many entries were removed, and True if there was time for all.

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
            await self._report_groups(resource, status)
        return done

    async def _first(self, resource: str) -> str:
        """Return the id of the oldest entry; "" if the stream is empty."""
        result = await self._redis.xrange(self._keys.stream(resource), count=1)
        return result[0][0].decode() if result else ""

    async def _report_dead_letters(self, resource: str) -> None:
        """Log the number of dead letters and the age of the oldest, now and then while there are any."""
        summary = await self._letters.summary(resource)
        if summary.letters and self._repeats.allow(f"letters {resource}", self._clock.monotonic()):
            self._log.warning(
                "dead_letters", resource=resource, letters=summary.letters,
                oldest_s=round(max(0.0, self._clock.now() - summary.oldest)),
                advice=f"Run `ordersync dead list {resource}` for the reasons, then replay or drop the dead letters.",
            )  # fmt: skip
        elif not summary.letters:
            self._repeats.forget_all(f"letters {resource}")

    async def _report_groups(self, resource: str, status: StreamStatus) -> None:
        """Log which groups keep entries beyond the limits, and which ones do not read."""
        now = self._clock.now()
        for group in status.groups:
            if group.held and self._repeats.allow(f"held {resource} {group.name}", self._clock.monotonic()):
                self._log.warning(
                    "retention_held_back", resource=resource, group=group.name, entries=group.held,
                    first=group.needed, unread=group.unread, pending=group.pending,
                    advice="Entries beyond the limits are kept until the group has acknowledged them. If the group "
                    f"is not needed any more, run `ordersync groups drop {group.name} {resource}`.",
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
                    advice="Start a consumer of the group. If the group is not needed any more, run "
                    f"`ordersync groups drop {group.name} {resource}`.",
                )  # fmt: skip
