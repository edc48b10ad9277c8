"""The services that jobs work with: handed to arq once, and found in the context of every job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from worker.keys import KeySpace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.asyncio import Redis

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
    from ordersync_consumer.groups import Groups


@dataclass(frozen=True, slots=True)
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


@dataclass(slots=True)
class Services:
    """The services that all jobs share, and what they have published so far.

    `stopping()` is true once the worker was asked to end.
    """

    redis: Redis
    accounts: Mapping[str, AccountServices]
    clock: SharedClock
    given_out: GivenOut
    keys: KeySpace = field(default_factory=KeySpace)
    stopping: Callable[[], bool] = field(default=lambda: False)
    paused: dict[str, dict[str, Pause]] = field(default_factory=dict)
    """The pauses of each account as of the last tick, by resource."""
    withdrawn: set[tuple[str, str]] = field(default_factory=set)
    """Accounts and resources of which the log says that jobs are dropped, since they are no longer polled."""

    @property
    def queue(self) -> str:
        """The name of the arq queue of these accounts."""
        return self.keys.queue(self.accounts)


def services_of(ctx: Mapping[Any, Any]) -> Services:
    """Return the services from the context that arq passes to a job."""
    return cast("Services", ctx["services"])
