"""The permissions of tokens: verbs on resources, as in the vendor's login sample (`order`: `get`, `create`).

The sample shows only `order` and its two verbs. The other resources are named after the records of the services;
`audit` covers all audit logs. `update` and `delete` are the other verbs that the operations need.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.ordermesh.contract.operations import Operation

RESOURCES = {
    "order": "Order",
    "orderItem": "Order Item",
    "shipment": "Shipment",
    "package": "Package",
    "note": "Note",
    "category": "Category",
    "product": "Product",
    "variant": "Variant",
    "merchantCatalog": "Merchant Catalog",
    "audit": "Audit Log",
}
"""Names of resources, with their display names in the response of the login."""

VERBS = ("get", "create", "update", "delete")
"""The verbs of each resource."""

_OF_METHOD = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_OF_GROUP = {
    "orders": "order",
    "order_items": "orderItem",
    "shipments": "shipment",
    "packages": "package",
    "notes": "note",
    "categories": "category",
    "products": "product",
    "variants": "variant",
    "merchant_catalogs": "merchantCatalog",
}
_CREATES = frozenset({"create", "create_many"})
_IDS = uuid.UUID("33c7a0f0-0036-4461-b677-97520b874824")


class PermissionsError(ValueError):
    """A resource or verb does not exist."""

    def __init__(self, permission: str) -> None:
        self.permission = permission
        super().__init__(
            f"unknown permission {permission!r}; allowed: RESOURCE:VERB with one of {', '.join(RESOURCES)} and one of "
            f"{', '.join(VERBS)}"
        )


@dataclass(frozen=True, slots=True)
class Permissions:
    """The allowed pairs of a resource and a verb; all others are refused with 403.

    Raises:
        PermissionsError: A resource or verb does not exist.
    """

    allowed: frozenset[tuple[str, str]] = frozenset((each, verb) for each in RESOURCES for verb in VERBS)

    def __post_init__(self) -> None:
        for resource, verb in sorted(self.allowed):
            _check(resource, verb)

    @classmethod
    def only(cls, granted: Mapping[str, Iterable[str]]) -> Permissions:
        """Return permissions with these verbs on these resources, and no others."""
        return cls(frozenset((resource, verb) for resource, verbs in granted.items() for verb in verbs))

    def without(self, *denied: str) -> Permissions:
        """Return the permissions without some, each written as `resource:verb`.

        Raises:
            PermissionsError: A resource or verb does not exist.
        """
        pairs = set()
        for item in denied:
            resource, _, verb = item.partition(":")
            _check(resource, verb)
            pairs.add((resource, verb))
        return Permissions(self.allowed - pairs)

    def allow(self, operation: Operation) -> bool:
        """True if the permissions are sufficient for an operation; logins need none."""
        needed = permission(operation)
        return needed is None or needed in self.allowed

    def sets(self) -> list[dict[str, Any]]:
        """Return the permission sets of a role, as in the response of the login."""
        return [
            {
                "resourceId": str(uuid.uuid5(_IDS, resource)),
                "resourceName": resource,
                "resourceDisplayName": display,
                "availablePermissions": [_named(verb) for verb in VERBS],
                "associatedPermissions": [_named(verb) for verb in VERBS if (resource, verb) in self.allowed],
            }
            for resource, display in RESOURCES.items()
        ]


def permission(operation: Operation) -> tuple[str, str] | None:
    """Return the resource and the verb that an operation needs; None for a login.

    A search needs `get`, with any method. Of the other POSTs only those that create records need `create`; the rest,
    such as cancelling an order, need `update`.
    """
    if operation.service == "user":
        return None
    group, _, name = operation.key.partition(".")
    if "audit_logs" in name:
        return "audit", "get"
    verb = "get" if operation.records else _OF_METHOD[operation.method]
    if verb == "create" and name not in _CREATES:
        verb = "update"
    return _OF_GROUP[group], verb


def _check(resource: str, verb: str) -> None:
    if resource not in RESOURCES or verb not in VERBS:
        raise PermissionsError(f"{resource}:{verb}" if verb else resource)


def _named(verb: str) -> dict[str, str]:
    return {"name": verb, "description": ""}
