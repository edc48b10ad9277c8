"""The names of the resources that the worker publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordersync_consumer.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

RESOURCES = (
    "orders",
    "order_items",
    "shipments",
    "notes",
    "categories",
    "products",
    "variants",
    "merchant_catalogs",
    "order_audit",
    "order_item_audit",
    "shipment_audit",
    "package_audit",
    "message_audit",
    "note_audit",
    "category_audit",
    "product_audit",
    "variant_audit",
    "merchant_catalog_audit",
)
"""The resources and audit logs that the worker of this version can read."""


def unknown_resource(name: str) -> str:
    """Return what to say of a name that is not that of a resource, with the nearest known name; "" if it is one."""
    if name in RESOURCES:
        return ""
    return f"Unknown resource {name!r}.{nearest(name, RESOURCES)} Known resources: {', '.join(RESOURCES)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the question whether the nearest of the known names was meant, after a space; "" if none is near."""
    import difflib  # noqa: PLC0415 - only a wrong name needs it

    by_small = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name[:100].lower(), by_small, n=1)
    return f" Did you mean {by_small[near[0]]}?" if near else ""


def check_resource(name: str) -> None:
    """Refuse a name that is not that of a resource: its stream would stay empty.

    Raises:
        SettingsError: The name is unknown.

    """
    if problem := unknown_resource(name):
        raise SettingsError(problem)
