"""The composition root: builds the engine out of settings. Nothing else knows how the parts fit together."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import signal
import socket
import sys
import time
import uuid
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import anyio
from redis.exceptions import RedisError, ResponseError

from worker.capture.context import AccountContext
from worker.capture.health import NOT_POLLED, Health, Verdict, judge
from worker.capture.poll import Poller
from worker.capture.probe.registry import CapabilityRegistry
from worker.capture.reconcile.reconciler import Reconciler
from worker.capture.registry import CAPTURED
from worker.capture.resync.runner import ResyncRunner
from worker.capture.state import pauses
from worker.capture.state.cursor import Cursor
from worker.capture.state.given_out import GivenOut
from worker.capture.state.source import check_source
from worker.capture.state.store import StateStore, check_layout
from worker.errors import DataError, RedisUnavailable, SettingsError
from worker.keys import KeySpace
from worker.ordermesh.client import OrderMeshClient
from worker.ordermesh.contract import file as contract_file
from worker.ordermesh.http.auth import credentials_of
from worker.ordermesh.http.budget import Budget
from worker.ordermesh.http.rotation import Rotation
from worker.ordermesh.http.tokens import TokenSource
from worker.ordermesh.http.transport import make_http
from worker.queue.retention import Retention
from worker.queue.backpressure import Backpressure, HighWaterMarks
from ordersync_consumer.groups import Groups, RetentionLimits
from worker.redis import embedded
from worker.redis.clock import RedisClock
from worker.redis.connections import answer, connect
from worker.redis.facts import evicted, eviction_words, facts_of, run_of
from worker.redis.refusals import explain, is_full
from worker.service.heartbeat import Beat, ResourceBeat
from worker.service.presence import Presence
from worker.services import AccountServices, Services
from worker.telemetry.log import redaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.clock import SharedClock
    from worker.config.sections import Account, ApiSettings
    from worker.config.settings import Settings
    from worker.ordermesh.contract.profile import ContractProfile
    from worker.ordermesh.http.auth import Credentials

DEREGISTER_SECONDS = 1.0

T = TypeVar("T")


@functools.cache
def worker_id() -> str:
    """Tells this process from every other: host, process id, and chance, for containers that share both."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:4]}"


def run_async(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run on uvloop where there is one."""
    # What was imported lives as long as the process: the collector need not look at it again and again.
    gc.freeze()
    if sys.platform == "win32":
        return asyncio.run(main())
    import uvloop  # noqa: PLC0415 - not there on every platform

    return uvloop.run(main())


async def ended_by_sigterm(main: Coroutine[Any, Any, None]) -> None:
    """Await `main`; SIGTERM cancels it, so that it cleans up, as Ctrl-C does. A daemon at work takes over both."""
    task, loop = asyncio.ensure_future(main), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        if (me := asyncio.current_task()) is not None and me.cancelling():
            await asyncio.wait([task])
            raise
        sys.exit(128 + signal.SIGTERM)


@asynccontextmanager
async def redis_url(settings: Settings, *, alone: bool = False) -> AsyncIterator[str]:
    """The server for events and state: the one that is set, or the embedded one while the block runs.

    Raises:
        SettingsError: `alone` was asked for, and another worker uses the data folder.

    """
    if (url := settings.redis.address) is not None:
        redaction.add(urlsplit(url).password)
        yield url
    else:
        async with embedded.server(settings.data_dir) as running:
            if alone and running.shared:
                raise SettingsError(
                    f"Another worker already uses the data folder {settings.data_dir} and its embedded Valkey. "
                    "Stop that worker, or set ORDERSYNC_DATA_DIR to another folder. To run several workers, set "
                    "ORDERSYNC_REDIS__URL."
                )
            yield running.url


def running_redis_url(settings: Settings) -> str:
    """The server for a command that only looks.

    Raises:
        RedisUnavailable: No URL is set, and no embedded server runs.

    """
    if (url := settings.redis.address) is not None:
        return url
    running = embedded.find(settings.data_dir)
    if running is None:
        raise RedisUnavailable(
            f"No worker runs with the data folder {settings.data_dir}. Start one with `ordersync run --sandbox` "
            "(or `ordersync run`), or set ORDERSYNC_REDIS__URL to use another server."
        )
    return running.url


@asynccontextmanager
async def open_services(
    accounts: Sequence[Account],
    url: str,
    clock: SharedClock | None = None,
    given_out: GivenOut | None = None,
    read_accounts: Callable[[], Sequence[Account]] | None = None,
) -> AsyncIterator[Services]:
    """Everything the jobs need, for all accounts; connections are closed at the end.

    Args:
        accounts: The accounts.
        url: The address of Redis.
        clock: What they go by; None for the clock of Redis.
        given_out: What earlier lives of this worker are known to have published.
        read_accounts: Reads the accounts anew from the settings, for a login whose secret was rotated; None if the
            secrets stay as they are.

    """
    given_out = given_out or GivenOut()
    async with AsyncExitStack() as stack:
        redis = connect(url)
        clock = clock or RedisClock(redis)
        stack.push_async_callback(redis.aclose)
        files = {account.contract_file for account in accounts}
        profiles = {file: contract_file.load(file).profile for file in files}
        desks = {
            account.name: _account_services(
                account,
                profiles[account.contract_file],
                redis,
                clock,
                given_out=given_out,
                read_accounts=read_accounts,
            )
            for account in accounts
        }
        for account_services in desks.values():
            stack.push_async_callback(account_services.client.aclose)
        yield Services(
            redis=redis,
            accounts=desks,
            clock=clock,
            given_out=given_out,
            keys=accounts[0].keys if accounts else KeySpace(),
        )


def _account_services(
    account: Account,
    profile: ContractProfile,
    redis: Redis,
    clock: SharedClock,
    *,
    given_out: GivenOut,
    read_accounts: Callable[[], Sequence[Account]] | None,
) -> AccountServices:
    keys = account.keys.of(account.name)
    budget = Budget(
        redis=redis,
        keys=keys,
        requests_per_second=account.api.requests_per_second,
        max_concurrency=account.api.max_concurrency,
        worker_id=worker_id(),
        clock=clock,
    )
    client = OrderMeshClient(
        api=account.api, profile=profile, budget=budget, clock=clock, make_http=lambda: make_http(account.api)
    )
    client.tokens = TokenSource(
        redis=redis,
        keys=keys,
        credentials=credentials_of(account.api),
        base_url=account.api.base_url,
        login=client.login,
        clock=clock,
        rotated=_rotation(account, client, read_accounts),
    )
    contract = CapabilityRegistry(redis=redis, keys=keys, client=client, configured=profile, clock=clock)
    groups = Groups(redis, keys)
    retention = Retention(
        redis_client=redis,
        keys=keys,
        limits=limits_of(account),
        declared=account.events.groups,
        idle_after=account.retention.idle_after,
        every=account.retention.every,
        clock=clock,
    )
    backpressure = Backpressure(groups, HighWaterMarks(**account.backpressure.model_dump()), clock)
    if account.privacy.key is not None:
        redaction.add(account.privacy.key.get_secret_value())
    context = AccountContext(account, redis, client, contract, backpressure, clock, worker_id(), given_out)
    return AccountServices(
        account,
        keys,
        client,
        Poller(context),
        ResyncRunner(context),
        Reconciler(context),
        contract,
        groups,
        retention,
    )


def _rotation(
    account: Account, client: OrderMeshClient, read_accounts: Callable[[], Sequence[Account]] | None
) -> Callable[[], Credentials | None]:
    if read_accounts is None:
        return lambda: None

    def read() -> ApiSettings:
        for each in read_accounts():
            if each.name == account.name:
                return each.api
        raise SettingsError(f"The settings have no account {account.name!r} any more.")

    return Rotation(account.name, account.api, read, client.use_headers)


def limits_of(account: Account) -> dict[str, RetentionLimits]:
    """What is kept of the stream of each resource."""
    return {name: RetentionLimits(**account.retention.of(name).model_dump()) for name in CAPTURED}


async def remember(services: Services) -> Mapping[str, Any]:
    """Write down what was published so far, and by which run of Redis, for the next life of this worker.

    Returns:
        What INFO says.

    """
    facts = await facts_of(services.redis)
    services.given_out.saw_server(run_of(facts))
    services.given_out.save()
    return facts


async def announce(services: Services) -> None:
    """Write down which accounts there are, for the commands that only look."""
    await answer(services.redis.sadd(services.keys.accounts, *services.accounts))


def reporter(services: Services) -> Callable[[], Awaitable[list[ResourceBeat]]]:
    """What the heartbeat says of each resource. It goes to Redis too, where other hosts see it."""
    began = services.clock.monotonic()

    async def report() -> list[ResourceBeat]:
        full, since = False, services.clock.now() - (services.clock.monotonic() - began)
        try:
            await announce(services)  # again and again: a Redis that lost its data knows of nobody
        except RedisError as error:
            if not is_full(error):
                raise
            full = True
        lost = evicted(await remember(services))
        beats = []
        for account in services.accounts.values():
            own = await _beats_of(services, account, since, full=full, evicted_keys=lost)
            now = services.clock.now()
            offset = round(time.time() - now, 1)
            sign = Beat(worker_id(), os.getpid(), now, since, own, clock_offset=offset)
            await Presence(services.redis, account.keys).beat(sign)
            beats += own
        return beats

    return report


async def _beats_of(
    services: Services, account: AccountServices, since: float, *, full: bool, evicted_keys: int
) -> list[ResourceBeat]:
    """Return what the heartbeat says of the resources of one account."""
    paused = await pauses.Pauses(services.redis, account.keys).all()
    beats = []
    for name in account.account.intervals:
        cursor, unrecorded = Cursor(), account.poller.unrecorded.get(name)
        try:
            await check_layout(services.redis, account.keys)
            await check_source(services.redis, account.keys, account.account.api)
            cursor = await StateStore(services.redis, account.keys, CAPTURED[name]).load_cursor()
        except (DataError, ResponseError) as error:
            verdict = Verdict(Health.FAILING, explain(error))
        else:
            verdict = judge(
                cursor,
                services.clock.now(),
                since,
                full=full,
                pause=pauses.of(paused, name),
                unrecorded=unrecorded,
            )
        is_unrecorded = unrecorded is not None
        if evicted_keys and verdict.health in {Health.OK, Health.STARTING}:
            verdict, is_unrecorded = Verdict(Health.DEGRADED, eviction_words(evicted_keys)), True
        beats.append(
            ResourceBeat(
                account=account.account.name,
                resource=name,
                health=verdict.health.value,
                cause=redaction.text(verdict.cause),
                fresh_as_of=cursor.fresh_as_of,
                last_success=cursor.last_success,
                unrecorded=is_unrecorded,
            )
        )
    return [*beats, *await _withdrawn(services, account)]


async def _withdrawn(services: Services, account: AccountServices) -> list[ResourceBeat]:
    """Return a beat for each resource that was polled once, and that this worker does not poll."""
    names = [name for name in CAPTURED if name not in account.account.intervals]
    async with services.redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hget(account.keys.cursor(name), "last_started")
        began = await pipe.execute(raise_on_error=False)
    return [
        ResourceBeat(account.account.name, name, Health.WITHDRAWN, NOT_POLLED)
        for name, at in zip(names, began, strict=True)
        if at
    ]


async def deregister(services: Services) -> None:
    """This worker ends, and is not counted among those alive any more. Redis may be away, and is not waited for."""
    await leave(services, services.accounts)


async def leave(services: Services, accounts: Iterable[str]) -> None:
    """This worker does not serve these accounts any more. Redis may be away, and is not waited for."""
    with suppress(RedisError, OSError), anyio.move_on_after(DEREGISTER_SECONDS):
        for name in accounts:
            await Presence(services.redis, services.accounts[name].keys).leave(worker_id())
