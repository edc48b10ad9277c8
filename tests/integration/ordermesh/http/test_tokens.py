"""The token that all workers share: one login for all, nothing lost, nothing stale."""

from __future__ import annotations

import asyncio
import sys
import time

import anyio
import pytest
from redis.asyncio import Redis

from tests.support.scripted_server import OwnClock
from tests.support.tokens import KEYS, Maker, UserService, renewed
from tests.support.waiting import eventually
from worker.ordermesh.http.tokens import LOCK_SECONDS
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


# Single flight


async def test_one_login_for_a_hundred_callers(source: Maker, db: Redis) -> None:
    """A hundred callers at once inside a process cost one login and get the same token.

    They do not fight for the lock in Redis either: one takes it, for all.
    """
    service = UserService()
    tokens = source(service)
    await db.config_resetstat()
    got = await asyncio.gather(*(tokens.get() for _ in range(100)))
    assert {token.access for token in got} == {"a1"}
    assert len(service.requests) == tokens.logins == 1
    assert (await db.info("commandstats"))["cmdstat_set"]["calls"] == 2  # the lock, and the token


async def test_one_login_for_many_workers(source: Maker, db: Redis) -> None:
    """Workers that start together cost one login; the lock is gone afterwards."""
    service = UserService()
    workers = [source(service) for _ in range(8)]
    got = await asyncio.gather(*(worker.get() for worker in workers for _ in range(5)))
    assert {token.access for token in got} == {"a1"}
    assert len(service.requests) == 1
    assert not await db.exists(KEYS.token_lock)


async def test_one_renewal_for_many_rejections(source: Maker) -> None:
    """When all workers' requests are refused at once, one of them renews and the others take its token."""
    service = UserService()
    workers = [source(service) for _ in range(6)]
    await asyncio.gather(*(worker.get() for worker in workers))
    got = await asyncio.gather(*(renewed(worker, "a1") for worker in workers for _ in range(5)))
    assert set(got) == {"a2"}
    assert len(service.requests) == 2


PROGRAM = """
import asyncio, sys
from pydantic import SecretStr
from worker.telemetry import log as logs
from worker.app import open_services
from worker.clock import SystemClock
from worker.ordermesh.http.usage import Usage
from worker.sandbox import CLIENT_ID, CLIENT_SECRET
from worker.config.sections import Account, ApiSettings

async def main(gateway, redis_url):
    logs.configure("json", "warning")
    api = ApiSettings(base_url=gateway, client_id=CLIENT_ID, client_secret=SecretStr(CLIENT_SECRET))
    account = Account(name="default", api=api, intervals={}, ignore_fields={})
    async with open_services([account], redis_url, SystemClock()) as place:
        print("ready", flush=True)
        sys.stdin.readline()
        client = place.accounts["default"].client
        await asyncio.gather(*(client.tokens.get() for _ in range(10)))
        await client.read_page("orders.search", 0, 1, Usage())
        print((await client.tokens.get()).access, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_one_login_for_several_processes(redis_url: str, sandbox: SandboxServer) -> None:
    """Real processes that come for a token at the same moment cost one login."""
    programs = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, sandbox.url, redis_url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(3)
    ]
    for program in programs:
        assert program.stdout is not None
        assert await program.stdout.readline() == b"ready\n"
    answers = await asyncio.gather(*(program.communicate(b"\n") for program in programs))
    assert len({out for out, _ in answers}) == 1
    assert [program.returncode for program in programs] == [0, 0, 0]
    assert (sandbox.auth.issued, sandbox.requests.count("clients.token")) == (1, 1)


# The lock


async def test_the_lock_is_given_back_by_its_owner_only(source: Maker, db: Redis) -> None:
    """Whoever lost the lock meanwhile does not take it from its new owner."""
    service = UserService(gate=asyncio.Event())
    assert service.gate is not None
    call = asyncio.create_task(source(service).get())
    await eventually(lambda: service.requests)
    await db.set(KEYS.token_lock, "somebody-else")
    service.gate.set()
    await call
    assert await db.get(KEYS.token_lock) == b"somebody-else"


async def test_the_lock_of_a_dead_owner_runs_out(source: Maker, db: Redis) -> None:
    """A worker killed while it logged in holds up the others until its lock runs out, and no longer."""
    service = UserService()
    began = time.monotonic()
    await db.set(KEYS.token_lock, "dead", px=150)
    assert (await source(service).get()).access == "a1"
    assert time.monotonic() - began > 0.1
    assert LOCK_SECONDS <= 10  # a killed worker's successor is to go on within 15 s


async def test_the_lock_runs_out_by_itself(source: Maker, db: Redis) -> None:
    """While it is held, the lock has an end, so that nobody has to clean up after a kill."""
    service = UserService(gate=asyncio.Event())
    assert service.gate is not None
    call = asyncio.create_task(source(service).get())
    await eventually(lambda: service.requests)
    assert 0 < await db.pttl(KEYS.token_lock) <= LOCK_SECONDS * 1000
    service.gate.set()
    await call


class BeatingClock(OwnClock):
    """A clock whose lock heartbeat goes on when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.beat = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Wait for the test, where the heartbeat waits."""
        if seconds == LOCK_SECONDS / 3:
            await self.beat.wait()
            self.beat.clear()
        else:
            await super().sleep(seconds)


async def test_a_slow_login_keeps_its_lock(source: Maker, db: Redis) -> None:
    """A login that takes longer than the lock lasts is still the only one: its owner holds the lock on."""
    service, clock = UserService(gate=asyncio.Event()), BeatingClock()
    assert service.gate is not None
    call = asyncio.create_task(source(service, clock=clock).get())
    await eventually(lambda: service.requests)
    await db.pexpire(KEYS.token_lock, 1_000)
    clock.beat.set()

    async def held_on() -> bool:
        return bool(await db.pttl(KEYS.token_lock) > 5_000)

    await eventually(held_on)
    service.gate.set()
    await call


async def test_nobody_holds_on_to_a_lost_lock(source: Maker, db: Redis) -> None:
    """The heartbeat prolongs its own lock, never that of another worker."""
    service, clock = UserService(gate=asyncio.Event()), BeatingClock()
    assert service.gate is not None
    call = asyncio.create_task(source(service, clock=clock).get())
    await eventually(lambda: service.requests)
    await db.set(KEYS.token_lock, "somebody-else", px=1_000)
    clock.beat.set()
    await eventually(lambda: not clock.beat.is_set())
    service.gate.set()
    await call
    assert 0 < await db.pttl(KEYS.token_lock) <= 1_000


async def test_the_token_is_read_again_under_the_lock(source: Maker, db: Redis) -> None:
    """Whoever waited for the lock takes the token that was stored meanwhile instead of logging in."""
    service = UserService()
    first = source(service)
    await first.get()
    raw = await db.get(KEYS.token)
    await db.delete(KEYS.token)
    late = source(service)
    acquire = late._acquire

    async def slowly(owner: str) -> bool:
        done = await acquire(owner)
        await db.set(KEYS.token, raw)
        return done

    late._acquire = slowly  # type: ignore[method-assign] # the other worker comes just before the lock
    assert (await late.get()).access == "a1"
    assert len(service.requests) == 1


async def test_a_cancelled_caller_leaves_no_lock(source: Maker, db: Redis) -> None:
    """Cancelled at any moment, by a scope or directly, a caller gives the lock back; the next one logs in."""
    service = UserService()
    for turns in range(30):
        tokens = source(service)
        call = asyncio.create_task(tokens.renew("a0"))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert not await db.exists(KEYS.token_lock)
        await db.delete(KEYS.token)


async def test_a_cancelled_scope_leaves_no_lock(source: Maker, db: Redis) -> None:
    """A task group that ends while a login is under way gives the lock back, although its scope is cancelled."""
    service = UserService(gate=asyncio.Event())
    tokens = source(service)
    async with anyio.create_task_group() as group:
        group.start_soon(tokens.get)
        await eventually(lambda: service.requests)
        assert await db.exists(KEYS.token_lock)
        group.cancel_scope.cancel()
    assert not await db.exists(KEYS.token_lock)
