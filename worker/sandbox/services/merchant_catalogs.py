"""Merchant catalogs: the variants that a merchant sells, with the merchant's prices and SKUs.

Bodies follow the vendor's samples of the update, of the partial update, and of adding variants. As in the response of
the last one, SKUs that the catalog does not have are omitted and listed in `errors`. The enabled catalog is the first
one, in creation order, that is enabled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from worker.sandbox import listing
from worker.sandbox.answers import Answer, json_answer, refusal
from worker.sandbox.data.catalog_data import merchant_variant
from worker.sandbox.services.writing import MERCHANT_CATALOGS, object_id
from worker.sandbox.state.records import has_values

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.sandbox.calls import Call, Handler, Sandbox
    from worker.sandbox.data.record import Record

_FILTERS = ("sku", "merchantSku", "productId")
_VARIANT_FIELDS = ("merchantSku", "merchantPrice", "skipImageManipulation", "decorations", "attributes")
_CATALOG_FIELDS = ("name", "description", "isEnabled", "assignedToSubAccountIds")


def list_all(sandbox: Sandbox, call: Call) -> Answer:
    """Get a list of merchant catalogs, with their variants."""
    return listing.answer(sandbox, call, "merchant_catalogs.list", sandbox.world.merchant_catalogs)


def get(sandbox: Sandbox, call: Call) -> Answer:
    """Get a merchant catalog with variants."""
    return json_answer(_catalog(sandbox, call.params["id"]))


def search_variants(sandbox: Sandbox, call: Call) -> Answer:
    """Get a merchant catalog and search variants in it."""
    result = _catalog(sandbox, call.params["id"])["variants"]
    return listing.answer(sandbox, call, "merchant_catalogs.search_variants", result, filters=_FILTERS)


def create(sandbox: Sandbox, call: Call) -> Answer:
    """Create a merchant catalog."""
    world, body = sandbox.world, call.fields()
    with world.lock:
        at = world.stamp()
        change = _Change(sandbox, [], at)
        fields = _catalog_fields(body)
        change.add(body.get("variants") or [])
        catalog = {"id": object_id(at)} | fields | {"variants": change.variants}
        created = MERCHANT_CATALOGS.add(sandbox, call, catalog, at)
        return json_answer(created | {"errors": change.errors()}, 201)


def update(sandbox: Sandbox, call: Call) -> Answer:
    """Update a merchant catalog: all fields; variants that are not in the body are removed."""
    world, body = sandbox.world, call.fields()
    with world.lock:
        before = _catalog(sandbox, body["id"])
        at = world.stamp()
        change = _Change(sandbox, [], at, before["variants"])
        fields = _catalog_fields(body)
        change.add(body.get("variants") or [])
        fields["variants"] = change.variants
        after = MERCHANT_CATALOGS.put(sandbox, call, before, fields, at)
        return json_answer(after | {"errors": change.errors()})


def patch(sandbox: Sandbox, call: Call) -> Answer:
    """Partially update a merchant catalog: the fields of the body that are not null, and single variants."""
    world, body = sandbox.world, call.fields()
    with world.lock:
        before = _catalog(sandbox, body["id"])
        fields = {name: body[name] for name in _CATALOG_FIELDS if body.get(name) is not None}
        if "name" in fields:
            _check_name(fields["name"])
        at = world.stamp()
        change = _Change(sandbox, before["variants"], at)
        change.remove(body.get("variantsSkusToRemove") or [])
        change.update(body.get("variantsToUpdate") or [])
        change.add(body.get("variantsToAdd") or [])
        fields["variants"] = change.variants
        after = MERCHANT_CATALOGS.put(sandbox, call, before, fields, at)
        return json_answer(after | {"errors": change.errors()})


def delete(sandbox: Sandbox, call: Call) -> Answer:
    """Delete a merchant catalog."""
    world = sandbox.world
    with world.lock:
        before = _catalog(sandbox, call.params["id"])
        MERCHANT_CATALOGS.remove(sandbox, call, before)
    return Answer(204, b"")


def effective_variants(sandbox: Sandbox, call: Call) -> Answer:
    """Get a list of variants the merchant can use: the requested page, or all variants if no page is requested."""
    result = _enabled_variants(sandbox)
    if not {"page", "pageSize"} & call.query.keys():
        rows = [msgspec.json.encode(item) for item in result]
        return Answer(200, sandbox.contract.render_whole(rows, "variants"))
    return listing.answer(sandbox, call, "merchant_catalogs.effective_variants", result)


def search_effective_variants(sandbox: Sandbox, call: Call) -> Answer:
    """Search for variants in enabled merchant catalog with fallback to global catalog.

    A variant that is not in the enabled catalog comes from the global one, without an id and a SKU of the merchant.
    """
    body = call.fields()
    filters = {name: str(body[name]) for name in _FILTERS if body.get(name) is not None}
    with sandbox.world.lock:
        enabled = _enabled_variants(sandbox)
        skus = {item["sku"] for item in enabled}
        others = (
            merchant_variant(each, None)
            for each in sandbox.world.variants.values()
            if each["sku"] not in skus
        )
        result = [each for each in (*enabled, *others) if has_values(each, filters)]
        return listing.answer(sandbox, call, "merchant_catalogs.search_effective_variants", result)


class _Change:
    """A change of the variants of one catalog. SKUs that cannot be changed are collected for `errors`.

    Args:
        sandbox: The sandbox, whose global catalog has the known SKUs.
        variants: The variants of the catalog before the change.
        at: The time of the change, in ticks.
        replaced: Variants that are replaced as a whole: a new variant with the same SKU keeps the id.
    """

    def __init__(
        self, sandbox: Sandbox, variants: Iterable[Record], at: int, replaced: Iterable[Record] = ()
    ) -> None:
        # Copies, because the audit log needs the variants before the change.
        self._by_sku = {item["sku"]: dict(item) for item in variants}
        self._global = {each["sku"]: each for each in sandbox.world.variants.values()}
        self._old_ids = {each["sku"]: each["id"] for each in replaced}
        self._at = at
        self._refused: dict[str, list[str]] = {}

    @property
    def variants(self) -> list[Record]:
        """The variants as they are now."""
        return list(self._by_sku.values())

    def add(self, variants: Iterable[Record]) -> None:
        """Add variants by SKU."""
        for item in variants:
            sku: str = item["sku"]
            original = self._global.get(sku)
            if original is None:
                self._refuse("SKUs that the catalog does not have were left out", sku)
            elif sku in self._by_sku:
                self._refuse("SKUs that the merchant catalog already has were left out", sku)
            else:
                identity = self._old_ids.get(sku) or f"{self._at:016x}{len(self._by_sku):08x}"
                self._by_sku[sku] = {
                    "id": identity,
                    "sku": sku,
                    **{name: item.get(name) for name in _VARIANT_FIELDS[:3]},
                    "productId": original["productId"],
                    **{name: item.get(name) for name in _VARIANT_FIELDS[3:]},
                }

    def update(self, variants: Iterable[Record]) -> None:
        """Change the fields that are not null."""
        for item in variants:
            sku: str = item["sku"]
            if sku not in self._by_sku:
                self._refuse("SKUs that the merchant catalog does not have were not updated", sku)
            else:
                self._by_sku[sku] |= {
                    name: item[name] for name in _VARIANT_FIELDS if item.get(name) is not None
                }

    def remove(self, skus: Iterable[str]) -> None:
        """Remove variants by SKU."""
        for sku in skus:
            if self._by_sku.pop(sku, None) is None:
                self._refuse("SKUs that the merchant catalog does not have were not removed", sku)

    def errors(self) -> list[dict[str, Any]]:
        """Return an error for each reason, with all its SKUs, as in the vendor's sample of a partial success."""
        return [
            {"errorMessage": f"{reason}.", "propertyName": "Variants", "attemptedValue": skus}
            for reason, skus in self._refused.items()
        ]

    def _refuse(self, reason: str, sku: str) -> None:
        self._refused.setdefault(reason, []).append(sku)


def _catalog_fields(body: Record) -> Record:
    _check_name(body["name"])
    return {
        "name": body["name"],
        "description": body.get("description"),
        "isEnabled": bool(body.get("isEnabled")),
        "assignedToSubAccountIds": body.get("assignedToSubAccountIds") or [],
    }


def _check_name(name: str) -> None:
    if not name.strip():
        raise refusal(400, "'name' must not be empty.", "name", name)


def _enabled_variants(sandbox: Sandbox) -> list[Record]:
    enabled = (item for item in sandbox.world.merchant_catalogs.values() if item["isEnabled"])
    result: list[Record] = next(enabled, {"variants": []})["variants"]
    return result


def _catalog(sandbox: Sandbox, catalog_id: str) -> Record:
    return MERCHANT_CATALOGS.get(sandbox, catalog_id, "id")


HANDLERS: dict[str, Handler] = {
    "merchant_catalogs.list": list_all,
    "merchant_catalogs.get": get,
    "merchant_catalogs.search_variants": search_variants,
    "merchant_catalogs.create": create,
    "merchant_catalogs.update": update,
    "merchant_catalogs.patch": patch,
    "merchant_catalogs.delete": delete,
    "merchant_catalogs.effective_variants": effective_variants,
    "merchant_catalogs.search_effective_variants": search_effective_variants,
    "merchant_catalogs.audit_logs": MERCHANT_CATALOGS.audit_logs("id"),
}
