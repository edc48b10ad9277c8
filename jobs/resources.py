"""The resources that OrderMesh serves as lists: a short declaration each."""

from __future__ import annotations

from worker.capture.resources import Resource

ORDERS = Resource(
    name="orders",
    entity="order",
    search="orders.search",
    single="orders.get",
    audit="orders.audit_logs",
)
ORDER_ITEMS = Resource(
    name="order_items",
    entity="order_item",
    search="order_items.search",
    single="order_items.get",
    audit="order_items.audit_logs",
)
SHIPMENTS = Resource(
    name="shipments",
    entity="shipment",
    search="shipments.search",
    single="shipments.get",
    audit="shipments.audit_logs",
    modified_fields=("lastModifiedDate", "createdDate"),
)
NOTES = Resource(
    name="notes",
    entity="note",
    search="notes.search",
    single="notes.get",
    audit="notes.audit_logs",
)
CATEGORIES = Resource(
    name="categories",
    entity="category",
    search="categories.list",
    audit="categories.audit_logs",
)
PRODUCTS = Resource(
    name="products",
    entity="product",
    search="products.list",
    audit="products.audit_logs",
)
VARIANTS = Resource(
    name="variants",
    entity="variant",
    search="variants.search",
    audit="variants.audit_logs",
)
MERCHANT_CATALOGS = Resource(
    name="merchant_catalogs",
    entity="merchant_catalog",
    search="merchant_catalogs.list",
    single="merchant_catalogs.get",
    audit="merchant_catalogs.audit_logs",
)

RESOURCES: dict[str, Resource] = {
    resource.name: resource
    for resource in (
        ORDERS,
        ORDER_ITEMS,
        SHIPMENTS,
        NOTES,
        CATEGORIES,
        PRODUCTS,
        VARIANTS,
        MERCHANT_CATALOGS,
    )
}
