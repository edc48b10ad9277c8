"""Collect the timeline of one order from the streams, their groups, the dead letters, and OrderMesh."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from ordersync_consumer.dead import parse as parse_letter
from ordersync_consumer.groups import RESERVED_PREFIX, Groups
from ordersync_consumer.redaction import words_of
from worker.admin.timeline_entries import (
    TimelineEntry,
    content_key,
    decoded,
    entry_order,
    of_audit,
    of_event,
    of_letter,
)
from worker.admin.timeline_search import OrderEvents, Related
from worker.clock import rfc3339
from worker.config.resources import RESOURCES
from worker.errors import ApiError, NotFound, OrderMeshError, OrdersyncError
from worker.queue.search import EventSearch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator

    from redis.asyncio import Redis

    from ordersync_consumer.dead import DeadLetter
    from ordersync_consumer.envelope import Event
    from ordersync_consumer.groups import Group
    from worker.capture.records.privacy import RecordPolicy
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.http.reply import AuditEntry, AuditReply

_Reply = TypeVar("_Reply")

NAMES = ("id", "shortId", "safeId", "externalId")
"""Fields that may identify an order."""
SCAN = 1000
"""Newest events of a stream that are scanned at most for what nothing leads to: some milliseconds of Redis."""
_UNKNOWN = frozenset({400, 404, 410, 422})
"""Statuses with which OrderMesh says that it has no such order."""
MAX_AUDIT_LOGS = 40
"""Maximum number of audit logs that are read from OrderMesh, with one request each."""


class NoSuchOrder(OrdersyncError):
    """No order with this name is known."""

    code = "no_such_order"


class Timeline(msgspec.Struct):
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
        scan: Maximum number of events to scan in each stream, newest first, for what nothing leads to: the order, if
            OrderMesh does not say which id its name has; records that refer to it; events without links.
        now: The current time (seconds since 1970).
        policy: Returns the privacy policy of a resource. It is applied to all that is read from OrderMesh.

    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        api: OrderMeshClient | None,
        *,
        scan: int = SCAN,
        now: float,
        policy: Callable[[str], RecordPolicy | None] = lambda _: None,
    ) -> None:
        self._policy = policy
        self._redis, self._keys, self._api, self._scan, self._now = redis, keys, api, scan, now
        self._groups, self._search = Groups(redis, keys), EventSearch(redis)
        self._found = OrderEvents(redis, keys, scan=scan)
        self._events, self.remarks = self._found.events, self._found.remarks
        self._asked, self._refusal = api is not None, ""
        self._record: dict[str, Any] = {}

    async def collect(self, name: str) -> Timeline:
        """Return the timeline of the order with this id, shortId, safeId or externalId.

        Raises:
            NoSuchOrder: No such order is known.

        """
        related = Related(await self._order_id(name))
        published = await self._found.find_order(related)
        self._record = published or self._record
        related.learn("orders", related.order, self._record)
        await self._found.find_related(related, self._record, listed=await self._list_parts(related))
        audit = [item async for item in self._audit_logs(related)] if self._api else []
        moments = [item async for item in self._moments(related)]
        recorded = {content_key(event.data) for _, event in self._events if event.action == "recorded"}
        moments += [entry for key, entry in audit if key not in recorded]
        moments.sort(key=lambda moment: moment.at)
        order = {key: self._record.get(key) for key in (*NAMES, "status")} | {"id": related.order}
        return Timeline(order, moments, self.remarks)

    # Identifying the order

    async def _order_id(self, name: str) -> str:
        if await self._found.is_known("orders", name):
            return name
        result = await self._ask_for(name) or await self._look_for(name)
        if result is None:
            elsewhere = "OrderMesh does not know it either" if self._asked else "OrderMesh was not asked"
            if self._refusal:
                elsewhere = f"OrderMesh was asked and did not say whether it knows it ({self._refusal})"
            raise NoSuchOrder(
                f"No published order of account {self._keys.account} has the id, shortId, safeId or externalId "
                f"{name!r}; {elsewhere}. {' '.join(self.remarks)}".rstrip()
            )
        return result

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
                    self._record = self._published_order(record)
                    return str(record.get("id", ""))
        return None

    def _published_order(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return an order as the privacy policy lets it be shown."""
        policy = self._policy("orders")
        return decoded(policy.publish(msgspec.json.encode(record))) if policy else record

    async def _call(self, lookup: Callable[[], Awaitable[Any]], default: Any) -> Any:
        """Call OrderMesh; return `default` on an error. If OrderMesh is unreachable, it is not called again."""
        try:
            return await lookup()
        except ApiError as error:
            if error.status not in _UNKNOWN:
                self._refusal = words_of(error).rstrip(".")
            return default
        except OrderMeshError as error:
            self._refusal = "it did not answer"
            if self._api is not None:
                self.remarks.append(f"Nothing more was read from OrderMesh after an error: {words_of(error)}")
            self._api = None
            return default

    async def _look_for(self, name: str) -> str | None:
        """Find the order in the published events; return its id."""
        result = await self._search.search(
            self._keys.stream("orders"), {name}, {f'"{name}"'}, limit=self._scan, newest=True
        )
        for event in reversed(result.events):
            record = decoded(event.data)
            if isinstance(record, dict) and name in _names_of(record):
                return event.subject
        if result.cut_short:
            self.remarks.append(
                f"Only the last {result.looked_at} events of orders were searched (--scan), back to "
                f"{rfc3339(result.back_to)}. Pass the id of the order{self._other_ways(name)}, or search more of them "
                "with --scan NUMBER."
            )
        return None

    def _other_ways(self, name: str) -> str:
        """Return how else to find an order that OrderMesh was not asked for, as words behind "Pass its id"."""
        if self._asked:
            return ""
        command = f"ordersync timeline {shlex.quote(name)}"
        return f", let `{command}` ask OrderMesh for it, with a login and without --offline"

    async def _list_parts(self, related: Related) -> set[str]:
        """Add the shipments and notes of the order that OrderMesh lists; return the resources that need no scan.

        The items of an order are in its record. A note that was deleted is not listed, but has events.
        """
        listed = {"order_items"} if related.items else set()
        if self._api and await self._found.is_read("shipments"):
            shipments = await self._read("shipments", partial(self._api.shipments.for_order, related.order))
            if shipments is not None:
                listed.add("shipments")
                related.shipments |= set(_ids_of(shipments.values))
        if self._api and await self._found.is_read("notes"):
            search = partial(self._api.notes.search, resource_id=related.order)
            notes = await self._read("notes", search)
            # The filter is not documented, so OrderMesh may ignore it.
            own = (note for note in (notes.values if notes else ()) if related.order in _values_of(note))
            related.notes |= set(_ids_of(own))
        return listed

    # Deliveries

    async def _letters(self, resource: str, subjects: Collection[str]) -> AsyncIterator[DeadLetter]:
        """Yield the dead letters of these records, newest first."""
        if subjects:
            async for entry_id, fields in self._search.entries(self._keys.dead(resource), subjects):
                yield parse_letter(resource, entry_id.decode(), fields)

    async def _moments(self, related: Related) -> Any:
        groups = {
            resource: (await self._groups.status(resource, of_groups=True)).groups
            for resource in dict.fromkeys(resource for resource, _ in self._events)
        }
        buried: dict[tuple[str, str], str] = {}
        for resource in RESOURCES:
            async for letter in self._letters(resource, related.subjects(resource)):
                buried.setdefault((letter.group, letter.where), letter.letter_id)
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
        if entry_order(entry) > entry_order(group.delivered):
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
            reply = await self._read(resource, call)
            policy = self._policy(resource)
            for entry in reply.entries if reply else ():
                shown = _published(entry, policy) if policy else entry
                yield content_key(shown.raw), of_audit(shown, resource, subject)

    async def _read(self, resource: str, call: Callable[[], Awaitable[_Reply]]) -> _Reply | None:
        """Return an answer of OrderMesh; None, with a remark, if it gives none."""
        try:
            return await call()
        except NotFound:
            return None
        except OrderMeshError as error:
            self.remarks.append(f"The {resource} could not be read from OrderMesh: {words_of(error)}")
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


def _published(entry: AuditEntry, policy: RecordPolicy) -> AuditEntry:
    """Return an entry of an audit log as the privacy policy lets it be shown."""
    # Whoever has read an entry from OrderMesh has imported these; a search in Redis alone does without.
    from worker.capture.records.audit import published_entry  # noqa: PLC0415 - see above
    from worker.capture.records.raw_records import MAX_RECORD  # noqa: PLC0415 - see above
    from worker.ordermesh.http.reply import entry_of  # noqa: PLC0415 - see above

    return entry_of(published_entry(entry.raw, policy, MAX_RECORD))


async def _one(call: Awaitable[Any]) -> list[Any]:
    return [(await call).fields]


async def _many(call: Awaitable[Any]) -> list[Any]:
    values: list[Any] = (await call).values
    return values


def _names_of(record: dict[str, Any]) -> set[str]:
    return {str(record[name]) for name in NAMES if record.get(name) not in (None, "")}


def _ids_of(records: Iterable[Any]) -> Iterator[str]:
    return (str(record["id"]) for record in records if isinstance(record, dict) and record.get("id"))


def _values_of(record: Any) -> set[str]:
    """Return the texts in a record and in the objects in it."""
    values = list(record.values()) if isinstance(record, dict) else []
    inner = [item for value in values if isinstance(value, dict) for item in value.values()]
    return {value for value in (*values, *inner) if isinstance(value, str)}
