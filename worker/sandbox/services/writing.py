"""What every write has in common: the record must be there, its times move, and an audit entry is left."""

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
    """An id of 24 hexadecimal digits that begins with its time, as the vendor's; another one for every moment."""
    seconds, rest = divmod(ticks, TICKS_PER_SECOND)
    return f"{seconds:08x}{rest:016x}"


@dataclass(frozen=True, slots=True)
class Shelf:
    """The records of one kind, and the ways in which handlers read and write them.

    A handler holds `world.lock` from its first read to its last write.

    Attributes:
        kind: What audit logs call it.
        name: What sentences call it.
        records: Where they are.
    """

    kind: Kind
    name: str
    records: Callable[[World], Records]

    def get(self, sandbox: Sandbox, record_id: str, parameter: str) -> Record:
        """A copy of the record with this id; `parameter` is what named it.

        Raises:
            Refusal: 404, there is none.
        """
        record = self.records(sandbox.world).get(record_id)
        if record is None:
            raise refusal(404, f"The {self.name} was not found.", parameter, record_id)
        return record

    def add(self, sandbox: Sandbox, call: Call, record: Record, at: int) -> Record:
        """Stores a new record, made at this moment, and gives it with its times at the end."""
        made = record | {"createdAt": format_ticks(at), "updatedAt": None}
        self.records(sandbox.world).add(made)
        self._note(sandbox, call, CREATED, (None, made), at)
        return made

    def put(self, sandbox: Sandbox, call: Call, before: Record, change: Record, at: int) -> Record:
        """Stores a record with these fields changed at this moment, and gives it as it is then."""
        after = before | change | {"updatedAt": format_ticks(at)}
        self.records(sandbox.world).put(after)
        self._note(sandbox, call, UPDATED, (before, after), at)
        return after

    def remove(self, sandbox: Sandbox, call: Call, before: Record) -> None:
        """Removes a record; its audit logs stay."""
        self.records(sandbox.world).remove(before["id"])
        self._note(sandbox, call, DELETED, (before, None), sandbox.world.stamp())

    def audit_logs(self, parameter: str) -> Handler:
        """The handler that gives the audit logs of one record, of a deleted one too.

        Args:
            parameter: The parameter of the path that names the record.
        """

        def handle(sandbox: Sandbox, call: Call) -> Answer:
            record_id = call.params[parameter]
            world = sandbox.world
            with world.lock:
                known = self.records(world).get(record_id)
                if known is None and not world.audit.entries(self.kind, record_id):
                    raise refusal(404, f"The {self.name} was not found.", parameter, record_id)
                return listing.audit_answer(sandbox, self.kind, record_id, (known or {}).get("createdAt"))

        return handle

    def _note(
        self, sandbox: Sandbox, call: Call, action: str, forms: tuple[Record | None, Record | None], at: int
    ) -> None:
        before, after = forms
        record_id: str = (after or before or {})["id"]
        sandbox.world.audit.note(
            self.kind, record_id, action, actor=call.actor, before=before, after=after, at=at
        )


NOTES = Shelf("note", "note", lambda world: world.notes)
CATEGORIES = Shelf("category", "category", lambda world: world.categories)
PRODUCTS = Shelf("product", "product", lambda world: world.products)
VARIANTS = Shelf("variant", "variant", lambda world: world.variants)
MERCHANT_CATALOGS = Shelf("merchantCatalog", "merchant catalog", lambda world: world.merchant_catalogs)
