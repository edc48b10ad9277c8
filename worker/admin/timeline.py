"""Collect the timeline of one order from the streams, their groups, the dead letters, and OrderMesh."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from worker.admin.timeline_entries import (
    TimelineEntry,
    content_key,
    decoded,
    missing_versions,
    of_audit,
    of_event,
    of_letter,
)
from worker.capture.records.fingerprint import RecordState, bucket_of, pack_id
from worker.clock import parse_time, rfc3339
from worker.config.resources import RESOURCES
from worker.errors import ApiError, NotFound, OrderMeshError, OrdersyncError
from ordersync_consumer.dead import DeadLetters
from ordersync_consumer.groups import RESERVED_PREFIX, Groups
from worker.queue.search import EventSearch
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from redis.asyncio import Redis

    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.http.reply import AuditReply
    from ordersync_consumer.envelope import Event
    from ordersync_consumer.groups import Group

NAMES = ("id", "shortId", "safeId", "externalId")
"""Fields that may identify an order."""
SKEW_SECONDS = 3600.0
"""Events published longer than this before the creation of the order are not searched. Clocks may differ."""
MAX_AUDIT_LOGS = 40
"""Maximum number of audit logs that are read from OrderMesh, with one request each."""


class NoSuchOrder(OrdersyncError):
    """No order with this name is known."""

    code = "no_such_order"


@dataclass(slots=True)
class Related:
    """Ids of the records that belong to an order."""

    order: str
    items: set[str] = field(default_factory=set)
    shipments: set[str] = field(default_factory=set)
    packages: set[tuple[str, str]] = field(default_factory=set)
    """Pairs of shipment and package."""
    notes: set[str] = field(default_factory=set)

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


@dataclass(slots=True)
class Timeline:
    """The timeline of an order. `remarks` say what was not searched, and why."""

    order: dict[str, Any]
    entries: list[TimelineEntry]
    remarks: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return the timeline as it appears in JSON."""
        return {
            "order": self.order,
            "moments": [moment.as_json() for moment in self.entries],
            "remarks": self.remarks,
        }


class TimelineCollector:
    """Collects the timeline of one order.

    Args:
        redis: The client.
        keys: The keys of the account.
        api: The client of OrderMesh; None to search Redis only.
        limit: Maximum number of events to search in each stream.
        now: The current time (seconds since 1970).

    """

    def __init__(
        self, redis: Redis, keys: Keys, api: OrderMeshClient | None, *, limit: int, now: float
    ) -> None:
        self._redis, self._keys, self._api, self._limit, self._now = redis, keys, api, limit, now
        self._finder, self._groups = EventSearch(redis), Groups(redis, keys)
        self.remarks: list[str] = []
        self._events: list[tuple[str, Event]] = []
        self._record: dict[str, Any] = {}

    async def collect(self, name: str) -> Timeline:
        """Return the timeline of the order with this id, shortId, safeId or externalId.

        Raises:
            NoSuchOrder: No such order is known.

        """
        related = Related(await self._order_id(name))
        await self._find_events(related)
        audit = [item async for item in self._audit_logs(related)] if self._api else []
        moments = [item async for item in self._moments(related)]
        recorded = {content_key(event.data) for _, event in self._events if event.action == "recorded"}
        moments += [entry for key, entry in audit if key not in recorded]
        moments.sort(key=lambda moment: moment.at)
        order = {key: self._record.get(key) for key in (*NAMES, "status")} | {"id": related.order}
        return Timeline(order, moments, self.remarks)

    # Identifying the order

    async def _order_id(self, name: str) -> str:
        if await self._version("orders", name):
            return name
        result = await self._ask_for(name) or await self._look_for(name)
        if result is None:
            elsewhere = "OrderMesh does not know it either" if self._api else "OrderMesh was not asked"
            raise NoSuchOrder(
                f"No published order of account {self._keys.account} has the id, shortId, safeId or externalId "
                f"{name!r}; {elsewhere}. {' '.join(self.remarks)}".rstrip()
            )
        return result

    async def _version(self, resource: str, subject: str) -> int:
        """Return the version that was published last; 0 for an unknown record."""
        buckets = int(await answer(self._redis.hget(self._keys.cursor(resource), "buckets")) or 0)
        if not buckets:
            return 0
        key = pack_id(subject)
        bucket = f"{self._keys.states(resource)}:{bucket_of(key, buckets)}"
        # redis-py types an id as text, and takes bytes as well.
        packed: Any = await answer(self._redis.hget(bucket, cast("str", key)))
        try:
            return RecordState.unpack(packed).version if packed else 0
        except (TypeError, ValueError):
            return 1

    async def _ask_for(self, name: str) -> str | None:
        """Find the order in OrderMesh; return its id. A record is accepted only if it contains the name."""
        if self._api is None:
            return None
        orders = self._api.orders
        lookups: list[Callable[[], Awaitable[list[Any]]]] = [
            lambda: _one(orders.get(name)),
            lambda: _one(orders.get_by_safe_id(name)),
            lambda: _many(orders.search(short_id=name)),
            lambda: _many(orders.search(external_id=name)),
        ]
        if name.startswith("O"):
            lookups.insert(0, lookups.pop(2))
        for lookup in lookups:
            for record in await self._call(lookup, []):
                if isinstance(record, dict) and name in _names_of(record):
                    self._record = record
                    return str(record.get("id", ""))
        return None

    async def _call(self, lookup: Callable[[], Awaitable[Any]], default: Any) -> Any:
        """Call OrderMesh; return `default` on an error. If OrderMesh is unreachable, it is not called again."""
        try:
            return await lookup()
        except ApiError:
            return default
        except OrderMeshError as error:
            if self._api is not None:
                self.remarks.append(f"Nothing more was read from OrderMesh after an error: {error}")
            self._api = None
            return default

    async def _look_for(self, name: str) -> str | None:
        """Find the order in the published events; return its id."""
        result = await self._finder.search(
            self._keys.stream("orders"), {name}, {f'"{name}"'}, limit=self._limit, newest=True
        )
        for event in reversed(result.events):
            record = decoded(event.data)
            if isinstance(record, dict) and name in _names_of(record):
                return event.subject
        if result.cut_short:
            self.remarks.append(
                f"Only the last {result.looked_at} events of orders were searched (--scan), back to "
                f"{rfc3339(result.back_to)}."
            )
        return None

    # Published events

    async def _find_events(self, related: Related) -> None:
        since = await self._find_orders(related)
        for resource in ("shipments", "order_items", "notes"):
            await self._find_in(resource, related, since, related.texts)
        for resource in RESOURCES:
            if resource.endswith("_audit") and related.subjects(resource):
                await self._find_in(resource, related, since, ())

    async def _find_orders(self, related: Related) -> float:
        """Find the events of the order itself; return the time from which other events are searched."""
        await self._find_in("orders", related, 0.0, ())
        if self._events:
            record = decoded(self._events[-1][1].data)
            self._record = record if isinstance(record, dict) else self._record
            for _, event in self._events:
                related.learn("orders", event.subject, decoded(event.data))
        else:
            related.learn("orders", related.order, self._record)
        await self._remark_missing("orders", related.order)
        created = parse_time(self._record.get("createdAt"))
        return created / 1000 - SKEW_SECONDS if created else 0.0

    async def _remark_missing(self, resource: str, subject: str) -> None:
        """Add a remark with the versions whose events were not found."""
        newest = await self._version(resource, subject)
        kept = {event.version for name, event in self._events if name == resource}
        gone = missing_versions(newest, kept)
        if gone:
            which = (
                f"Version {gone[0]} of the order was"
                if len(gone) == 1
                else f"Versions {gone[0]} to {gone[-1]} of the order were"
            )
            self.remarks.append(
                f"{which} published but not found: retention has removed the events, or --scan is too small."
            )

    async def _find_in(self, resource: str, related: Related, since: float, texts: Iterable[str]) -> None:
        subjects, requested = related.subjects(resource), set(texts)
        if not subjects and not requested:
            return
        result = await self._finder.search(
            self._keys.stream(resource), subjects, requested, since=since, limit=self._limit
        )
        if result.cut_short:
            self.remarks.append(
                f"Only the last {result.looked_at} events of {resource} were searched (--scan), back to "
                f"{rfc3339(result.back_to)}."
            )
        for event in result.events:
            related.learn(resource, event.subject, decoded(event.data))
            self._events.append((resource, event))

    # Deliveries

    async def _moments(self, related: Related) -> Any:
        groups = {
            resource: (await self._groups.status(resource)).groups
            for resource in dict.fromkeys(resource for resource, _ in self._events)
        }
        letters = DeadLetters(self._redis, self._keys)
        buried: dict[tuple[str, str], str] = {}
        for resource in RESOURCES:
            for subject in related.subjects(resource):
                async for letter in letters.each(resource, subject=subject):
                    buried[letter.group, letter.where] = letter.letter_id
                    yield of_letter(letter)
        for resource, event in self._events:
            states = {}
            for group in groups[resource]:
                state = await self._delivery(
                    resource, event, group, buried.get((group.name, event.entry_id), "")
                )
                states[group.name] = state
                if state["state"] == "pending" and not state["consumer"].startswith(RESERVED_PREFIX):
                    at = self._now - state["idle_s"]
                    message = f"v{event.version} {event.action} delivered to {group.name} ({state['told']})"
                    facts = {"group": group.name, "entry": event.entry_id, "consumer": state["consumer"]}
                    yield TimelineEntry(at, "delivery", resource, event.subject, message, facts)
            yield of_event(event, resource, states)

    async def _delivery(self, resource: str, event: Event, group: Group, letter: str) -> dict[str, Any]:
        """Return the state of an event in a group, as far as Redis shows it."""
        entry = event.entry_id
        if letter:
            return {"state": "dead", "told": f"dead letter {letter}", "letter": letter}
        if _sort_key(entry) > _sort_key(group.delivered):
            return {"state": "unread", "told": "not read yet"}
        pending: list[Any] = []
        if group.pending:
            pending = await self._redis.xpending_range(
                self._keys.stream(resource), group.name, min=entry, max=entry, count=1
            )
        if not pending:
            return {"state": "acknowledged", "told": "acknowledged"}
        consumer, times = pending[0]["consumer"].decode("utf-8", "replace"), pending[0]["times_delivered"]
        idle = pending[0]["time_since_delivered"] / 1000
        if consumer.startswith(RESERVED_PREFIX):
            message = "waiting for a consumer"
        else:
            message = f"pending at {consumer} for {idle:.0f} s, attempt {times}"
        return {
            "state": "pending",
            "told": message,
            "consumer": consumer,
            "tries": times,
            "idle_s": round(idle, 1),
        }

    # Audit logs in OrderMesh

    async def _audit_logs(self, related: Related) -> Any:
        """Yield the entries of the audit logs of the order and its related records, each with its content key."""
        logs = _logs_of(related, self._api) if self._api else iter(())
        for count, (resource, subject, call) in enumerate(logs):
            if self._api is None:
                return
            if count == MAX_AUDIT_LOGS:
                self.remarks.append(f"Only the first {MAX_AUDIT_LOGS} audit logs were read.")
                return
            reply = await self._read_log(resource, call)
            for entry in reply.entries if reply else ():
                yield content_key(entry.raw), of_audit(entry, resource, subject)

    async def _read_log(self, resource: str, call: Callable[[], Awaitable[AuditReply]]) -> AuditReply | None:
        try:
            return await call()
        except NotFound:
            return None
        except OrderMeshError as error:
            self.remarks.append(f"The {resource} could not be read from OrderMesh: {error}")
            if not isinstance(error, ApiError):
                self._api = None
            return None


def _logs_of(
    related: Related, api: OrderMeshClient
) -> Iterator[tuple[str, str, Callable[[], Awaitable[AuditReply]]]]:
    """Yield the audit logs that may exist, the most informative first."""
    yield "order_audit", related.order, partial(api.orders.audit_logs, related.order)
    for item in sorted(related.shipments):
        yield "shipment_audit", item, partial(api.shipments.audit_logs, item)
        yield "message_audit", item, partial(api.shipments.message_audit_logs, item)
    for item in sorted(related.notes):
        yield "note_audit", item, partial(api.notes.audit_logs, item)
    for shipment, package in sorted(related.packages):
        yield "package_audit", package, partial(api.packages.audit_logs, shipment, package)
    for item in sorted(related.items):
        yield "order_item_audit", item, partial(api.order_items.audit_logs, item)


async def _one(call: Awaitable[Any]) -> list[Any]:
    return [(await call).fields]


async def _many(call: Awaitable[Any]) -> list[Any]:
    values: list[Any] = (await call).values
    return values


def _names_of(record: dict[str, Any]) -> set[str]:
    return {str(record[name]) for name in NAMES if record.get(name) not in (None, "")}


def _ids(records: Any) -> list[str]:
    return [str(item["id"]) for item in records or () if isinstance(item, dict) and item.get("id")]


def _sort_key(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number or 0)
