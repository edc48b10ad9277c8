"""Find the published events of one order, its items, shipments and notes in the streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from worker.admin.timeline_entries import SECOND_GENERATION, decoded, entry_order, missing_versions
from worker.capture.records.fingerprint import RecordState, bucket_of, pack_id
from worker.clock import parse_time, rfc3339
from worker.config.resources import RESOURCES
from worker.queue.search import Chain, ChainEnd, EventSearch
from worker.redis.connections import answer
from worker.redis.stored import number_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from redis.asyncio import Redis

    from ordersync_consumer.envelope import Event
    from worker.keys import Keys

SKEW_SECONDS = 3600.0
"""Events published longer than this before the creation of the order are not searched. Clocks may differ."""
_REASONS = {
    ChainEnd.COMPLETE: "an erasure has removed the events",
    ChainEnd.TRIMMED: "retention has removed the events",
    ChainEnd.MISSING: "the events were removed from the stream",
    ChainEnd.UNLINKED: "the events were removed from the stream",
}
"""Why events of a record are not there, by where its links end."""
_CUT_SHORT = "retention has removed the events, or --scan is too small"
_PARTS = ("shipments", "order_items", "notes")
"""Resources whose records belong to an order."""


class Related(msgspec.Struct):
    """Ids of the records that belong to an order."""

    order: str
    items: set[str] = msgspec.field(default_factory=set)
    shipments: set[str] = msgspec.field(default_factory=set)
    packages: set[tuple[str, str]] = msgspec.field(default_factory=set)
    """Pairs of shipment and package."""
    notes: set[str] = msgspec.field(default_factory=set)

    @property
    def texts(self) -> set[str]:
        """The quoted ids by which another record refers to the order, its items or its shipments."""
        return {f'"{item}"' for item in (self.order, *self.items, *self.shipments)}

    def learn(self, resource: str, subject: str, record: Any) -> None:
        """Add the ids in a record of the order, or in a record that refers to it."""
        if not isinstance(record, dict):
            record = {}
        if resource == "orders":
            self.items |= set(_ids(record.get("items")))
            self.shipments |= {str(item) for item in record.get("shipmentIds") or () if item}
        elif resource == "shipments":
            self.shipments.add(subject)
            self.packages |= {(subject, package) for package in _ids(record.get("packages"))}
        elif resource == "notes":
            self.notes.add(subject)
        elif resource == "order_items":
            self.items.add(subject)

    def subjects(self, resource: str) -> set[str]:
        """Return the subjects of the order's events in the stream of a resource."""
        return {
            "orders": {self.order},
            "order_items": self.items,
            "shipments": self.shipments,
            "notes": self.notes,
            "order_audit": {self.order},
            "order_item_audit": self.items,
            "shipment_audit": self.shipments,
            "message_audit": self.shipments,
            "package_audit": {package for _, package in self.packages},
            "note_audit": self.notes,
        }.get(resource, set())


class OrderEvents:
    """Finds the events of an order, of what belongs to it, and of their audit logs.

    The events of a record are found by their links. Only records that no event of the order names are searched for in
    the records themselves.

    Args:
        redis: The client.
        keys: The keys of the account.
        scan: Maximum number of events to scan in a stream for records that refer to the order, and for events without
            links.

    """

    def __init__(self, redis: Redis, keys: Keys, *, scan: int) -> None:
        self._redis, self._keys, self._scan = redis, keys, scan
        self._search = EventSearch(redis)
        self._buckets: dict[str, int] = {}
        self._generations: dict[str, int] = {}
        self._sought: set[tuple[str, str]] = set()
        self.events: list[tuple[str, Event]] = []
        """The events that were found, with their resource."""
        self.remarks: list[str] = []
        """What was not searched or found, and why."""

    async def is_known(self, resource: str, subject: str) -> bool:
        """Return whether an event of this record was published."""
        version, _ = await self._state(resource, subject)
        return version > 0

    async def is_read(self, resource: str) -> bool:
        """Return whether a resource was read, so that it has events."""
        return await self._buckets_of(resource) > 0

    async def _buckets_of(self, resource: str) -> int:
        if resource not in self._buckets:
            stored: Any = await answer(
                self._redis.hmget(self._keys.cursor(resource), ["buckets", "generation"])
            )
            self._buckets[resource], self._generations[resource] = (int(number_of(value)) for value in stored)
        return self._buckets[resource]

    async def _state(self, resource: str, subject: str) -> tuple[int, int]:
        """Return the version that was published last and the sequence of its event; 0 for unknown."""
        buckets = await self._buckets_of(resource)
        if buckets <= 0:
            return 0, 0
        key = pack_id(subject)
        bucket = f"{self._keys.states(resource)}:{bucket_of(key, buckets)}"
        # redis-py types an id as text, and takes bytes as well.
        packed: Any = await answer(self._redis.hget(bucket, cast("str", key)))
        try:
            state = RecordState.unpack(packed) if packed else None
        except (TypeError, ValueError):
            return 1, 0
        return (state.version, state.last_event) if state else (0, 0)

    async def find_order(self, related: Related) -> dict[str, Any]:
        """Find the events of the order itself; return the order as its last event shows it, {} for none."""
        await self._find("orders", related)
        own = [event for _, event in self.events]
        record = decoded(own[-1].data) if own else None
        return record if isinstance(record, dict) else {}

    async def find_related(
        self, related: Related, record: dict[str, Any], *, listed: Collection[str] = ()
    ) -> None:
        """Find the events of all that belongs to the order.

        Args:
            related: What is known to belong to it.
            record: The order, which says when it was created.
            listed: Resources of which `related` has all records of the order.

        """
        created = parse_time(record.get("createdAt"))
        since = created / 1000 - SKEW_SECONDS if created else 0.0
        for resource in _PARTS:
            await self._find(resource, related)
            if resource not in listed:
                await self._find_mentions(resource, related, since)
                await self._find(resource, related)
        for resource in RESOURCES:
            if resource.endswith("_audit"):
                await self._find(resource, related)

    async def _find(self, resource: str, related: Related) -> None:
        """Find the events of the known records of a resource that were not sought yet."""
        versions, chains, unlinked = dict[str, int](), dict[str, Chain](), dict[str, str]()
        for subject in sorted(related.subjects(resource)):
            if (resource, subject) in self._sought:
                continue
            self._sought.add((resource, subject))
            version, last_event = await self._state(resource, subject)
            if not version and await self.is_read(resource):
                continue
            versions[subject] = version
            chain = await self._follow(resource, subject, last_event)
            chains[subject] = chain
            if chain.end in {ChainEnd.MISSING, ChainEnd.UNLINKED}:
                unlinked[subject] = chain.events[0].entry_id if chain.events else ""
        further, cut_short = await self._scan_for(resource, unlinked) if unlinked else ({}, False)
        for subject, version in versions.items():
            events = [*further.get(subject, ()), *chains[subject].events]
            for event in events:
                related.learn(resource, subject, decoded(event.data))
                self.events.append((resource, event))
            reason = _REASONS[chains[subject].end] if not (subject in unlinked and cut_short) else _CUT_SHORT
            gone = missing_versions(version, {event.version for event in events})
            if events and events[0].version >= SECOND_GENERATION:
                self._remark_earlier(resource, subject, chains[subject].end)
            self._remark_missing(_named(resource, subject), gone, reason)

    async def _follow(self, resource: str, subject: str, last_event: int) -> Chain:
        """Return the events of a record that its links lead to; none if its state has no link."""
        if not last_event:
            return Chain((), ChainEnd.UNLINKED)
        return await self._search.follow(self._keys.stream(resource), subject, last_event)

    async def _scan_for(self, resource: str, unlinked: dict[str, str]) -> tuple[dict[str, list[Event]], bool]:
        """Scan a stream once for the events of some records; also return whether the scan ended before older events.

        Args:
            resource: The resource.
            unlinked: The records, each with the oldest entry that its links lead to; "" for none.

        """
        before = "" if "" in unlinked.values() else max(unlinked.values(), key=entry_order)
        result = await self._search.search(
            self._keys.stream(resource), unlinked, before=before, limit=self._scan
        )
        if result.cut_short:
            self._remark_cut(resource, result.looked_at, result.back_to)
        found: dict[str, list[Event]] = {subject: [] for subject in unlinked}
        for event in result.events:
            oldest = unlinked[event.subject]
            if not oldest or entry_order(event.entry_id) < entry_order(oldest):
                found[event.subject].append(event)
        return found, result.cut_short

    async def _find_mentions(self, resource: str, related: Related, since: float) -> None:
        """Look for records of a resource that refer to the order; `related` learns their ids."""
        texts, known = related.texts, related.subjects(resource)
        result = await self._search.search(
            self._keys.stream(resource), (), texts, since=since, limit=self._scan
        )
        for event in result.events:
            related.learn(resource, event.subject, decoded(event.data))
        if result.cut_short:
            self._remark_cut(resource, result.looked_at, result.back_to, named=bool(known))

    def _remark_cut(self, resource: str, looked_at: int, back_to: float, *, named: bool = False) -> None:
        other = "further " if named else ""
        what = f" for {other}{resource} of the order" if resource in _PARTS else ""
        remark = (
            f"Only the last {looked_at} events of {resource} were searched (--scan){what}, back to "
            f"{rfc3339(back_to)}."
        )
        if remark not in self.remarks:
            self.remarks.append(remark)

    def _remark_earlier(self, resource: str, subject: str, end: ChainEnd) -> None:
        """Add a remark that events from before the oldest one may be gone: its version does not tell."""
        if end is ChainEnd.TRIMMED:
            remark = f"Earlier versions of {_named(resource, subject)} are gone: {_REASONS[end]}."
        elif end is not ChainEnd.COMPLETE:
            lost = rfc3339(self._generations.get(resource, 0) / 1000)
            remark = f"Redis lost data of {resource} before {lost}: earlier events may have existed."
        else:
            return
        if remark not in self.remarks:
            self.remarks.append(remark)

    def _remark_missing(self, what: str, gone: Collection[int], reason: str) -> None:
        """Add a remark with the versions of a record whose events were not found."""
        if not gone:
            return
        first, last = min(gone), max(gone)
        which = (
            f"Version {first} of {what} was"
            if first == last
            else f"Versions {first} to {last} of {what} were"
        )
        self.remarks.append(f"{which} published but not found: {reason}.")


def _named(resource: str, subject: str) -> str:
    return "the order" if resource == "orders" else f"{subject} ({resource})"


def _ids(records: Any) -> list[str]:
    return [str(item["id"]) for item in records or () if isinstance(item, dict) and item.get("id")]
