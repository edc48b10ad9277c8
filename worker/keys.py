"""The names of every key in Redis. Keys of one account share a hash tag, so that one script may touch them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "ordersync:"
QUEUE_PREFIX = "ordersync:queue:"
"""What the names of arq's queues start with; arq's own keys (`arq:job:...`) stand beside them."""
RESYNC_QUEUE = f"{QUEUE_PREFIX}resync"
"""The queue of resyncs, for the workers of all accounts: another program may put one there (see `jobs/resync.py`)."""
ACCOUNTS = "ordersync:accounts"
"""Set of the names of all accounts that a worker has worked for."""


def queue_name(accounts: Iterable[str]) -> str:
    """The queue of all workers that serve these accounts: none takes a job that it cannot do.

    Workers with other accounts, as in a deploy that adds one, have another queue. Where both serve an account
    it is the lease that keeps them apart.
    """
    return QUEUE_PREFIX + hashlib.sha256("\n".join(sorted(accounts)).encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one account: `ordersync:{account}:...`."""

    account: str

    @property
    def base(self) -> str:
        """What every key of the account starts with."""
        return f"{PREFIX}{{{self.account}}}:"

    @property
    def layout(self) -> str:
        """The version of this key layout."""
        return f"{self.base}layout"

    @property
    def token(self) -> str:
        """The access token that all workers of the account share."""
        return f"{self.base}token"

    @property
    def token_lock(self) -> str:
        """Held by the one worker that is logging in."""
        return f"{self.base}token:lock"

    @property
    def budget(self) -> str:
        """The request budget that all workers of the account share."""
        return f"{self.base}budget"

    @property
    def runs(self) -> str:
        """Stream of run records."""
        return f"{self.base}runs"

    @property
    def paused(self) -> str:
        """What somebody has paused: hash of a resource, or `*` for all of them, and who, when and why."""
        return f"{self.base}paused"

    @property
    def contract(self) -> str:
        """What the probe has found of each resource."""
        return f"{self.base}contract"

    def worker(self, worker_id: str) -> str:
        """Heartbeat of one worker; it expires soon after its last one."""
        return f"{self.base}worker:{worker_id}"

    @property
    def workers(self) -> str:
        """The names of the workers that have given a sign of life lately, and when."""
        return f"{self.base}workers"

    def stream(self, resource: str) -> str:
        """The events of a resource."""
        return f"{self.base}stream:{resource}"

    def dead(self, resource: str) -> str:
        """Records and events that could not be dealt with, with the reason."""
        return f"{self.base}dead:{resource}"

    def states(self, resource: str) -> str:
        """What is kept of each record; followed by `:` and the number of the bucket."""
        return f"{self.base}seen:{resource}"

    def last_published(self, resource: str) -> str:
        """The record last published of each, where it is kept; followed by `:` and the number of the bucket."""
        return f"{self.base}last:{resource}"

    def nested_ids(self, resource: str) -> str:
        """Ids of what stands within each record, where it has logs of its own; followed by `:` and the bucket."""
        return f"{self.base}within:{resource}"

    def fields(self, resource: str) -> str:
        """Names of the top-level fields of a resource, in the order in which they were first seen."""
        return f"{self.base}fields:{resource}"

    def cursor(self, resource: str) -> str:
        """Where the next poll starts, and how the last ones went."""
        return f"{self.base}cursor:{resource}"

    def refresh_queue(self, resource: str) -> str:
        """What of a resource, or which of its audit logs, is to be read by id, and since when."""
        return f"{self.base}due:{resource}"

    def refresh_failures(self, resource: str) -> str:
        """How often the reads failed of what is due."""
        return f"{self.base}tries:{resource}"

    def unconfirmed_deletes(self, resource: str) -> str:
        """Records that a complete read did not show, and how often they were answered not to be there."""
        return f"{self.base}absent:{resource}"

    @property
    def accepted(self) -> str:
        """Resources of which the next complete read may find any number of records deleted, and who said so."""
        return f"{self.base}accepted"

    def resync(self, name: str) -> str:
        """One resync: what was asked for, and how far it has come."""
        return f"{self.base}resync:{name}"

    @property
    def resyncs(self) -> str:
        """Ids of the resyncs that are remembered, by the time they were asked for."""
        return f"{self.base}resyncs"

    @property
    def open_resyncs(self) -> str:
        """Ids of the resyncs that are not over."""
        return f"{self.base}resyncs:open"

    def open(self, resource: str) -> str:
        """The records of a resource that the last read of open ones has shown."""
        return f"{self.base}open:{resource}"

    def scan_bitmap(self, resource: str) -> str:
        """Which records the complete read under way has seen: a bit at the place of each."""
        return f"{self.base}shown:{resource}"

    def reconcile(self, resource: str) -> str:
        """Up to when a resource is proven complete, and how far the pass under way has come."""
        return f"{self.base}reconcile:{resource}"

    def gaps(self, resource: str) -> str:
        """Records of which the audit log tells what is not known to be published, and since when."""
        return f"{self.base}gaps:{resource}"

    def coverage(self, resource: str) -> str:
        """Stream of the passes that have compared audit logs with what was published, and what each has found."""
        return f"{self.base}coverage:{resource}"

    def lease(self, resource: str) -> str:
        """Who may commit, until when, with which fencing number."""
        return f"{self.base}lease:{resource}"

    def replayed(self, resource: str, group: str) -> str:
        """Ids of the entries that were put back for a group, until it has acknowledged them."""
        return f"{self.base}replayed:{resource}:{group}"

    def consumer_lock(self, resource: str, group: str, consumer: str) -> str:
        """Which process consumes under that name, so that a second one is noticed."""
        return f"{self.base}holder:{resource}:{group}:{consumer}"

    def processed(self, group: str, event_id: str) -> str:
        """Says that a group has dealt with an event."""
        return f"{self.base}once:{group}:{event_id}"
