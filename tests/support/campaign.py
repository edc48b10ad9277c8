"""A worker of real parts, in the process of the test, at the independent gateway (`tests.support.gateway`).

    async with worker_at(gateway, redis_url, page_size=50) as worker:
        await worker.poll()
        await worker.poll(complete=True)
        worker.clock.offset -= 3600      # the clock of this host is put back
        await settle(worker, judge)      # full scans until nothing is missed

Where signals, restarts or the timing of polls matter, run a daemon with `gateway.settings` and `Program` instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import SecretStr

from tests.support.faulty_gateway import MovedClock
from tests.support.gateway import CLIENT_ID, CLIENT_SECRET, Gateway, Judge
from worker.app import open_services
from worker.capture.registry import ORDERS
from worker.capture.resources import Captured
from worker.capture.state.cursor import Cursor
from worker.capture.state.known_bytes import KnownBytesPool
from worker.capture.state.run import Run
from worker.capture.state.store import StateStore
from worker.config.sections import Account, ApiSettings
from worker.services import AccountServices, Services


@dataclass(frozen=True, slots=True)
class Worker:
    """The parts of a worker, whose polls a test runs one by one."""

    place: Services
    account: AccountServices
    clock: MovedClock

    async def poll(self, captured: Captured = ORDERS, **options: Any) -> Run:
        """One poll, of the orders unless something else is named."""
        return await self.account.poller.poll(captured, **options)

    async def cursor(self, captured: Captured = ORDERS) -> Cursor:
        """Where a resource stands."""
        return await StateStore(self.place.redis, self.account.keys, captured).load_cursor()


def account_at(gateway: Gateway, **settings: Any) -> Account:
    """The account at a gateway; `settings` are those of the API, or `intervals` and the other parts of an account.

    The second answer that a record does not exist is asked for at once.
    """
    account = Account(
        name="default",
        api=ApiSettings(base_url=gateway.url),
        intervals={"orders": 1.0},
        ignore_fields={},
        audit_history="all",
        confirm_deletes=0.0,
    )
    parts = {name: settings.pop(name) for name in list(settings) if hasattr(account, name)}
    api = {"requests_per_second": 10_000, "timeout": 5, "attempts": 2, **settings}
    made = ApiSettings(
        base_url=gateway.url, client_id=CLIENT_ID, client_secret=SecretStr(CLIENT_SECRET), **api
    )
    return msgspec.structs.replace(account, api=made, **parts)


@asynccontextmanager
async def worker_at(gateway: Gateway, redis_url: str, **settings: Any) -> AsyncIterator[Worker]:
    """A worker that has asked nothing yet. `clock`: that of its host."""
    clock = settings.pop("clock", None) or MovedClock()
    account = account_at(gateway, **settings)
    async with open_services([account], redis_url, clock, known=KnownBytesPool(per_bucket=0)) as place:
        yield Worker(place, place.accounts[account.name], clock)
    await asyncio.sleep(0)  # lets the transports that were closed say goodbye


async def settle(worker: Worker, judge: Judge, rounds: int = 8, captured: Captured = ORDERS) -> int:
    """Make full scans until nothing is missed; how many it took.

    Before each but the first, the host's clock goes on by ten minutes. `rounds`: the limit.
    """
    for number in range(1, rounds + 1):
        await worker.poll(captured, complete=True)
        if not judge.missed():
            judge.settled = judge.settled or time.time()
            return number
        worker.clock.offset += 600
    raise AssertionError(f"not within {rounds} full scans: {judge.verdict()}")
