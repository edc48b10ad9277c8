"""The tick: what a worker looks at once a second, whatever is due.

It follows the clock of Redis, and plans the accounts that a person has added or changed. A slow pass plans all
accounts again, a few with each tick: it finds what was lost, such as a change that nobody was told of. When the clock
of Redis was put back, or the schedule is gone, all accounts are planned at once.

It waits by the monotonic clock. arq's cron is not used: it computes its next run from the wall clock, and after that is
put back it runs nothing until the clock has caught up.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from jobs.planner import keys_of, log_failed, polled
from ordersync_consumer.servers.topology import SlotUnavailable
from worker.capture.state.changes import Changes
from worker.capture.state.put_back import PutBack
from worker.redis.refusals import is_wrong_value
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from jobs.planner import Planner
    from worker.services import Services

TICK_SECONDS = 1.0
REPAIR_SECONDS = 600.0
"""Seconds in which every account is planned again."""


class Tick:
    """The tick of one worker."""

    def __init__(self, services: Services, planner: Planner) -> None:
        self._services, self._planner = services, planner
        self._changes = Changes(services.redis, services.keys)
        self._put_back = PutBack(services.redis, services.keys)
        self._back: str | None = None
        self._unmoved = set[str]()
        """Accounts that were away when the clock was put back."""
        self._accounts = frozenset[str]()
        self._repaired, self._owed = 0, 0.0

    async def run(self, *, lost: bool) -> None:
        """Look at what has changed. `lost`: the schedule is not there any more."""
        services = self._services
        await services.clock.sync()
        back, changed = self._back, set[str]()
        # A node of a cluster that has keys of no account may be away: what is looked up there is seen later.
        with suppress(SlotUnavailable):
            back = await self._put_back.look()
        with suppress(SlotUnavailable):
            changed = await self._changes.read()
        if changed:
            await services.look_for_accounts()
        accounts = tuple(services.configured)
        added = [name for name in accounts if name not in self._accounts]
        self._accounts = frozenset(accounts)
        if back is not None:
            for name in accounts if back != self._back else sorted(self._unmoved.difference(services.away)):
                await self._follow_clock(name, back)
        if back != self._back or lost or not await self._planner.is_planned():
            self._back = back
            await self._planner.plan_all(accounts)
            return
        await self._planner.plan(dict.fromkeys([*added, *sorted(changed)]))
        await self._repair(accounts)

    async def _repair(self, accounts: tuple[str, ...]) -> None:
        """Plan the accounts whose turn it is."""
        self._owed += len(accounts) * TICK_SECONDS / REPAIR_SECONDS
        count = math.floor(self._owed)
        if count and accounts:
            self._owed -= count
            start = self._repaired % len(accounts)
            await self._planner.plan(accounts[start : start + count])
            self._repaired = start + count

    async def _follow_clock(self, name: str, back: str) -> None:
        """Move the reads by id that wait, if the clock of Redis was put back."""
        account = self._services.configured.get(name)
        if account is None:
            self._unmoved.discard(name)
            return  # it was removed meanwhile
        try:
            seconds = await self._put_back.follow(keys_of(account), polled(account), back)
        except SlotUnavailable:
            self._unmoved.add(name)
            return
        except ResponseError as error:
            if not is_wrong_value(error):
                raise
            log_failed(error, name)
            return
        self._unmoved.discard(name)
        if seconds:
            get_logger(account=name).info("reads_brought_forward", moved_s=round(-seconds, 1))
