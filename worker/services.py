"""The services that jobs work with: handed to arq once, and found in the context of every job."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from worker.config.sections import ConcurrencySettings
from worker.keys import KeySpace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from redis.asyncio import Redis

    from ordersync_consumer.groups import Groups
    from worker.capture.poll import Poller
    from worker.capture.probe.registry import CapabilityRegistry
    from worker.capture.reconcile.reconciler import Reconciler
    from worker.capture.resync.runner import ResyncRunner
    from worker.capture.state.given_out import GivenOut
    from worker.capture.state.pauses import Pause
    from worker.clock import SharedClock
    from worker.config.sections import Account
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.queue.retention import Retention


@dataclass(frozen=True, slots=True, weakref_slot=True)
class AccountServices:
    """The services of one account that this worker serves."""

    account: Account
    keys: Keys
    client: OrderMeshClient
    poller: Poller
    resyncer: ResyncRunner
    reconciler: Reconciler
    capabilities: CapabilityRegistry
    groups: Groups
    retention: Retention

    @property
    def remembers(self) -> bool:
        """True if this process knows of a failure that Redis does not: it decides what the next poll does."""
        return bool(
            self.poller.unrecorded
            or self.capabilities.withdrawals.has_failures
            or self.client.tokens.is_refused
        )


class NotServed(KeyError):
    """This worker does not serve the account."""


@dataclass(frozen=True, slots=True)
class AccountChanges:
    """The names of the accounts that were added, removed and changed."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class OpenAccounts(Mapping[str, AccountServices]):
    """The services of the configured accounts, built when they are asked for.

    The services of at most `most` accounts are kept; those of the account that was asked for least recently are dropped
    first. Whoever works with services keeps them: meanwhile they are the ones that everybody gets.

    Args:
        configured: The accounts by name.
        build: Returns the services of an account.
        most: Accounts whose services are kept.
    """

    def __init__(
        self,
        configured: Mapping[str, Account],
        build: Callable[[Account], AccountServices],
        most: int,
    ) -> None:
        self.configured, self._build, self._most = configured, build, most
        self._kept = OrderedDict[str, AccountServices]()
        self._built = WeakValueDictionary[str, AccountServices]()

    def configure(self, accounts: Iterable[Account]) -> AccountChanges:
        """Serve these accounts from now on. Those that stay as they are keep their services."""
        before = self.configured
        after = {account.name: account for account in accounts}
        changed = [name for name, account in after.items() if name in before and before[name] != account]
        self.configured = {
            name: account if name in changed or name not in before else before[name]
            for name, account in after.items()
        }
        for name in [name for name in self._kept if name not in after]:
            del self._kept[name]
        return AccountChanges(
            added=tuple(name for name in after if name not in before),
            removed=tuple(name for name in before if name not in after),
            changed=tuple(changed),
        )

    def __getitem__(self, name: str) -> AccountServices:
        account = self.configured.get(name)
        if account is None:
            raise NotServed(name)
        services = self._built.get(name)
        if services is None or services.account is not account:
            self._built[name] = services = self._build(account)
        self._kept[name] = services
        self._kept.move_to_end(name)
        if len(self._kept) > self._most:
            self._drop_one()
        return services

    def _drop_one(self) -> None:
        """Drop the services of the account that was asked for least recently, unless they remember a failure."""
        for name in self._kept:
            if not self._kept[name].remembers:
                del self._kept[name]
                return

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.configured))

    def items(self) -> Any:
        """Yield the accounts one after another; one that is removed meanwhile is left out."""
        for name in self:
            if name in self.configured:
                yield name, self[name]

    def values(self) -> Any:
        """Return the services one after another; those of an account that is removed meanwhile are left out."""
        return (services for _, services in self.items())

    def __len__(self) -> int:
        return len(self.configured)

    @property
    def built(self) -> list[AccountServices]:
        """The services that exist at the moment."""
        return list(self._built.values())


async def _no_others() -> None:
    """Take up nothing: the accounts stay as they are."""


@dataclass(slots=True)
class Services:
    """The services that all jobs share, and what they have published so far.

    `accounts`: those that this worker serves. To iterate over its values builds the services of each; to iterate over
    `configured` does not. `stopping()` is true once the worker was asked to end.
    """

    redis: Redis
    accounts: Mapping[str, AccountServices]
    clock: SharedClock
    given_out: GivenOut
    keys: KeySpace = field(default_factory=KeySpace)
    stopping: Callable[[], bool] = field(default=lambda: False)
    paused: dict[str, dict[str, Pause]] = field(default_factory=dict)
    """The pauses of each account as it was planned last, by resource."""
    places: ConcurrencySettings = field(default_factory=ConcurrencySettings)
    """How many jobs of each lane run at the same time in this process."""
    touched: set[str] = field(default_factory=set)
    """Accounts of which a poll has just failed, or has recovered: the next heartbeats look at them first."""
    unwell: set[str] = field(default_factory=set)
    """Accounts of which a resource is not well, as the heartbeat has found."""
    look_for_accounts: Callable[[], Awaitable[object]] = field(default=_no_others)
    """Takes up the accounts that were added or changed, if there are any."""
    away: dict[str, str] = field(default_factory=dict)
    """Accounts whose part of a cluster does not answer, and why: their jobs wait."""
    withdrawn: set[tuple[str, str]] = field(default_factory=set)
    """Accounts and resources of which the log says that jobs are dropped, since they are no longer polled."""

    def account(self, name: str) -> AccountServices | None:
        """Return the services of an account, built if necessary; None if this worker does not serve it."""
        return self.accounts.get(name)

    @property
    def configured(self) -> Mapping[str, Account]:
        """The settings of the accounts that this worker serves, by name."""
        if isinstance(self.accounts, OpenAccounts):
            return self.accounts.configured
        return {name: services.account for name, services in self.accounts.items()}


def services_of(ctx: Mapping[Any, Any]) -> Services:
    """Return the services from the context that arq passes to a job."""
    return cast("Services", ctx["services"])
