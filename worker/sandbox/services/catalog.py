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
    """What is there at the start, the same for the same seed."""
    made = make_catalog(Random(seed))
    for records, rows in (
        (world.categories, made.categories),
        (world.products, made.products),
        (world.variants, made.variants),
        (world.merchant_catalogs, made.merchant_catalogs),
    ):
        for row in rows:
            records.add(row)
