"""The handlers of all operations, one or more modules for each service.

Each module has a table `HANDLERS` from the key of an operation to its handler. `catalog` and `notes`, which need
records at the start, also have `fill(world, seed)`, which is called once before the first request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.sandbox.services import (
    catalog,
    notes,
    order_changes,
    order_items,
    orders,
    packages,
    shipment_changes,
    shipments,
    users,
)

if TYPE_CHECKING:
    from worker.sandbox.calls import Handler
    from worker.sandbox.state.world import World

HANDLERS: dict[str, Handler] = {
    **users.HANDLERS,
    **orders.HANDLERS,
    **order_changes.HANDLERS,
    **order_items.HANDLERS,
    **notes.HANDLERS,
    **catalog.HANDLERS,
    **shipments.HANDLERS,
    **shipment_changes.HANDLERS,
    **packages.HANDLERS,
}
"""The handler of every operation by key."""


def fill(world: World, seed: int) -> None:
    """Add the initial records of the catalog and note services.

    Args:
        world: The records, with the orders already added.
        seed: The same seed results in the same records.
    """
    catalog.fill(world, seed)
    notes.fill(world, seed)
