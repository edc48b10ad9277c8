"""Erase records and what belongs to them, for a person's request to be forgotten; and say what remains elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import redis.exceptions

from ordersync_consumer.servers.cluster import at
from worker.admin.erase_report import ErasedResource, ErasureReport
from worker.admin.timeline_entries import decoded
from worker.admin.timeline_search import Related
from worker.capture.erasure import Eraser, Remains
from worker.capture.registry import CAPTURED, RESOURCES
from worker.capture.resync.requests import OVER, Resyncs
from worker.config.sections import NO_REPLICAS
from worker.errors import NotFound, OrderMeshError, OrdersyncError
from worker.queue.search import EventSearch
from worker.redis.connections import answer
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from worker.capture.resources import Captured
    from worker.capture.state.lease import Lease
    from worker.clock import SharedClock
    from worker.config.sections import Replicas
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient

ORDER = tuple(reversed(CAPTURED))
"""The resources in the order in which they are erased: the records that name others come last, so that a command that
was interrupted finds the rest when it is run again."""
_AT_ONCE = 500

Scope = dict[str, dict[str, tuple[str, ...]]]
"""What is erased: for each resource the ids, with the path of each in the refresh queue."""


class NothingToErase(OrdersyncError):
    """Redis knows nothing of the records."""

    code = "nothing_to_erase"


class Erasing:
    """Erases records of one account.

    Args:
        client: The client.
        keys: The keys of the account.
        api: The client of OrderMesh, which is asked what belongs to an order; None to ask Redis alone.
        clock: The clock of Redis.
        owner: A name that is unique to this object.
        replicas: How many replicas must have everything before the records are said to be erased: what a failover
            brings back is personal data.

    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        api: OrderMeshClient | None,
        clock: SharedClock,
        owner: str,
        *,
        replicas: Replicas = NO_REPLICAS,
    ) -> None:
        client = at(client, keys.base)
        self._redis, self._keys, self._api, self._replicas = client, keys, api, replicas
        self._eraser, self._search = Eraser(client, keys, clock, owner), EventSearch(client)
        self.remarks: list[str] = []

    # What belongs to the records

    async def scope(self, resource: str, identifiers: Sequence[str]) -> Scope:
        """Return these records of a resource, and everything that belongs to them."""
        scope: Scope = {}
        if not await self._eraser.was_read(CAPTURED[resource]):
            self.remarks.append(
                f"No worker has read {resource} of this account yet, so no record there can be marked: the first read "
                "publishes it. Run this command again after that."
            )
        for identifier in identifiers:
            related = Related(identifier)
            if resource == "orders":
                await self._relate_order(related)
            else:
                related.order = ""
                _add(related, resource, identifier)
                await self._relate_packages(related)
            for name in CAPTURED:
                own = {identifier} if name in {resource, *_logs_of(resource)} else set[str]()
                for subject in (related.subjects(name) | own) - {""}:
                    scope.setdefault(name, {})[subject] = (subject,)
            for shipment, package in related.packages:
                scope.setdefault("package_audit", {})[package] = (shipment, package)
        return scope

    async def _relate_order(self, related: Related) -> None:
        """Find the items, shipments, packages and notes of an order."""
        await self._ask(related)
        size = -1
        while size != (size := _size(related)):
            for name in ("orders", "shipments", "order_items", "notes"):
                stream, texts = self._keys.stream(name), related.texts if name != "orders" else set[str]()
                found = await self._search.search(stream, related.subjects(name), texts, limit=1 << 62)
                for event in found.events:
                    related.learn(name, event.subject, decoded(event.data))
            await self._relate_packages(related)

    async def _relate_packages(self, related: Related) -> None:
        """Add the packages of the shipments, which Redis knows for as long as it knows the shipments."""
        for shipment in related.shipments:
            for package in await self._eraser.nested(RESOURCES["shipments"], shipment):
                related.packages.add((shipment, package))

    async def _ask(self, related: Related) -> None:
        """Ask OrderMesh what belongs to an order: events of it may be gone from the streams for long."""
        if self._api is None:
            return
        try:
            order = await self._api.orders.get(related.order)
            related.learn("orders", related.order, order.fields)
            for shipment in (await self._api.shipments.for_order(related.order)).values:
                if isinstance(shipment, dict) and shipment.get("id"):
                    related.learn("shipments", str(shipment["id"]), shipment)
            for subject in (related.order, *related.items, *related.shipments):
                for note in (await self._api.notes.search(resource_id=subject)).values:
                    # A server may ignore the filter, and list the notes of others.
                    if isinstance(note, dict) and note.get("id") and f'"{subject}"' in json.dumps(note):
                        related.notes.add(str(note["id"]))
        except NotFound:
            return
        except OrderMeshError as error:
            self.remarks.append(
                f"OrderMesh could not be asked what belongs to {related.order}: {error}. What the streams no "
                "longer name may be left; run the command again."
            )

    # Erasing

    async def preview(self, scope: Scope, identifiers: Sequence[str]) -> ErasureReport:
        """Return what would be erased. Nothing is written."""
        report = ErasureReport(remarks=self.remarks)
        for name in _in_order(scope):
            remains = await self._eraser.remains(CAPTURED[name], scope[name])
            report.resources.append(_counted(name, scope, remains))
        await self._describe(report, scope)
        named = await self._records_naming(identifiers)
        report.runs, report.resyncs, report.probes = (len(items) for items in named)
        return report

    async def is_known(self, scope: Scope) -> bool:
        """Return True if Redis knows one of the records."""
        for name in scope:
            if (await self._eraser.remains(CAPTURED[name], scope[name])).is_known:
                return True
        return False

    async def erase(self, scope: Scope, identifiers: Sequence[str]) -> ErasureReport:
        """Erase the records. What was done when this is interrupted is done; call it again to go on.

        Raises:
            LeaseHeld: Another command erases records of the account.
            LeaseLost: Another command has taken over.
            ConnectionError: Too few replicas have what was written.

        """
        report = ErasureReport(remarks=self.remarks)
        await self._describe(report, scope)
        async with self._eraser.lease() as lease:
            for name in _in_order(scope):
                report.resources.append(await self._erase(lease, CAPTURED[name], scope[name]))
            await self._erase_records_naming(identifiers, report)
            if self._replicas.count:
                await lease.confirm(self._redis, self._replicas)
                await self._check_erased(scope)
        get_logger(account=self._keys.account).info(
            "records_erased",
            records=sum(len(each.records) for each in report.resources),
            events=sum(each.events for each in report.resources),
            letters=sum(each.dead_letters for each in report.resources),
        )
        return report

    async def _check_erased(self, scope: Scope) -> None:
        """Check that the server which the replicas follow now has erased the records.

        Raises:
            ConnectionError: A failover has brought some of them back meanwhile.

        """
        for name in _in_order(scope):
            remains = await self._eraser.remains(CAPTURED[name], scope[name])
            if remains.unmarked or remains.events or remains.letters:
                raise redis.exceptions.ConnectionError(
                    f"a failover of Redis has brought back {name} that this command had erased; run it again"
                )

    async def _erase_records_naming(self, identifiers: Sequence[str], report: ErasureReport) -> None:
        """Erase the records of runs, resyncs and probes that name one of the ids."""
        runs, resyncs, probes = await self._records_naming(identifiers)
        if runs:
            report.runs = int(await answer(self._redis.xdel(self._keys.runs, *runs)))
        for resync in resyncs:
            await answer(self._redis.unlink(self._keys.resync(resync), self._keys.resync_shown(resync)))
            report.resyncs += int(await answer(self._redis.zrem(self._keys.resyncs, resync)))
        if probes:
            report.probes = int(await answer(self._redis.unlink(*probes)))

    async def forget(self, scope: Scope) -> int:
        """Take away the marks, so that the records are published again when they are read next. Return how many."""
        unmarked = 0
        async with self._eraser.lease() as lease:
            for name in _in_order(scope):
                unmarked += await self._eraser.unmark(lease, CAPTURED[name], scope[name])
        return unmarked

    async def _erase(
        self, lease: Lease, captured: Captured, paths: Mapping[str, tuple[str, ...]]
    ) -> ErasedResource:
        marked = await self._eraser.mark(lease, captured, paths)
        events, letters = await self._eraser.purge(captured, paths)
        return ErasedResource(captured.name, tuple(paths), marked, events, letters)

    async def _describe(self, report: ErasureReport, scope: Scope) -> None:
        """Name the groups that may have copies."""
        groups = set[str]()
        for name in scope:
            stream = self._keys.stream(name)
            if await answer(self._redis.exists(stream)):
                groups |= {
                    group["name"].decode("utf-8", "replace")
                    for group in await self._redis.xinfo_groups(stream)
                }
        report.groups = tuple(sorted(groups))

    async def _records_naming(self, identifiers: Sequence[str]) -> tuple[list[bytes], list[str], list[str]]:
        """Return the run records, resyncs that are over, and journals of probes that contain one of the ids."""
        texts = [identifier.encode() for identifier in identifiers]

        def names(values: Any) -> bool:
            return any(text in value for value in values for text in texts)

        runs, after = list[bytes](), "-"
        while True:
            entries = await self._redis.xrange(self._keys.runs, after, "+", count=_AT_ONCE)
            runs += [entry_id for entry_id, fields in entries if names(fields.values())]
            if len(entries) < _AT_ONCE:
                break
            after = f"({entries[-1][0].decode()}"
        resyncs = list[str]()
        for resync in await Resyncs(self._redis, self._keys).all():
            if names([json.dumps(resync.request.ids).encode()]):
                if resync.state in OVER:
                    resyncs.append(resync.id)
                else:
                    self.remarks.append(
                        f"Resync {resync.id} names one of the ids, and is not over. Run `ordersync resyncs cancel "
                        f"{resync.id}`, and then this command again."
                    )
        probes = [
            key
            for key in map(self._keys.probe, RESOURCES)
            if names(await answer(cast("Any", self._redis.lrange(key, 0, -1))))
        ]
        return runs, resyncs, probes


def _counted(name: str, scope: Scope, remains: Remains) -> ErasedResource:
    return ErasedResource(
        name, tuple(scope[name]), len(remains.unmarked), len(remains.events), len(remains.letters)
    )


def _in_order(scope: Scope) -> list[str]:
    return [name for name in ORDER if scope.get(name)]


def _size(related: Related) -> int:
    return len(related.items) + len(related.shipments) + len(related.packages) + len(related.notes)


def _add(related: Related, resource: str, identifier: str) -> None:
    kinds = {"shipments": related.shipments, "notes": related.notes, "order_items": related.items}
    kinds.get(resource, set()).add(identifier)


def _logs_of(resource: str) -> list[str]:
    """Return the audit logs whose subject is the record itself."""
    captured = RESOURCES.get(resource)
    return (
        [item.target for item in captured.follow_ups if item.target not in RESOURCES and not item.ids]
        if captured
        else []
    )
