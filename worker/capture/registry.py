"""Declarations of everything that OrderMesh serves: the resources, which are lists of records, and the audit logs."""

from __future__ import annotations

from worker.capture.resources import AuditLog, Captured, FollowUp, Resource

ORDERS = Resource(
    name="orders",
    entity="order",
    search="orders.search",
    single="orders.get",
    by_safe_id="orders.get_by_safe_id",
    audit="orders.audit_logs",
    merchant_field="merchantId",
    status_field="status",
    # Shipments have modification times of their own; a change of the order is an additional reason to read them.
    follow_ups=(
        FollowUp("shipments"),
        FollowUp("shipments", ids=("shipmentIds",)),
        FollowUp("order_audit"),
    ),
)
ORDER_ITEMS = Resource(
    name="order_items",
    entity="order_item",
    search="order_items.search",
    single="order_items.get",
    audit="order_items.audit_logs",
    merchant_field="merchantId",
    status_field="status",
    follow_ups=(FollowUp("order_item_audit"),),
)
SHIPMENTS = Resource(
    name="shipments",
    entity="shipment",
    search="shipments.search",
    single="shipments.get",
    by_parent="shipments.for_order",
    parent_field="orderId",
    audit="shipments.audit_logs",
    modified_fields=("lastModifiedDate", "createdDate"),
    merchant_field="merchantId",
    status_field="shipmentStatus",
    follow_ups=(
        FollowUp("shipment_audit"),
        FollowUp("message_audit"),
        FollowUp("package_audit", ids=("packages", "id")),
    ),
)
NOTES = Resource(
    name="notes",
    entity="note",
    search="notes.search",
    single="notes.get",
    audit="notes.audit_logs",
    follow_ups=(FollowUp("note_audit"),),
)
CATEGORIES = Resource(
    name="categories",
    entity="category",
    search="categories.list",
    audit="categories.audit_logs",
    follow_ups=(FollowUp("category_audit"),),
)
PRODUCTS = Resource(
    name="products",
    entity="product",
    search="products.list",
    audit="products.audit_logs",
    follow_ups=(FollowUp("product_audit"),),
)
VARIANTS = Resource(
    name="variants",
    entity="variant",
    search="variants.search",
    audit="variants.audit_logs",
    follow_ups=(FollowUp("variant_audit"),),
)
MERCHANT_CATALOGS = Resource(
    name="merchant_catalogs",
    entity="merchant_catalog",
    search="merchant_catalogs.list",
    single="merchant_catalogs.get",
    audit="merchant_catalogs.audit_logs",
    follow_ups=(FollowUp("merchant_catalog_audit"),),
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

AUDIT_LOGS: dict[str, AuditLog] = {
    f"{entity}_audit": AuditLog(f"{entity}_audit", f"{entity}_audit", operation, parent)
    for entity, operation, parent in (
        ("order", "orders.audit_logs", ORDERS),
        ("order_item", "order_items.audit_logs", ORDER_ITEMS),
        ("shipment", "shipments.audit_logs", SHIPMENTS),
        ("package", "packages.audit_logs", SHIPMENTS),
        ("message", "shipments.message_audit_logs", SHIPMENTS),
        ("note", "notes.audit_logs", NOTES),
        ("category", "categories.audit_logs", CATEGORIES),
        ("product", "products.audit_logs", PRODUCTS),
        ("variant", "variants.audit_logs", VARIANTS),
        ("merchant_catalog", "merchant_catalogs.audit_logs", MERCHANT_CATALOGS),
    )
}

CAPTURED: dict[str, Captured] = {**RESOURCES, **AUDIT_LOGS}
"""All resources and audit logs by name. Resources come before the audit logs that their follow-ups read."""
