"""Every schema in the vendor's portal, with its known fields and their sources.

Source: the portal's lists of schemas (the seed document), and the pages in `PAGES`. The stored copies of those pages
end after about 2,000 characters, so there may be more fields than these: code that reads bodies passes unknown fields
through.
"""

from __future__ import annotations

from worker.ordermesh.schemas.base import BASIC_TYPES, Field, Schema, element
from worker.ordermesh.schemas.catalog import CATALOG
from worker.ordermesh.schemas.common import COMMON
from worker.ordermesh.schemas.note import NOTE
from worker.ordermesh.schemas.order import ORDER
from worker.ordermesh.schemas.shipment import SHIPMENT
from worker.ordermesh.schemas.user import USER

__all__ = ["BASIC_TYPES", "PAGES", "SCHEMAS", "Field", "Schema", "element", "records_schema", "schemas_of"]

PAGES: dict[str, str] = {
    "GS-alpha": "https://alphabroder.ordermesh.io/getting-started",
    "GS-dev": "https://docs.dev.ordermesh.io/getting-started-1961217m0",
    "MC-patch": "https://docs.qa.ordermesh.io/partially-update-a-merchant-catalog-31799245e0",
    "MC-put": "https://docs.ordermesh.io/update-a-merchant-catalog-31798998e0",
    "MV-add": "https://docs.ordermesh.io/add-new-variants-to-a-merchant-catalog-36636817e0",
    "O-create": "https://docs.dev.ordermesh.io/create-a-new-order-28746117e0",
    "O-item": "https://docs.dev.ordermesh.io/retrieve-order-item-by-order-item-id-28746126e0",
    "O-safe": "https://docs.dev.ordermesh.io/retrieve-an-order-by-safe-id-28746125e0",
    "PC-taylor": "https://taylor.ordermesh.io/product-catalog",
    "S-get": "https://docs.dev.ordermesh.io/get-details-of-a-specific-shipment-by-shipment-id-29000503e0",
    "S-order": "https://docs.stg.ordermesh.io/get-all-shipments-for-an-order-by-order-id-33596007e0",
    "SC-bulk": "https://docs.dev.ordermesh.io/createordermodelbulkmodel-12760553d0",
    "SC-item": "https://docs.dev.ordermesh.io/getorderitemresponse-12760562d0",
    "SC-refund": "https://docs.dev.ordermesh.io/addrefundmodel-12760536d0",
    "SC-reroute": "https://docs.dev.ordermesh.io/reroute-13197345d0",
    "SC-rerouteb": "https://docs.dev.ordermesh.io/reroutebulkmodel-13197346d0",
}
"""The vendor's pages, which sources cite as `vendor:KEY`."""

SCHEMAS: dict[str, Schema] = {
    row.name: row
    for row in sorted(
        (*COMMON, *USER, *ORDER, *NOTE, *CATALOG, *SHIPMENT), key=lambda row: (row.name.lower(), row.name)
    )
}
"""Every schema by its name, in alphabetical order."""


def schemas_of(service: str) -> tuple[Schema, ...]:
    """Return the schemas of a service, in alphabetical order."""
    return tuple(row for row in SCHEMAS.values() if service in row.services)


def records_schema(answer: str, records: str) -> str | None:
    """Return the schema of the records of a list; None if it is unknown.

    Args:
        answer: The schema of the response or, with some operations, of one record.
        records: The key of the list in the response.

    """
    for item in SCHEMAS[answer].fields:
        if item.name == records and item.type.startswith("["):
            return element(item.type)
    return None
