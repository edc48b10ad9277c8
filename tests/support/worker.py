"""A worker built of its real parts, whose polls a test runs one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import msgspec
from pydantic import SecretStr

from ordersync_consumer import tail as stream
from ordersync_consumer.envelope import Event
from worker.app import open_services
from worker.capture.registry import ORDERS
from worker.capture.resources import Captured
from worker.capture.state.cursor import Cursor
from worker.capture.state.given_out import GivenOut
from worker.capture.state.known_bytes import KnownBytesPool
from worker.capture.state.run import Run
from worker.capture.state.stale_records import LAG_SECONDS
from worker.capture.state.store import StateStore
from worker.clock import SystemClock
from worker.config.sections import Account, ApiSettings
from worker.ordermesh.contract.findings import Capabilities, fingerprint, no, yes
from worker.redis.connections import answer
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, SandboxServer
from worker.services import AccountServices, Services


def account_for(sandbox: SandboxServer, name: str = "default", **api: Any) -> Account:
    """An account at the sandbox, with a budget that does not slow a test down."""
    settings = {"requests_per_second": 10_000, "timeout": 30, "attempts": 3, **api}
    return Account(
        name=name,
        api=ApiSettings(
            base_url=sandbox.url, client_id=CLIENT_ID, client_secret=SecretStr(CLIENT_SECRET), **settings
        ),
        intervals={"orders": 1.0},
        ignore_fields={},
        audit_history="all",
    )


async def know_contract(place: Services) -> None:
    """Let it be found, for every account, that the orders are where and what the profile says."""
    for desk in place.accounts.values():
        believed = desk.capabilities.store.configured
        found = Capabilities(
            resource="orders",
            search="orders.search",
            at=place.clock.now(),
            configured=fingerprint(believed),
            state="found",
            pages=yes("the profile says so"),
            filtering=no("the profile says so"),
            single=yes("the profile says so"),
            single_alike=True,
        )
        await answer(place.redis.hset(desk.keys.contract, "orders", msgspec.json.encode(found).decode()))


@dataclass(slots=True)
class Bench:
    """A worker's parts at work on one account, for tests that poll by hand."""

    services: Services
    account: AccountServices
    redis: Any  # redis-py types each answer as that of its blocking client as well
    sandbox: SandboxServer
    store: StateStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = StateStore(self.redis, self.account.keys, ORDERS)

    async def poll(self, captured: Captured = ORDERS, **options: Any) -> Run:
        """One poll, of the orders unless something else is named."""
        return await self.account.poller.poll(captured, **options)

    def adjust(self, **settings: Any) -> None:
        """Read with these settings of the account from now on."""
        context = self.account.poller.context
        context.account = msgspec.structs.replace(context.account, **settings)

    async def events(self, name: str = "orders") -> list[Event]:
        """Every event of the orders, or of something else, in order."""
        key = self.account.keys.stream(name)
        return [event async for event in stream.follow(self.redis, key, "0", wait=False)]

    async def grow_old(self, name: str = "orders") -> None:
        """Let the stale records of a resource have been shown for long enough that a full scan confirms them."""
        key = self.account.keys.stale(name)
        for member, text in (await answer(self.redis.hgetall(key))).items():
            shown, _, since = text.decode().rpartition(" ")
            await answer(self.redis.hset(key, member, f"{shown} {float(since) - LAG_SECONDS:.6f}"))

    async def cursor(self) -> Cursor:
        """Where the orders stand."""
        return await self.store.load_cursor()


BenchMaker = Callable[..., "BenchContext"]


class BenchContext:
    """Open a worker on one account of a sandbox; `async with` yields its `Bench`."""

    def __init__(self, sandbox: SandboxServer, url: str, api: dict[str, Any]) -> None:
        self._given_out: GivenOut | None = api.pop("given_out", None)
        self._known: KnownBytesPool = api.pop("known", None) or KnownBytesPool(per_bucket=0)
        self._probe, self._clock = api.pop("probe", False), api.pop("clock", None) or SystemClock()
        self._parts = {
            name: api.pop(name)
            for name in (
                *("privacy", "events", "reconcile", "intervals", "interest", "since", "snapshot"),
                *("ignore_fields", "audit_history"),
            )
            if name in api
        }
        self._sandbox, self._url, self._api = sandbox, url, api
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Bench:
        account = msgspec.structs.replace(account_for(self._sandbox, **self._api), **self._parts)
        place = await self._stack.enter_async_context(
            open_services([account], self._url, self._clock, self._given_out, known=self._known)
        )
        if not self._probe:
            await know_contract(place)
        return Bench(place, place.accounts[account.name], place.redis, self._sandbox)

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()
        await asyncio.sleep(0)  # lets the transports that were closed say goodbye
