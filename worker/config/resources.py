"""The names of resources and their presets, without anything that takes time to import."""

INTERVALS = {
    "orders": 15.0,
    "order_items": 60.0,
    "shipments": 15.0,
    "notes": 60.0,
    "categories": 600.0,
    "products": 600.0,
    "variants": 600.0,
    "merchant_catalogs": 600.0,
    "order_audit": 15.0,
    "order_item_audit": 15.0,
    "shipment_audit": 15.0,
    "package_audit": 15.0,
    "message_audit": 15.0,
    "note_audit": 15.0,
    "category_audit": 60.0,
    "product_audit": 60.0,
    "variant_audit": 60.0,
    "merchant_catalog_audit": 60.0,
}
"""Default seconds between two polls of each resource, and of each kind of audit log."""
RESOURCES = tuple(INTERVALS)
"""The resources and audit logs that this version can read."""
_STANDARD = ("orders", "shipments", "order_audit", "shipment_audit")
PRESETS = {
    "standard": {name: INTERVALS[name] for name in _STANDARD},
    "orders": {"orders": INTERVALS["orders"]},
    "records": {name: seconds for name, seconds in INTERVALS.items() if not name.endswith("_audit")},
    "all": INTERVALS,
}
"""The sets of resources that a preset polls: orders, shipments and their audit logs; orders alone; all records; or all
records and their audit logs."""
WITH_STATUS = ("orders", "order_items", "shipments")
"""The resources whose records have a status."""
SANDBOX_ACCOUNT = "sandbox"
"""The account of `ordersync run --sandbox`. Each run starts with new orders and drops the state of older ones."""
