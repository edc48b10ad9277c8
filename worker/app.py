"""The composition root: builds the engine out of settings. Nothing else knows how the parts fit together."""

from __future__ import annotations

import functools
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
from redis.exceptions import RedisError

from ordersync_consumer.groups import Groups, RetentionLimits
from ordersync_consumer.servers.cluster import ClusterClient, at
from worker.capture.context import AccountContext
from worker.capture.poll import Poller
from worker.capture.probe.gateway import GatewayFindings
from worker.capture.probe.registry import CapabilityRegistry
from worker.capture.reconcile.reconciler import Reconciler
from worker.capture.registry import CAPTURED
from worker.capture.resync.runner import ResyncRunner
from worker.capture.state.given_out import GivenOut
from worker.capture.state.known_bytes import KnownBytesPool
from worker.config.sections import ConcurrencySettings
from worker.errors import SettingsError
from worker.keys import KeySpace
from worker.ordermesh.client import OrderMeshClient
from worker.ordermesh.contract.configured import contract_of
from worker.ordermesh.contract.findings import fingerprint
from worker.ordermesh.http.auth import credentials_of
from worker.ordermesh.http.budget import Budget
from worker.ordermesh.http.rotation import Rotation
from worker.ordermesh.http.shared import Pools
from worker.ordermesh.http.tls import check_files
from worker.ordermesh.http.tokens import TokenSource
from worker.queue.backpressure import Backpressure, HighWaterMarks, MemoryLook
from worker.queue.retention import Retention
from worker.redis import embedded
from worker.redis.clock import RedisClock
from worker.redis.connections import answer, connect
from worker.redis.functions import FunctionLoader
from worker.reporting import worker_id
from worker.service.presence import Presence
from worker.services import AccountServices, OpenAccounts, Services
from worker.telemetry.log import redaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from redis.asyncio import Redis

    from worker.clock import SharedClock
    from worker.config.sections import Account, ApiSettings
    from worker.config.settings import Settings
    from worker.ordermesh.contract.profile import ContractProfile

DEREGISTER_SECONDS = 1.0


@asynccontextmanager
async def redis_url(settings: Settings, *, alone: bool = False) -> AsyncIterator[str]:
    """The server for events and state: the one that is set, or the embedded one while the block runs.

    Raises:
        SettingsError: `alone` was asked for, and another worker uses the data folder.

    """
    if (url := settings.redis.address) is not None:
        yield url
    else:
        async with embedded.server(settings.data_dir, settings.embedded) as running:
            if alone and running.shared:
                raise SettingsError(
                    f"Another worker already uses the data folder {settings.data_dir} and its embedded Valkey. "
                    "Stop that worker, or set ORDERSYNC_DATA_DIR to another folder. To run several workers, set "
                    "ORDERSYNC_REDIS__URL."
                )
            yield running.url


@asynccontextmanager
async def open_services(
    accounts: Sequence[Account],
    url: str,
    clock: SharedClock | None = None,
    given_out: GivenOut | None = None,
    *,
    read_accounts: Callable[[], Sequence[Account]] | None = None,
    places: ConcurrencySettings | None = None,
    known: KnownBytesPool | None = None,
    keys: KeySpace | None = None,
    most_open: int | None = None,
) -> AsyncIterator[Services]:
    """Everything the jobs need, for all accounts; connections are closed at the end.

    Args:
        accounts: The accounts.
        url: The address of Redis.
        clock: What they go by; None for the clock of Redis.
        given_out: What earlier lives of this worker are known to have published.
        read_accounts: Reads the accounts anew from the settings, for a login whose secret was rotated; None if the
            secrets stay as they are.
        places: How many jobs of each lane run at the same time; None for the defaults.
        known: What is known of the bytes of records; None for an empty one of the usual size.
        keys: The keys in Redis; None for those of the accounts.
        most_open: Accounts whose services are kept; None for all of these accounts.

    """
    given_out, known = given_out or GivenOut(), known or KnownBytesPool()
    async with AsyncExitStack() as stack:
        redis = connect(url)
        clock = clock or RedisClock(redis)
        stack.push_async_callback(redis.aclose)
        profile_of = functools.cache(lambda file: contract_of(file).profile)
        for each in accounts:  # a file that cannot be used is an error of the start, not of the first job
            profile_of(each.contract_file)
        check_files(each.api for each in accounts)

        gateways: dict[str, GatewayFindings] = {}
        # The accounts of a cluster are on several servers.
        memory = None if isinstance(redis, ClusterClient) else MemoryLook(clock)
        pools, functions = Pools(), FunctionLoader(redis, clock)
        stack.push_async_callback(pools.aclose)

        def build(account: Account) -> AccountServices:
            profile: ContractProfile = profile_of(account.contract_file)
            shared = account.keys.gateway(account.api.base_url, fingerprint(profile))
            return _account_services(
                account,
                profile,
                redis,
                clock,
                pools=pools,
                gateway=gateways.setdefault(shared.base, GatewayFindings(redis, shared, clock)),
                given_out=given_out,
                known=known,
                functions=functions,
                memory=memory,
                current=functools.partial(_current, account.name, opened, read_accounts),
            )

        opened = OpenAccounts(
            {account.name: account for account in accounts}, build, most_open or max(1, len(accounts))
        )
        stack.push_async_callback(_close, opened)
        yield Services(
            redis=redis,
            accounts=opened,
            clock=clock,
            given_out=given_out,
            keys=keys or (accounts[0].keys if accounts else KeySpace()),
            places=places or ConcurrencySettings(),
        )


async def _close(accounts: OpenAccounts) -> None:
    for services in accounts.built:
        await services.client.aclose()


def _account_services(
    account: Account,
    profile: ContractProfile,
    redis: Redis,
    clock: SharedClock,
    *,
    pools: Pools,
    gateway: GatewayFindings,
    given_out: GivenOut,
    known: KnownBytesPool,
    functions: FunctionLoader,
    memory: MemoryLook | None,
    current: Callable[[], ApiSettings | None],
) -> AccountServices:
    keys = account.keys.of(account.name)
    redis = at(redis, keys.base)
    budget = Budget(
        redis=redis,
        keys=keys,
        requests_per_second=account.api.requests_per_second,
        max_concurrency=account.api.max_concurrency,
        worker_id=worker_id(),
        clock=clock,
    )
    client = OrderMeshClient(
        api=account.api,
        profile=profile,
        budget=budget,
        clock=clock,
        make_http=lambda: pools.open(account.api),
    )
    client.tokens = TokenSource(
        redis=redis,
        keys=keys,
        credentials=credentials_of(account.api),
        base_url=account.api.base_url,
        login=client.login,
        clock=clock,
        rotated=Rotation(account.name, account.api, current, client.use_headers),
        secret_keys=tuple(key.get_secret_value() for key in account.secret_keys),
    )
    contract = CapabilityRegistry(
        redis=redis, keys=keys, client=client, configured=profile, clock=clock, gateway=gateway
    )
    groups = Groups(redis, keys)
    retention = Retention(
        redis_client=redis,
        keys=keys,
        limits=limits_of(account),
        declared=account.events.groups,
        late_after=account.groups.late_after,
        clock=clock,
        max_letter_age=account.retention.dead_letters,
        functions=functions,
    )
    backpressure = Backpressure(groups, HighWaterMarks(**account.backpressure.model_dump()), clock, memory)
    if account.privacy.key is not None:
        redaction.add(account.privacy.key.get_secret_value())
    context = AccountContext(
        account, redis, client, contract, backpressure, clock, worker_id(), given_out, known
    )
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


def _current(
    name: str, served: OpenAccounts, read_accounts: Callable[[], Sequence[Account]] | None
) -> ApiSettings | None:
    """Return the settings of an account as they are now; None if they are not read again.

    Raises:
        SettingsError: They cannot be read, or there is no such account any more.

    """
    if read_accounts is None:
        return None
    for each in read_accounts():
        if each.name == name:
            return each.api
    if name in served.configured:  # one that is kept in Redis; changes of it are taken up within seconds
        return served.configured[name].api
    raise SettingsError(f"The settings have no account {name!r} any more.")


def limits_of(account: Account) -> dict[str, RetentionLimits]:
    """What is kept of the stream of each resource."""
    return {name: RetentionLimits(**account.retention.of(name).model_dump()) for name in CAPTURED}


async def announce(services: Services) -> None:
    """Write down which accounts there are, for the commands that only look."""
    if services.accounts:
        await answer(services.redis.sadd(services.keys.accounts, *services.accounts))


async def deregister(services: Services) -> None:
    """This worker ends, and is not counted among those alive any more. Redis may be away, and is not waited for."""
    with suppress(RedisError, OSError), anyio.move_on_after(DEREGISTER_SECONDS):
        await answer(services.redis.delete(services.keys.worker(worker_id())))
    await leave(services, services.configured)


async def leave(services: Services, accounts: Iterable[str]) -> None:
    """This worker does not serve these accounts any more. Redis may be away, and is not waited for."""
    with suppress(RedisError, OSError), anyio.move_on_after(DEREGISTER_SECONDS):
        for name in accounts:
            await Presence(services.redis, services.keys.of(name)).leave(worker_id())
