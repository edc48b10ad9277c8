"""The names of all keys in Redis. They begin with a prefix, `ordersync:` if the settings do not name another.

The keys of an account share a hash tag, so that one script can use several.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "ordersync:"
"""The prefix of every key, if the settings do not name another. arq's own keys (`arq:job:...`) do not have it."""


@dataclass(frozen=True, slots=True)
class KeySpace:
    """The keys with one prefix: those that accounts share, and those of each account."""

    prefix: str = PREFIX

    @property
    def accounts(self) -> str:
        """Set of the names of all accounts that a worker has served."""
        return f"{self.prefix}accounts"

    @property
    def queues(self) -> str:
        """The prefix of the names of arq's queues."""
        return f"{self.prefix}queue:"

    @property
    def resync_queue(self) -> str:
        """The queue of resyncs, for the workers of all accounts.

        Other programs may enqueue a resync (see `jobs/resync.py`).
        """
        return f"{self.queues}resync"

    def queue(self, accounts: Iterable[str]) -> str:
        """Return the name of the queue of all workers that serve exactly these accounts, so that each can do every job.

        Workers with other accounts, such as those of a deployment that adds one, have another queue. If both serve an
        account, the lease keeps them from reading the same resource.
        """
        return self.queues + hashlib.sha256("\n".join(sorted(accounts)).encode()).hexdigest()[:8]

    def of(self, account: str) -> Keys:
        """Return the keys of an account."""
        return Keys(account, self.prefix)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one account: `ordersync:{account}:...`."""

    account: str
    prefix: str = PREFIX

    @property
    def base(self) -> str:
        """The prefix of every key of the account."""
        return f"{self.prefix}{{{self.account}}}:"

    @property
    def layout(self) -> str:
        """The version of this key layout."""
        return f"{self.base}layout"

    @property
    def source(self) -> str:
        """The address of the gateway that the events and states of the account come from."""
        return f"{self.base}source"

    @property
    def token(self) -> str:
        """The access token that all workers of the account share."""
        return f"{self.base}token"

    @property
    def token_lock(self) -> str:
        """Lock of the worker that logs in."""
        return f"{self.base}token:lock"

    @property
    def budget(self) -> str:
        """The request budget that all workers of the account share."""
        return f"{self.base}budget"

    @property
    def clock(self) -> str:
        """The latest time of Redis that a tick has seen, in seconds since 1970."""
        return f"{self.base}clock"

    @property
    def runs(self) -> str:
        """Stream of run records."""
        return f"{self.base}runs"

    @property
    def paused(self) -> str:
        """Hash of the paused resources, `*` for all of them, with who paused it, when and why."""
        return f"{self.base}paused"

    @property
    def contract(self) -> str:
        """Hash of what the probe found, by resource."""
        return f"{self.base}contract"

    def probe(self, resource: str) -> str:
        """List of the answers to a probe that is under way; it expires."""
        return f"{self.base}probe:{resource}"

    def worker(self, worker_id: str) -> str:
        """The last heartbeat of a worker; it expires."""
        return f"{self.base}worker:{worker_id}"

    @property
    def workers(self) -> str:
        """The names of the workers, by the time of their last heartbeat."""
        return f"{self.base}workers"

    def stream(self, resource: str) -> str:
        """Stream of the events of a resource."""
        return f"{self.base}stream:{resource}"

    def dead(self, resource: str) -> str:
        """Stream of the dead letters: records and events that could not be processed, with the reason."""
        return f"{self.base}dead:{resource}"

    def states(self, resource: str) -> str:
        """Hashes of the states of the records; `:` and the number of the bucket follow."""
        return f"{self.base}seen:{resource}"

    def last_published(self, resource: str) -> str:
        """Hashes of the records as last published, where they are kept; `:` and the number of the bucket follow."""
        return f"{self.base}last:{resource}"

    def nested_ids(self, resource: str) -> str:
        """Hashes of the ids of nested objects that have audit logs; `:` and the number of the bucket follow."""
        return f"{self.base}within:{resource}"

    def fields(self, resource: str) -> str:
        """The names of the top-level fields of a resource, in the order in which they were first seen."""
        return f"{self.base}fields:{resource}"

    def cursor(self, resource: str) -> str:
        """Where the next poll starts, and how the last ones went."""
        return f"{self.base}cursor:{resource}"

    def refresh_queue(self, resource: str) -> str:
        """The refresh queue: what is to be read by id, by due time."""
        return f"{self.base}due:{resource}"

    def refresh_failures(self, resource: str) -> str:
        """Hash of the failed reads of each entry of the refresh queue."""
        return f"{self.base}tries:{resource}"

    def cut_logs(self, resource: str) -> str:
        """Hash of the audit logs of which a part cannot be read, and why."""
        return f"{self.base}cut:{resource}"

    def unconfirmed_deletes(self, resource: str) -> str:
        """Hash of records missing from a full scan, and how often OrderMesh answered that they do not exist."""
        return f"{self.base}absent:{resource}"

    def stale(self, resource: str) -> str:
        """Hash of records that are shown with an older time than was published, and which read has shown them."""
        return f"{self.base}stale:{resource}"

    @property
    def accepted(self) -> str:
        """Hash of the resources whose next full scan may delete any number of records, with who accepted that."""
        return f"{self.base}accepted"

    def resync(self, name: str) -> str:
        """Hash of one resync: the request and its progress."""
        return f"{self.base}resync:{name}"

    def resync_shown(self, name: str) -> str:
        """Bitmap of the records that a forced resync of all records has published."""
        return f"{self.base}resync:{name}:shown"

    @property
    def resyncs(self) -> str:
        """The ids of the resyncs that are kept, by the time of the request."""
        return f"{self.base}resyncs"

    @property
    def open_resyncs(self) -> str:
        """The ids of the resyncs that have not ended."""
        return f"{self.base}resyncs:open"

    def open(self, resource: str) -> str:
        """Set of the records that the last read of open records showed."""
        return f"{self.base}open:{resource}"

    def scan_bitmap(self, resource: str) -> str:
        """Bitmap of the records that the current full scan has seen, by the place of each record."""
        return f"{self.base}shown:{resource}"

    def reconcile(self, resource: str) -> str:
        """Hash: until when a resource is proven complete, and the progress of the current pass."""
        return f"{self.base}reconcile:{resource}"

    def gaps(self, resource: str) -> str:
        """Hash of the gaps: records whose audit log lists changes that are not known to be published."""
        return f"{self.base}gaps:{resource}"

    def coverage(self, resource: str) -> str:
        """Stream of the reconciliation passes and what each found."""
        return f"{self.base}coverage:{resource}"

    def lease(self, resource: str) -> str:
        """Hash of the lease: its owner, expiry and fencing number."""
        return f"{self.base}lease:{resource}"

    def kinds_of(self, resource: str) -> dict[str, str]:
        """Return the keys of a resource, except those of buckets, groups and consumers, and the type of each."""
        return {
            self.stream(resource): "stream",
            self.dead(resource): "stream",
            self.last_published(resource): "string",
            self.fields(resource): "list",
            self.cursor(resource): "hash",
            self.refresh_queue(resource): "zset",
            self.refresh_failures(resource): "hash",
            self.cut_logs(resource): "hash",
            self.unconfirmed_deletes(resource): "hash",
            self.open(resource): "set",
            self.scan_bitmap(resource): "string",
            self.reconcile(resource): "hash",
            self.gaps(resource): "hash",
            self.coverage(resource): "stream",
            self.lease(resource): "hash",
        }

    def bucket_prefixes(self, resource: str) -> tuple[str, ...]:
        """Return the prefixes of the hashes that are spread over buckets; `:` and the number of the bucket follow."""
        return self.states(resource), self.last_published(resource), self.nested_ids(resource)

    @property
    def kinds(self) -> dict[str, str]:
        """The keys of the account as a whole, except those of workers and resyncs, and the type of each."""
        return {
            self.layout: "string",
            self.source: "string",
            self.token: "string",
            self.token_lock: "string",
            self.budget: "hash",
            f"{self.budget}:sharing": "zset",
            self.runs: "stream",
            self.paused: "hash",
            self.contract: "hash",
            self.workers: "zset",
            self.accepted: "hash",
            self.resyncs: "zset",
            self.open_resyncs: "set",
            self.lease("reconcile"): "hash",
        }

    def replayed(self, resource: str, group: str) -> str:
        """The ids of entries that are replayed for a group, until it acknowledges them."""
        return f"{self.base}replayed:{resource}:{group}"

    def consumer_lock(self, resource: str, group: str, consumer: str) -> str:
        """The process that consumes under a name, so that a second one with this name is detected."""
        return f"{self.base}holder:{resource}:{group}:{consumer}"

    def processed(self, group: str, event_id: str) -> str:
        """Marks an event as processed by a group."""
        return f"{self.base}once:{group}:{event_id}"
