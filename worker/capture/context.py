"""What the reads of an account share, and how one of its sources is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from worker.capture.fairness import LoopShare
from worker.capture.lanes import phase_of
from worker.capture.records.history import History
from worker.capture.records.payload import PayloadOptions, payload_of
from worker.capture.records.raw_records import MAX_RECORD, are_too_long, fingerprints, observe
from worker.capture.records.scope import EVERYTHING, scope_of
from worker.capture.registry import AUDIT_LOGS
from worker.capture.resources import AuditLog, FollowUp, Resource
from worker.capture.state.given_out import GivenOut
from worker.capture.state.known_bytes import KnownBytesPool
from worker.capture.state.pauses import Pauses
from worker.telemetry.log import Repeats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.capture.probe.registry import CapabilityRegistry
    from worker.capture.records.fingerprint import FieldSet
    from worker.capture.records.privacy import RecordPolicy
    from worker.capture.records.raw_records import RawRecord
    from worker.capture.records.scope import RecordScope
    from worker.capture.resources import Captured
    from worker.clock import SharedClock
    from worker.config.sections import Account
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.queue.backpressure import Backpressure

HELD_BACK_SECONDS = 600.0
"""Between two log lines about the same deletions that are held back."""
MAX_SCAN_PAGES = 100_000
"""Most pages of a scan, if the settings do not say otherwise."""


@dataclass(slots=True)
class AccountContext:
    """What all reads of one account share: its settings, the services they use, and what was given out so far."""

    account: Account
    redis: Redis
    client: OrderMeshClient
    capabilities: CapabilityRegistry
    backpressure: Backpressure
    clock: SharedClock
    worker_id: str
    given_out: GivenOut = field(default_factory=GivenOut)
    known: KnownBytesPool = field(default_factory=KnownBytesPool)
    held_back: Repeats = field(init=False, default_factory=partial(Repeats, HELD_BACK_SECONDS))
    keys: Keys = field(init=False)
    pauses: Pauses = field(init=False)
    loop_share: LoopShare = field(init=False)
    _payloads: dict[str, PayloadOptions] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.keys = self.account.keys.of(self.account.name)
        self.pauses = Pauses(self.redis, self.keys)
        self.loop_share = LoopShare(self.clock)

    def payload(self, name: str) -> PayloadOptions:
        """Return how records of a source go into events."""
        if name not in self._payloads:
            self._payloads[name] = payload_of(
                name, self.account.privacy, self.account.events, self.account.name
            )
        return self._payloads[name]

    def scope(self, source: Captured) -> RecordScope:
        """Return which records of a source are published."""
        if isinstance(source, AuditLog):
            return EVERYTHING
        interest = self.account.interest
        return scope_of(
            source,
            merchants=interest.merchants,
            statuses=interest.statuses.get(source.name, ()),
            final=interest.final_statuses.get(source.name, ()),
        )

    def follow_ups(self, resource: Resource) -> tuple[FollowUp, ...]:
        """Return the reads that a change of a record adds: none of what is not polled."""
        account = self.account
        with_past = account.audit_history == "all"
        return tuple(
            msgspec.structs.replace(item, snapshots=with_past and item.target in AUDIT_LOGS)
            for item in resource.follow_ups
            if item.target in account.intervals
        )

    def options(self, source: Captured) -> ReadOptions:
        """Return how a source is read."""
        account, name, privacy = self.account, source.name, self.payload(source.name).privacy
        ignored = frozenset(account.ignore_fields.get(name, ()))
        return ReadOptions(
            resource=source.parent if isinstance(source, AuditLog) else source,
            scope=self.scope(source),
            page_size=account.api.page_size,
            window=account.api.max_concurrency,
            interval=account.intervals.get(name, 0.0),
            phase=phase_of(account.name, name),
            ignored=privacy.hidden_with(ignored) if privacy else ignored,
            confirm_after=account.confirm_deletes,
            max_record_bytes=account.api.max_record_bytes,
            max_scan_pages=account.api.max_scan_pages,
            privacy=privacy,
            history=History(since=account.since, silent=account.snapshot == "silent"),
        )


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a source is read, whoever reads it.

    `resource`: the list that is read, or that the audit log belongs to. `interval`: seconds between two polls; `phase`:
    at which part of it they are due (`lanes.next_poll`). `scope`: which of its records are published.
    `single`: it was seen that a single record can be read by its id; `single_alike`: it then has the fields that the
    list shows. `confirm_after`: seconds between the two answers that a record does not exist, after which it is
    deleted. `history`: which records of the past are not published.
    """

    resource: Resource
    scope: RecordScope
    page_size: int
    window: int
    interval: float
    ignored: FieldSet
    confirm_after: float
    phase: float | None = None
    single: bool = False
    single_alike: bool = True
    privacy: RecordPolicy | None = None
    history: History = History()  # noqa: RUF009 - immutable
    max_record_bytes: int = MAX_RECORD
    max_scan_pages: int = MAX_SCAN_PAGES

    def observe(
        self, records: Sequence[msgspec.Raw], *, contents: bool = False, raws: Sequence[bytes] | None = None
    ) -> list[RawRecord]:
        """Return records of the list, as served, with their ids and fingerprints; see `raw_records.observe`."""
        most, ignored = self.max_record_bytes, self.ignored
        return observe(self.resource, records, self.scope, most, ignored, contents=contents, raws=raws)

    def fingerprints(self, records: Sequence[msgspec.Raw]) -> list[bytes] | None:
        """Return the fingerprints of records, as `observe` does; None if one of them is too long to be read."""
        if are_too_long(records, self.max_record_bytes):
            return None
        return fingerprints(records, self.scope, self.ignored)
