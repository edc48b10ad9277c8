"""The configuration in force and the services built from it, both of which SIGHUP replaces while the daemon runs."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Self

import msgspec
from redis.exceptions import RedisError

from jobs.schedule import Schedule
from jobs.worker import make_worker
from ordersync_consumer.redaction import words_of
from ordersync_consumer.servers.cluster import at
from ordersync_consumer.servers.topology import SlotUnavailable
from worker.admin.operator_log import DONE, OperatorLog, OperatorWatch
from worker.admin.redis_acl import check_usable
from worker.app import leave, open_services
from worker.capture.state.changes import Changes
from worker.capture.state.known_bytes import KnownBytesPool
from worker.capture.state.source import check_source
from worker.cli.run.account_watch import FEW_ACCOUNTS, AccountWatch
from worker.cli.run.logins import log_in
from worker.config.difference import difference, with_fixed
from worker.config.resources import SANDBOX_ACCOUNT
from worker.config.urls import hide_password
from worker.errors import LoginRejected, OrderMeshError, RedisUnavailable, SettingsError
from worker.ordermesh.contract.configured import contract_of
from worker.redis.connections import answer, check_queue_address, connect, wait_until_up
from worker.reporting import clock_offset, remember, reporter, worker_id
from worker.telemetry import log as logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from jobs.worker import Workers
    from worker.capture.state.given_out import GivenOut
    from worker.clock import SystemClock
    from worker.config.difference import Difference
    from worker.config.sections import Account
    from worker.config.settings import Settings
    from worker.ordermesh.contract.profile import ContractProfile
    from worker.service.daemon import Daemon, Swap
    from worker.service.heartbeat import ResourceBeat
    from worker.services import Services

RELOAD_PATIENCE = 10.0
"""Seconds that a reload waits for another Redis before it is refused."""

Configuration = tuple["Settings", "Sequence[Account]"]


class Serving:
    """Builds the services of a configuration; an async context manager that closes them.

    Args:
        configuration: The settings, and the accounts that are served.
        read: Reads the configuration anew. Raises `SettingsError` if it cannot be used.
        url: The server for events and state.
        given_out: What earlier lives of this worker are known to have published.
        clock: The clock.
    """

    services: Services

    def __init__(
        self,
        configuration: Configuration,
        read: Callable[[], Configuration],
        url: str,
        given_out: GivenOut,
        clock: SystemClock,
    ) -> None:
        self.settings, self._own = configuration
        self.url = url
        self._read, self._given_out, self._clock = read, given_out, clock
        self._stack, self._next = AsyncExitStack(), AsyncExitStack()
        self._watches: dict[str, OperatorWatch] = {}
        self._told, self._since = 0, ""
        self._daemon: Daemon | None = None

    async def __aenter__(self) -> Self:
        self.services = await self._open(self._stack, self.settings, self._own, self.url)
        self._profiles = _profiles_of(self._own)
        self._watch = self._watch_of(self.settings, self._own, self.services)
        self._look()
        return self

    @property
    def accounts(self) -> list[Account]:
        """The accounts that are served."""
        return list(self.services.configured.values())

    async def take_up_accounts(self) -> None:
        """Serve the accounts in Redis as well.

        Raises:
            SettingsError: There are no accounts, neither in the settings nor in Redis.
            SlotUnavailable: The settings have none, and the node that has those in Redis is away.

        """
        if self._watch is not None:
            with suppress(*((SlotUnavailable,) if self._own else ())):  # those of the settings are served
                await self._watch.look()
        if not self._own and not (self._watch and self._watch.revision):
            self.settings.accounts()  # raises, and says where accounts come from

    async def __aexit__(self, *exc: object) -> None:
        await self._next.aclose()
        await self._stack.aclose()

    def serve(self, daemon: Daemon) -> None:
        """Take the daemon whose signals the services heed."""
        self._daemon = daemon
        self.services.stopping = daemon.interrupted

    def make_worker(self) -> Workers:
        """Return an arq worker with fresh connections."""
        return make_worker(_queue_url(self.settings, self.url), self.services, worker_id())

    async def report(self) -> list[ResourceBeat]:
        """Return the health of the resources, for the heartbeat, and log what people have changed since the last."""
        if self._watch is not None:
            with suppress(RedisError, OSError):
                await self._watch.look()
        with suppress(RedisError, OSError):
            await self._tell_changes()
        return await self._report()

    async def _tell_changes(self) -> None:
        """Log what people have changed since the last call: of the accounts that were named, and of one in turn."""
        if not self._since:
            seconds, micros = await answer(at(self.services.redis, self.services.keys.changes).time())
            self._since = f"{seconds * 1000 + micros // 1000}-0"
        names = list(self.services.configured)
        changed = await self._changes.read()
        if names:
            self._told = (self._told + 1) % len(names)
            changed.add(names[self._told])
        for name in changed.intersection(names):
            watch = self._watches.get(name)
            if watch is None:
                keys = self.services.keys.of(name)
                watch = self._watches[name] = OperatorWatch(self.services.redis, keys, self._since)
            await watch.tell()

    def clock_offset(self) -> float:
        """Return by how many seconds the clock of this host is ahead of that of Redis."""
        return clock_offset(self.services)

    async def wait_for_redis(self) -> None:
        """Wait until both servers answer. If one refuses the worker, look whether its address has changed."""
        try:
            await self._wait(self.settings, self.url, patience=None)
        except RedisUnavailable:
            settings, _ = self._read()
            if settings.redis == self.settings.redis or (swap := await self.reload()) is None:
                raise
            await swap()
            await self._wait(self.settings, self.url, patience=None)

    async def oldest_due(self) -> dict[str, float]:
        """Return for each lane how long the job that waits the longest for a place is due, in seconds."""
        client = connect(_queue_url(self.settings, self.url))
        try:
            found = await Schedule(client, self.services.keys).oldest_due(self.services.clock.now())
        finally:
            await client.aclose()
        return {lane.value: seconds for lane, seconds in found.items()}

    async def check_queue(self) -> None:
        """Check the server of the queue at the start, where waiting would not cure a wrong address."""
        url, setting = _queue_url(self.settings, self.url), _queue_setting(self.settings)
        await _answers(url, setting, self._clock, patience=None)
        if self.settings.redis.queue_url:
            await check_usable(url, (), queue=True, space=self.services.keys)

    async def reload(self) -> Swap | None:
        """Read and check the configuration; return what puts it in force, or None if nothing has changed.

        Raises:
            OrdersyncError: It cannot be used; the old one stays in force.

        """
        try:
            return await self._read_anew()
        except Exception as error:
            await self._record("SIGHUP", outcome=f"refused: {words_of(error)}")
            raise

    async def _read_anew(self) -> Swap | None:
        read, listed = self._read()
        settings = with_fixed(self.settings, read)
        own = [msgspec.structs.replace(account, keys=settings.redis.keys) for account in listed]
        url = settings.redis.address or self.url
        await self._next.aclose()
        self._next = stack = AsyncExitStack()
        try:
            services, profiles = await self._open(stack, settings, own, url), _profiles_of(own)
            if (url, settings.redis) != (self.url, self.settings.redis):
                await self._wait(settings, url, patience=RELOAD_PATIENCE)
            if (watch := self._watch_of(settings, own, services)) is not None:
                await watch.look(quiet=True)
            accounts = list(services.configured.values())
            found = difference(self.settings, read, self.accounts, accounts)
            contracts = self._changed_contracts(profiles, own)
            if not (found.changed or found.added or found.removed or contracts):
                _log(found, contracts)
                await stack.aclose()
                return None
            await self._check(services, settings, url)
            await self._log_in(services, self.accounts)
        except (RedisError, OSError) as error:
            await stack.aclose()
            raise RedisUnavailable(f"{hide_password(url)} cannot be used: {words_of(error)}") from None
        except BaseException:
            await stack.aclose()
            raise

        async def swap() -> None:
            await leave(self.services, found.removed)
            old, self._stack, self._next = self._stack, stack, AsyncExitStack()
            self.settings, self._own, self.url, self.services = settings, own, url, services
            self._profiles, self._watch = profiles, watch
            self._look()
            with suppress(RedisError, OSError):
                await old.aclose()
            if self._daemon is not None:
                self._daemon.grace = settings.grace_seconds
                self.serve(self._daemon)
            logs.configure(settings.log.format, settings.log.level)
            with suppress(RedisError, OSError):  # each pass of the retention declares them again
                await remember(services)
                for name in sample_of(services):
                    await services.accounts[name].retention.declare()
            _log(found, contracts)
            await self._record("SIGHUP", *found.changed, *contracts, *found.added, *found.removed)

        return swap

    async def _check(self, services: Services, settings: Settings, url: str) -> None:
        """Check what Redis has to permit, and that the state of the accounts comes from their gateways."""
        if (url, settings.redis) != (self.url, self.settings.redis):
            await check_usable(
                url, sample_of(services), queue=settings.redis.queue_url is None, space=services.keys
            )
            if settings.redis.queue_url:
                await check_usable(_queue_url(settings, url), (), queue=True, space=services.keys)
        await services.clock.sync()
        for name, account in services.configured.items():
            with suppress(SlotUnavailable):  # its polls check this as well
                await check_source(services.redis, services.keys.of(name), account.api)

    def _look(self) -> None:
        """Report on the services that are in force, and let their worker look for other accounts."""
        self._report = reporter(self.services)
        if self._watch is not None:
            self.services.look_for_accounts = self._look_for_accounts
        self._changes = Changes(self.services.redis, self.services.keys)
        last = {name: watch.last for name, watch in self._watches.items()}
        self._told = 0
        self._watches = {
            name: OperatorWatch(self.services.redis, self.services.keys.of(name), last[name])
            for name in self.services.configured
            if name in last
        }

    async def _look_for_accounts(self) -> None:
        """Take up the accounts that have changed. Those in Redis wait while the node that has them is away."""
        if self._watch is not None:
            with suppress(SlotUnavailable):
                await self._watch.look()

    def _watch_of(
        self, settings: Settings, own: Sequence[Account], services: Services
    ) -> AccountWatch | None:
        """Return what takes up changes of the accounts; None for the sandbox, whose account is its own."""
        if any(account.name == SANDBOX_ACCOUNT for account in own):
            return None
        return AccountWatch(settings, own, services, lambda: self._read()[1])

    async def _record(self, *command: str, outcome: str = DONE) -> None:
        """Write a reload into the operator log of every account."""
        for name in self.services.configured:
            try:
                await OperatorLog(self.services.redis, self.services.keys.of(name)).add(command, outcome)
            except (RedisError, OSError) as error:
                log = logs.get_logger(account=name)
                log.warning("operator_log_not_written", error=words_of(error))

    async def _open(
        self, stack: AsyncExitStack, settings: Settings, accounts: Sequence[Account], url: str
    ) -> Services:
        def read_accounts() -> Sequence[Account]:
            return self._read()[1]

        return await stack.enter_async_context(
            open_services(
                accounts,
                url,
                given_out=self._given_out,
                read_accounts=read_accounts,
                keys=settings.redis.keys,
                most_open=settings.accounts_open,
                places=settings.concurrency,
                known=KnownBytesPool(settings.known_megabytes),
            )
        )

    async def _wait(self, settings: Settings, url: str, *, patience: float | None) -> None:
        await _answers(url, "ORDERSYNC_REDIS__URL", self._clock, patience)
        await _answers(_queue_url(settings, url), _queue_setting(settings), self._clock, patience)

    async def _log_in(self, services: Services, old: Sequence[Account]) -> None:
        """Log in where that has changed. A gateway that cannot be reached is no reason to refuse a configuration.

        Of many accounts, those that the first polls do not show to be wrong.
        """
        before = {account.name: account.api for account in old}
        changed = [name for name, each in services.configured.items() if each.api != before.get(name)]
        for name, error in (await log_in(services, changed[:FEW_ACCOUNTS])).items():
            if isinstance(error, LoginRejected):
                raise SettingsError(f"Account {name}: {error}") from None
            if not isinstance(error, OrderMeshError):
                raise error
            logs.get_logger(account=name).error(
                "login_failed",
                error=str(error),
                error_code=error.code,
                advice="The worker retries the login. If `error` names a setting, correct it and send SIGHUP.",
            )

    def _changed_contracts(
        self, profiles: Mapping[Path | None, ContractProfile], accounts: Sequence[Account]
    ) -> list[str]:
        """Return the settings that name a contract file with other content than before."""
        changed = {
            file for file in profiles if file in self._profiles and profiles[file] != self._profiles[file]
        }
        before = {account.name: account.contract_file for account in self._own}
        names = [
            account.name
            for account in accounts
            if account.contract_file in changed and account.contract_file == before.get(account.name)
        ]
        if self.settings.accounts_file is None:
            return ["ORDERSYNC_CONTRACT_FILE"] if names or (changed and not accounts) else []
        return [f"accounts.{name}.contract_file" for name in names]


def _profiles_of(accounts: Sequence[Account]) -> dict[Path | None, ContractProfile]:
    """Return the contracts of the accounts, by their files."""
    return {file: contract_of(file).profile for file in {each.contract_file for each in accounts}}


def sample_of(services: Services) -> list[str]:
    """Return the names of the accounts, the first ones of many: what is the same for all is looked at there."""
    return list(services.configured)[:FEW_ACCOUNTS]


def _log(found: Difference, contracts: list[str]) -> None:
    needs = f"Restart the worker for {', '.join(found.fixed)}." if found.fixed else ""
    logs.get_logger().info(
        "configuration_reloaded",
        changed=[*found.changed, *contracts],
        added=list(found.added),
        removed=list(found.removed),
        advice=needs,
    )


async def _answers(url: str, setting: str, clock: SystemClock, patience: float | None) -> None:
    client = connect(url)
    try:
        await wait_until_up(client, url, clock, patience=patience, setting=setting)
    finally:
        await client.aclose()


def _queue_url(settings: Settings, url: str) -> str:
    queue = settings.redis.queue_address or url
    check_queue_address(queue)
    return queue


def _queue_setting(settings: Settings) -> str:
    return "ORDERSYNC_REDIS__QUEUE_URL" if settings.redis.queue_url else "ORDERSYNC_REDIS__URL"
