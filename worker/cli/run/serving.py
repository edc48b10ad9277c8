"""The configuration in force and the services built from it, both of which SIGHUP replaces while the daemon runs."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from jobs.worker import make_worker
from worker.admin.redis_acl import check_usable
from worker.app import leave, open_services
from worker.reporting import remember, reporter, worker_id
from worker.capture.state.source import check_source
from worker.config.difference import difference, with_fixed
from worker.config.settings import hide_password
from worker.errors import LoginRejected, OrderMeshError, RedisUnavailable, SettingsError
from worker.redis.connections import connect, wait_until_up
from worker.telemetry import log as logs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobs.worker import Workers
    from worker.capture.state.given_out import GivenOut
    from worker.clock import SystemClock
    from worker.config.difference import Difference
    from worker.config.sections import Account
    from worker.config.settings import Settings
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
        self.settings, self.accounts = configuration
        self.url = url
        self._read, self._given_out, self._clock = read, given_out, clock
        self._stack, self._next = AsyncExitStack(), AsyncExitStack()
        self._daemon: Daemon | None = None

    async def __aenter__(self) -> Self:
        self.services = await self._open(self._stack, self.accounts, self.url)
        self._report = reporter(self.services)
        return self

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
        """Return the health of the resources, for the heartbeat."""
        return await self._report()

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
        read, listed = self._read()
        settings = with_fixed(self.settings, read)
        accounts = [replace(account, keys=settings.redis.keys) for account in listed]
        found = difference(self.settings, read, self.accounts, accounts)
        url = settings.redis.address or self.url
        logs.redaction.add(urlsplit(url).password)
        await self._next.aclose()
        self._next = stack = AsyncExitStack()
        try:
            services = await self._open(stack, accounts, url)
            contracts = self._changed_contracts(services, accounts)
            if not (found.changed or found.added or found.removed or contracts):
                _log(found, contracts)
                await stack.aclose()
                return None
            if (url, settings.redis) != (self.url, self.settings.redis):
                await self._wait(settings, url, patience=RELOAD_PATIENCE)
                await check_usable(
                    url, services.accounts, queue=settings.redis.queue_url is None, space=services.keys
                )
                if settings.redis.queue_url:
                    await check_usable(_queue_url(settings, url), (), queue=True, space=services.keys)
            await services.clock.sync()
            for account in services.accounts.values():
                await check_source(services.redis, account.keys, account.account.api)
            await self._log_in(services)
        except (RedisError, OSError) as error:
            await stack.aclose()
            raise RedisUnavailable(f"{hide_password(url)} cannot be used: {error}") from None
        except BaseException:
            await stack.aclose()
            raise

        async def swap() -> None:
            await leave(self.services, found.removed)
            old, self._stack, self._next = self._stack, stack, AsyncExitStack()
            self.settings, self.accounts, self.url, self.services = settings, accounts, url, services
            self._report = reporter(services)
            with suppress(RedisError, OSError):
                await old.aclose()
            if self._daemon is not None:
                self._daemon.grace = settings.grace_seconds
                self.serve(self._daemon)
            logs.configure(settings.log.format, settings.log.level)
            with suppress(RedisError, OSError):  # each pass of the retention declares them again
                await remember(services)
                for account in services.accounts.values():
                    await account.retention.declare()
            _log(found, contracts)

        return swap

    async def _open(self, stack: AsyncExitStack, accounts: Sequence[Account], url: str) -> Services:
        def read_accounts() -> Sequence[Account]:
            return self._read()[1]

        return await stack.enter_async_context(
            open_services(accounts, url, given_out=self._given_out, read_accounts=read_accounts)
        )

    async def _wait(self, settings: Settings, url: str, *, patience: float | None) -> None:
        await _answers(url, "ORDERSYNC_REDIS__URL", self._clock, patience)
        await _answers(_queue_url(settings, url), _queue_setting(settings), self._clock, patience)

    async def _log_in(self, services: Services) -> None:
        """Log in where that has changed. A gateway that cannot be reached is no reason to refuse a configuration."""
        before = {account.name: account.api for account in self.accounts}
        for name, account in services.accounts.items():
            if account.account.api == before.get(name):
                continue
            try:
                await account.client.tokens.get()
            except LoginRejected as error:
                raise SettingsError(f"Account {name}: {error}") from None
            except OrderMeshError as error:
                logs.get_logger(account=name).error(
                    "login_failed",
                    error=str(error),
                    error_code=error.code,
                    advice="The worker retries the login. If `error` names a setting, correct it and send SIGHUP.",
                )

    def _changed_contracts(self, services: Services, accounts: Sequence[Account]) -> list[str]:
        """Return the settings that name a contract file with other content than before."""
        before = {account.name: account.contract_file for account in self.accounts}
        changed = [
            account.name
            for account in accounts
            if account.contract_file is not None
            and account.contract_file == before.get(account.name)
            and services.accounts[account.name].capabilities.configured
            != self.services.accounts[account.name].capabilities.configured
        ]
        if self.settings.accounts_file is None:
            return ["ORDERSYNC_CONTRACT_FILE"] if changed else []
        return [f"accounts.{name}.contract_file" for name in changed]


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
    logs.redaction.add(urlsplit(queue).password)
    return queue


def _queue_setting(settings: Settings) -> str:
    return "ORDERSYNC_REDIS__QUEUE_URL" if settings.redis.queue_url else "ORDERSYNC_REDIS__URL"
