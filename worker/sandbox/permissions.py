"""What a token may do: verbs on resources, as the vendor's login sample shows them (`order`: `get`, `create`).

Only `order` and its two verbs are seen. The other resources are named after the records that the services have,
with one of its own, `audit`, for all audit logs; `update` and `delete` are the verbs that the operations need
beside.
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
"""Names of resources and how the login answer displays them."""

VERBS = ("get", "create", "update", "delete")
"""What can be done to each of them."""

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
    """There is no such resource or verb."""

    def __init__(self, given: str) -> None:
        self.given = given
        super().__init__(
            f"unknown permission {given!r}; allowed: RESOURCE:VERB with one of {', '.join(RESOURCES)} and one of "
            f"{', '.join(VERBS)}"
        )


@dataclass(frozen=True, slots=True)
class Permissions:
    """Pairs of a resource and a verb that are allowed; everything else is refused with 403.

    Raises:
        PermissionsError: There is no such resource or verb.
    """

    allowed: frozenset[tuple[str, str]] = frozenset((each, verb) for each in RESOURCES for verb in VERBS)

    def __post_init__(self) -> None:
        for resource, verb in sorted(self.allowed):
            _check(resource, verb)

    @classmethod
    def only(cls, granted: Mapping[str, Iterable[str]]) -> Permissions:
        """These verbs on these resources, and nothing on any other."""
        return cls(frozenset((resource, verb) for resource, verbs in granted.items() for verb in verbs))

    def without(self, *denied: str) -> Permissions:
        """The same less what is named as `resource:verb`.

        Raises:
            PermissionsError: There is no such resource or verb.
        """
        pairs = set()
        for item in denied:
            resource, _, verb = item.partition(":")
            _check(resource, verb)
            pairs.add((resource, verb))
        return Permissions(self.allowed - pairs)

    def allow(self, operation: Operation) -> bool:
        """Whether they are enough for an operation; logins need none."""
        needed = permission(operation)
        return needed is None or needed in self.allowed

    def sets(self) -> list[dict[str, Any]]:
        """The permission sets of a role, as the login answer has them."""
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
    """The resource and the verb that an operation needs; None for a login.

    A POST creates only where the operation says so: a search needs `get`, whatever its method, and the other
    POSTs, such as cancelling an order, `update`.
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
