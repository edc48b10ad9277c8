"""The common part of all writes: the record must exist, its times change, and an audit entry is added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.sandbox import listing
from worker.sandbox.answers import refusal
from worker.sandbox.data.orders import TICKS_PER_SECOND, format_ticks
from worker.sandbox.state.audit import CREATED, DELETED, UPDATED

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.sandbox.answers import Answer
    from worker.sandbox.calls import Call, Handler, Sandbox
    from worker.sandbox.data.record import Record
    from worker.sandbox.state.audit import Kind
    from worker.sandbox.state.records import Records
    from worker.sandbox.state.world import World


def object_id(ticks: int) -> str:
    """Return an id of 24 hexadecimal digits that begins with the time, like the vendor's; unique for each time."""
    seconds, rest = divmod(ticks, TICKS_PER_SECOND)
    return f"{seconds:08x}{rest:016x}"


@dataclass(frozen=True, slots=True)
class Shelf:
    """Reading and writing the records of one kind, for handlers.

    A handler holds `world.lock` from its first read to its last write.

    Attributes:
        kind: The name of the kind in audit logs.
        name: The name of a record in messages.
        records: Returns the records.
    """

    kind: Kind
    name: str
    records: Callable[[World], Records]

    def get(self, sandbox: Sandbox, record_id: str, parameter: str) -> Record:
        """Return a copy of the record with this id.

        Args:
            sandbox: The sandbox.
            record_id: The id.
            parameter: The parameter with the id, for the error.

        Raises:
            Refusal: 404, no record has this id.
        """
        record = self.records(sandbox.world).get(record_id)
        if record is None:
            raise refusal(404, f"The {self.name} was not found.", parameter, record_id)
        return record

    def add(self, sandbox: Sandbox, call: Call, record: Record, at: int) -> Record:
        """Store a new record, created at this time in ticks, and return it with its times as the last fields."""
        result = record | {"createdAt": format_ticks(at), "updatedAt": None}
        self.records(sandbox.world).add(result)
        self._note(sandbox, call, CREATED, (None, result), at)
        return result

    def put(self, sandbox: Sandbox, call: Call, before: Record, change: Record, at: int) -> Record:
        """Store a record with these fields changed at this time, and return it."""
        after = before | change | {"updatedAt": format_ticks(at)}
        self.records(sandbox.world).put(after)
        self._note(sandbox, call, UPDATED, (before, after), at)
        return after

    def remove(self, sandbox: Sandbox, call: Call, before: Record) -> None:
        """Remove a record, but keep its audit logs."""
        self.records(sandbox.world).remove(before["id"])
        self._note(sandbox, call, DELETED, (before, None), sandbox.world.stamp())

    def audit_logs(self, parameter: str) -> Handler:
        """Return a handler for the audit logs of a record, which may be deleted.

        Args:
            parameter: The parameter of the path with the id of the record.
        """

        def handle(sandbox: Sandbox, call: Call) -> Answer:
            record_id = call.params[parameter]
            world = sandbox.world
            with world.lock:
                record = self.records(world).get(record_id)
                if record is None and not world.audit.entries(self.kind, record_id):
                    raise refusal(404, f"The {self.name} was not found.", parameter, record_id)
                return listing.audit_answer(
                    sandbox, call, self.kind, record_id, (record or {}).get("createdAt")
                )

        return handle

    def _note(
        self,
        sandbox: Sandbox,
        call: Call,
        action: str,
        versions: tuple[Record | None, Record | None],
        at: int,
    ) -> None:
        before, after = versions
        record_id: str = (after or before or {})["id"]
        sandbox.world.audit.note(
            self.kind, record_id, action, actor=call.actor, before=before, after=after, at=at
        )


NOTES = Shelf("note", "note", lambda world: world.notes)
CATEGORIES = Shelf("category", "category", lambda world: world.categories)
PRODUCTS = Shelf("product", "product", lambda world: world.products)
VARIANTS = Shelf("variant", "variant", lambda world: world.variants)
MERCHANT_CATALOGS = Shelf("merchantCatalog", "merchant catalog", lambda world: world.merchant_catalogs)
