"""The catalog service: categories, products with their variants, and merchant catalogs."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from worker.sandbox.data.catalog_data import make_catalog
from worker.sandbox.services import categories, merchant_catalogs, products

if TYPE_CHECKING:
    from worker.sandbox.calls import Handler
    from worker.sandbox.state.world import World

HANDLERS: dict[str, Handler] = categories.HANDLERS | products.HANDLERS | merchant_catalogs.HANDLERS


def fill(world: World, seed: int) -> None:
    """Add the initial records, which are the same for the same seed."""
    data = make_catalog(Random(seed))
    for records, rows in (
        (world.categories, data.categories),
        (world.products, data.products),
        (world.variants, data.variants),
        (world.merchant_catalogs, data.merchant_catalogs),
    ):
        for row in rows:
            records.add(row)
