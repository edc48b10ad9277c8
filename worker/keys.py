"""The names of all keys in Redis. They begin with a prefix, `ordersync:` if the settings do not name another.

The keys of an account share a hash tag, so that one script can use several. arq's own keys (`arq:job:...`) do not have
the prefix.
"""

from __future__ import annotations

import hashlib

import msgspec

from ordersync_consumer import keys as consumer_keys
from ordersync_consumer.keys import PREFIX

__all__ = [
    "PREFIX",
    "KeySpace",
    "Keys",
]


class KeySpace(msgspec.Struct, frozen=True):
    """The keys with one prefix: those that accounts share, and those of each account."""

    prefix: str = PREFIX

    @property
    def accounts(self) -> str:
        """Set of the names of all accounts that a worker has served."""
        return f"{self.prefix}accounts"

    @property
    def account_rows(self) -> str:
        """Hash of the accounts that `ordersync accounts` manages; `*revision` counts the changes."""
        return f"{self.prefix}accounts:config"

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

    def lane(self, name: str) -> str:
        """The schedule of a class of work: a sorted set of jobs by due time, for the workers of all accounts.

        Its name does not depend on the accounts, which come and go; see `jobs/schedule.py`.
        """
        return f"{self.queues}{name}"

    @property
    def planned(self) -> str:
        """Sorted set with one member while all accounts are in the schedule: it goes where the schedule goes."""
        return f"{self.queues}planned"

    def worker(self, worker_id: str) -> str:
        """When a worker was last alive, in seconds since 1970; it expires."""
        return f"{self.prefix}worker:{worker_id}"

    @property
    def changes(self) -> str:
        """Stream of the accounts that a person has changed, for the workers of all accounts."""
        return f"{self.prefix}changes"

    @property
    def clock(self) -> str:
        """Hash: the latest time of Redis that a worker has seen, and by how much it was put back in all."""
        return f"{self.prefix}clock"

    @property
    def kinds(self) -> dict[str, str]:
        """The keys that accounts share, except those of the queue, and the type of each."""
        return {self.accounts: "set", self.account_rows: "hash", self.changes: "stream", self.clock: "hash"}

    def of(self, account: str) -> Keys:
        """Return the keys of an account."""
        return Keys(account, self.prefix)

    def gateway(self, base_url: str, contract: str) -> GatewayKeys:
        """Return the keys of a gateway: of a base address, and a contract by its fingerprint."""
        name = hashlib.sha256(f"{base_url} {contract}".encode()).hexdigest()[:16]
        return GatewayKeys(f"{self.prefix}gateway:{name}:")


class GatewayKeys(msgspec.Struct, frozen=True):
    """The keys of what the accounts of a gateway share. They have no hash tag: each is used alone."""

    base: str

    @property
    def contract(self) -> str:
        """Hash of what probes found, by resource; it expires."""
        return f"{self.base}contract"

    def lease(self, resource: str) -> str:
        """Hash of the lease of the account that probes a resource for all."""
        return f"{self.base}lease:{resource}"


class Keys(consumer_keys.Keys, frozen=True):
    """The keys of one account: `ordersync:{account}:...`. Those that consumers use are defined in the consumer kit."""

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
    def put_back(self) -> str:
        """By how many seconds the due times were moved because the clock of Redis was put back.

        Versions of layout 2 have a time in `clock`, and fail with every tick if it is anything else.
        """
        return f"{self.base}put_back"

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
        """What a worker has last reported of the account; it expires."""
        return f"{self.base}worker:{worker_id}"

    @property
    def workers(self) -> str:
        """The names of the workers, by the time of their last report of the account."""
        return f"{self.base}workers"

    @property
    def expired_letters(self) -> str:
        """Hash: how many dead letters of a resource have expired, and when the last ones did, as `RESOURCE:at`."""
        return f"{self.base}expired"

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

    @property
    def retries(self) -> str:
        """Set of the parked records that the worker is asked to look at again: resource, a zero byte, packed id."""
        return f"{self.base}retries"

    def resync(self, name: str) -> str:
        """Hash of one resync: the request and its progress."""
        return f"{self.base}resync:{name}"

    def resync_shown(self, name: str) -> str:
        """Bitmap of the records that a forced resync of all records has published."""
        return f"{self.base}resync:{name}:shown"

    @property
    def operator_log(self) -> str:
        """Stream of what people have changed with commands."""
        return f"{self.base}operator_log"

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
        """Return the keys of a resource, except those of buckets and consumers, and the type of each."""
        return {
            self.stream(resource): "stream",
            self.dead(resource): "stream",
            self.last_published(resource): "string",
            self.fields(resource): "list",
            self.probe(resource): "list",
            self.stale(resource): "hash",
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

    def kinds_of_worker(self, worker_id: str) -> dict[str, str]:
        """Return the keys of a worker, and the type of each."""
        return {self.worker(worker_id): "string"}

    def kinds_of_resync(self, name: str) -> dict[str, str]:
        """Return the keys of a resync, and the type of each."""
        return {self.resync(name): "hash", self.resync_shown(name): "string"}

    def kinds_of_consumer(self, resource: str, group: str, consumer: str) -> dict[str, str]:
        """Return the keys of a consumer of a group and of the group, except the marks of events, and their types."""
        return {
            self.replayed(resource, group): "set",
            self.consumer_lock(resource, group, consumer): "string",
        }

    @property
    def kinds(self) -> dict[str, str]:
        """The keys of the account as a whole, and the type of each."""
        return {
            self.layout: "string",
            self.source: "string",
            self.token: "string",
            self.token_lock: "string",
            self.budget: "hash",
            self.put_back: "string",
            self.runs: "stream",
            self.operator_log: "stream",
            self.paused: "hash",
            self.contract: "hash",
            self.workers: "zset",
            self.accepted: "hash",
            self.retries: "set",
            self.expired_letters: "hash",
            self.resyncs: "zset",
            self.open_resyncs: "set",
            self.lease("reconcile"): "hash",
            self.lease("erase"): "hash",
        }
