"""The job that trims the streams of one account to their limits, and what the worker does when Redis is full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis.exceptions

from jobs.context import planner_of
from worker.capture.state.parked import apply_retries
from worker.errors import RedisFull
from worker.redis.refusals import explain
from worker.services import services_of
from worker.telemetry.log import Repeats, get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.services import AccountServices, Services

LOG_SECONDS = 60.0
TRIM_SECONDS = 5.0
"""Seconds between two retention passes while Redis is full."""
CALM_SECONDS = 5.0
"""Seconds without a refusal after which Redis has room again: arq writes at least once a second."""


async def retain(ctx: Mapping[Any, Any], account: str) -> None:
    """Run one retention pass over the streams of an account. Two at the same time do no harm: each call is atomic."""
    services = services_of(ctx)
    owned = services.accounts[account]
    done = await _pass(services, owned)
    await planner_of(ctx).retain_ended(owned.account, done=done)


class FullRedisHandler:
    """Logs that Redis refuses writes, and trims the streams meanwhile.

    No job does this, because a full Redis has no room for a job. Trimming needs no memory, and makes room.
    """

    def __init__(self, services: Services) -> None:
        self._services, self._repeats = services, Repeats(LOG_SECONDS)
        self._since = self._refused_at = self._trimmed_at = -float("inf")
        self._log = get_logger()

    async def refused(self) -> None:
        """Handle a refused write: log it at most once a minute, and trim at most every `TRIM_SECONDS`."""
        now = self._services.clock.monotonic()
        if now - self._refused_at > CALM_SECONDS:
            self._since = now
        self._refused_at = now
        if self._repeats.allow("full", now):
            self._log.error(
                RedisFull.code, error=str(RedisFull()), since_s=round(now - self._since),
                refusals=self._repeats.held_back("full"),
            )  # fmt: skip
        if now - self._trimmed_at >= TRIM_SECONDS:
            self._trimmed_at = now
            for account in self._services.accounts.values():
                await _pass(self._services, account)

    def run(self) -> None:
        """Log that Redis has room again, once no write has been refused for a while."""
        now = self._services.clock.monotonic()
        if self._since > -float("inf") and now - self._refused_at > CALM_SECONDS:
            self._log.info("redis_has_room", after_s=round(self._refused_at - self._since))
            self._since = -float("inf")
            self._repeats.forget_all("full")


async def _pass(services: Services, account: AccountServices) -> bool:
    """Run a pass; False if there is more to trim than one pass may take."""
    try:
        done = await account.retention.run()
        await apply_retries(services.redis, account.keys)
    except (redis.exceptions.RedisError, OSError) as error:
        get_logger(account=account.account.name).warning(
            "retention_put_off", error=explain(error), advice="Trimming will be retried in the next pass."
        )
        return True
    return done
