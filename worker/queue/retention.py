"""Retention: trimming the streams.

The limits of a resource (age, entries, bytes) say which events may be removed. An event that a group still needs is
kept even if it exceeds the limits; see lua/trim.lua for the guarantees. Writing never removes events: a commit does not
use MAXLEN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis.exceptions

from ordersync_consumer.dead import DeadLetters
from ordersync_consumer.groups import Groups, RetentionLimits
from worker.cancellation import finish
from worker.queue.expiry import LetterExpiry
from worker.queue.lateness import drop_command, late_groups
from worker.queue.looks import StreamLooks
from worker.redis import scripts
from worker.redis.functions import FunctionLoader
from worker.redis.refusals import is_full
from worker.telemetry.log import Repeats, get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from ordersync_consumer.groups import StreamStatus
    from worker.clock import Clock
    from worker.keys import Keys
    from worker.queue.looks import StreamLook

STEP = 5000
"""Entries per call at most: a few milliseconds, in which Redis serves no other client."""
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
        late_after: Seconds without a read, while events wait, after which a group is late; 0: never.
        clock: The time.
        step: Entries per call at most.
        max_letter_age: Seconds that dead letters are kept; 0 for no limit.
        functions: Loads the functions that consumers call; None for one of this account alone.

    """

    def __init__(
        self,
        *,
        redis_client: Redis,
        keys: Keys,
        limits: Mapping[str, RetentionLimits],
        declared: Mapping[str, Sequence[str]],
        late_after: float,
        clock: Clock,
        step: int = STEP,
        max_letter_age: float = 0.0,
        functions: FunctionLoader | None = None,
    ) -> None:
        self._redis, self._functions = redis_client, functions or FunctionLoader(redis_client, clock)
        self._groups, self._letters = Groups(redis_client, keys), DeadLetters(redis_client, keys)
        self._expiry = LetterExpiry(redis_client, keys)
        self._keys, self._limits, self._declared = keys, limits, declared
        self._late_after, self._clock, self._step = late_after, clock, step
        self._script = scripts.load(redis_client, "worker.queue", "trim", begin=["ordersync_consumer:needs"])
        self._max_letter_age = max_letter_age
        self._looks = StreamLooks(
            redis_client, [key for name in limits for key in (keys.stream(name), keys.dead(name))]
        )
        self._repeats = Repeats(REPEAT_LOG_SECONDS)
        self._log = get_logger(account=keys.account)

    async def run(self, seconds: float = PASS_SECONDS) -> bool:
        """Trim every stream that has limits. Return False if `seconds` were not enough.

        A stream is skipped if one of its declared groups does not exist and cannot be created because Redis is full.
        """
        deadline = self._clock.monotonic() + seconds
        skipped = await self.declare()
        found, done = await finish(self._looks.look()), True
        for resource, limits in self._limits.items():
            stream, dead = self._keys.stream(resource), self._keys.dead(resource)
            try:
                if resource not in skipped and self._is_to_be_trimmed(stream, found, limits):
                    done = await self._trim(resource, limits, deadline, found[stream]) and done
                if dead in found:
                    await self._expire_dead_letters(resource)
                    await self._report_dead_letters(resource)
                else:
                    self._repeats.forget_all(f"letters {resource}")
            except redis.exceptions.ResponseError as error:
                if self._repeats.allow(f"failed {resource}", self._clock.monotonic()):
                    self._log.error(
                        "retention_failed", resource=resource, error=str(error),
                        advice="The stream contains foreign entries, or the Redis user lacks a permission. "
                        "Run `ordersync doctor`.",
                    )  # fmt: skip
        return done

    def _is_to_be_trimmed(
        self, stream: str, found: Mapping[str, StreamLook | None], limits: RetentionLimits
    ) -> bool:
        """Whether a stream exceeds its limits perhaps, or its groups have something to read."""
        if stream not in found:
            return False
        look = found[stream]
        is_old = look is not None and look.exceeds(limits.max_age, self._clock.now())
        return is_old or not self._looks.is_settled(stream, look)

    async def declare(self) -> set[str]:
        """Load the functions that consumers call, and create the declared groups.

        Return the resources for which the latter failed because Redis is full.
        """
        try:
            if loaded := await self._functions.load():
                self._log.info("functions_loaded", functions=loaded)
        except redis.exceptions.ResponseError as error:
            if not is_full(error) and self._repeats.allow("functions", self._clock.monotonic()):
                self._log.info("functions_not_loaded", error=str(error))
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

    async def _trim(
        self, resource: str, limits: RetentionLimits, deadline: float, look: StreamLook | None
    ) -> bool:
        stream = self._keys.stream(resource)
        removed, done = await self.trim(resource, limits, deadline)
        if done and not removed:
            self._looks.settle(stream, look)
        else:
            self._looks.unsettle(stream)
        if look is not None and not look.groups and not removed:
            return done
        status = await self._groups.status(resource, limits, of_groups=True)
        if removed:
            self._log.info(
                "stream_trimmed", resource=resource, entries=removed, left=status.entries,
                first=look.first if look else "", kept_from=await self._first(resource),
            )  # fmt: skip
        if done:
            await self._report_groups(resource, status)
        return done

    async def _first(self, resource: str) -> str:
        """Return the id of the oldest entry; "" if the stream is empty."""
        result = await self._redis.xrange(self._keys.stream(resource), count=1)
        return result[0][0].decode() if result else ""

    async def _expire_dead_letters(self, resource: str) -> None:
        """Remove the dead letters that are too old, and log how many that were."""
        if not self._max_letter_age:
            return
        if expired := await self._expiry.expire(resource, self._max_letter_age):
            self._log.warning(
                "dead_letters_expired", resource=resource, letters=expired, limit_s=round(self._max_letter_age),
                advice="These dead letters were neither replayed nor dropped, and are gone. To keep others longer, set "
                "ORDERSYNC_RETENTION__DEAD_LETTERS.",
            )  # fmt: skip

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
        """Log which groups keep entries beyond the limits, and which ones are late."""
        for group in status.groups:
            if group.held and self._repeats.allow(f"held {resource} {group.name}", self._clock.monotonic()):
                self._log.warning(
                    "retention_held_back", resource=resource, group=group.name, entries=group.held,
                    first=group.needed, unread=group.unread, pending=group.pending,
                    advice="Entries beyond the limits are kept until the group has acknowledged them. If the group "
                    f"is not needed any more, run `{drop_command(group.name, resource)}`.",
                )  # fmt: skip
        late = await late_groups(self._groups, resource, status, self._clock.now(), self._late_after)
        for each in late:
            if self._repeats.allow(f"late {resource} {each.name} ", self._clock.monotonic()):
                self._log.warning(
                    "group_late", resource=resource, group=each.name, idle_s=round(each.seconds),
                    unread=each.unread, pending=each.pending, advice=each.advice,
                )  # fmt: skip
        for name in {group.name for group in status.groups} - {each.name for each in late}:
            self._repeats.forget_all(f"late {resource} {name} ")
