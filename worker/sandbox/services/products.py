"""Products and their variants, the global catalog. Their fields are not documented.

A product contains its categories and variants. A change of a variant also changes its product, and adds an audit entry
to both. SKUs are unique across all products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.sandbox import listing
from worker.sandbox.answers import Answer, json_answer, refusal
from worker.sandbox.services import bulk
from worker.sandbox.services.writing import PRODUCTS, VARIANTS, object_id

if TYPE_CHECKING:
    from worker.sandbox.calls import Call, Handler, Sandbox
    from worker.sandbox.data.record import Record


# Products


def list_all(sandbox: Sandbox, call: Call) -> Answer:
    """View all products."""
    return listing.answer(sandbox, call, "products.list", sandbox.world.products)


def search(sandbox: Sandbox, call: Call) -> Answer:
    """Search products, by name or status."""
    return listing.answer(
        sandbox, call, "products.search", sandbox.world.products, filters=("name", "status")
    )


def variants(sandbox: Sandbox, call: Call) -> Answer:
    """Retrieve product variant details: all variants of one product."""
    product = _product(sandbox, call.params["productId"])
    return listing.answer(sandbox, call, "products.variants", product["variants"])


def create(sandbox: Sandbox, call: Call) -> Answer:
    """Create a new product, without variants."""
    with sandbox.world.lock:
        return json_answer(_create(sandbox, call, call.fields()), 201)


def create_many(sandbox: Sandbox, call: Call) -> Answer:
    """Bulk create products."""
    with sandbox.world.lock:
        return bulk.answer(call, lambda item: bulk.Done(_create(sandbox, call, item)["id"], 201))


def update(sandbox: Sandbox, call: Call) -> Answer:
    """Update product: all fields, and those that the body lacks are cleared; its variants stay."""
    with sandbox.world.lock:
        return json_answer(_update(sandbox, call, call.params["productId"], call.fields()))


def update_many(sandbox: Sandbox, call: Call) -> Answer:
    """Bulk update products, each with its `id`."""
    with sandbox.world.lock:
        return bulk.answer(call, lambda item: str(_update(sandbox, call, item.get("id"), item)["id"]))


def delete(sandbox: Sandbox, call: Call) -> Answer:
    """Delete product and its variants; refused while a merchant catalog contains one of them."""
    world = sandbox.world
    with world.lock:
        before = _product(sandbox, call.params["productId"])
        for variant in before["variants"]:
            _refuse_used(sandbox, variant, "productId", before["id"])
        for variant in before["variants"]:
            VARIANTS.remove(sandbox, call, variant)
        PRODUCTS.remove(sandbox, call, before)
    return Answer(204, b"")


# Variants


def create_variant(sandbox: Sandbox, call: Call) -> Answer:
    """Create a variant of a product."""
    world, body = sandbox.world, call.fields()
    with world.lock:
        product = _product(sandbox, body["productId"])
        fields = _variant_fields(sandbox, body)
        at = world.stamp()
        variant = {"id": object_id(at), "productId": product["id"]} | fields
        created = VARIANTS.add(sandbox, call, variant, at)
        _set_variants(sandbox, call, product, [*product["variants"], created], at)
        return json_answer(created, 201)


def update_variant(sandbox: Sandbox, call: Call) -> Answer:
    """Update variant: all fields, and those that the body lacks are cleared."""
    world = sandbox.world
    with world.lock:
        product = _product(sandbox, call.params["productId"])
        before = _variant(sandbox, call.params["variantId"])
        if before["productId"] != product["id"]:
            raise refusal(404, "The product has no such variant.", "variantId", before["id"])
        fields = _variant_fields(sandbox, call.fields(), before["id"])
        if fields["sku"] != before["sku"]:
            _refuse_used(sandbox, before, "sku", fields["sku"])
        at = world.stamp()
        after = VARIANTS.put(sandbox, call, before, fields, at)
        variants = [after if item["id"] == after["id"] else item for item in product["variants"]]
        _set_variants(sandbox, call, product, variants, at)
        return json_answer(after)


def delete_variant(sandbox: Sandbox, call: Call) -> Answer:
    """Delete variant; refused while a merchant catalog contains it."""
    world = sandbox.world
    with world.lock:
        before = _variant(sandbox, call.params["variantId"])
        _refuse_used(sandbox, before, "variantId", before["id"])
        VARIANTS.remove(sandbox, call, before)
        product = _product(sandbox, before["productId"])
        remaining = [item for item in product["variants"] if item["id"] != before["id"]]
        _set_variants(sandbox, call, product, remaining, world.stamp())
    return Answer(204, b"")


def search_variants(sandbox: Sandbox, call: Call) -> Answer:
    """Search product variants, by SKU or product."""
    return listing.answer(
        sandbox, call, "variants.search", sandbox.world.variants, filters=("sku", "productId")
    )


# Helpers


def _create(sandbox: Sandbox, call: Call, body: Record) -> Record:
    fields = _product_fields(sandbox, body)
    at = sandbox.world.stamp()
    product: Record = {"id": object_id(at)} | fields | {"variants": []}
    return PRODUCTS.add(sandbox, call, product, at)


def _update(sandbox: Sandbox, call: Call, product_id: str | None, body: Record) -> Record:
    before = _product(sandbox, product_id or "")
    fields = _product_fields(sandbox, body)
    return PRODUCTS.put(sandbox, call, before, fields, sandbox.world.stamp())


def _product_fields(sandbox: Sandbox, body: Record) -> Record:
    name: str = body["name"]
    if not name.strip():
        raise refusal(400, "'name' must not be empty.", "name", name)
    categories = []
    for category_id in body.get("categoryIds") or []:
        category = sandbox.world.categories.get(category_id)
        if category is None:
            raise refusal(400, "There is no category with this id.", "categoryIds", category_id)
        categories.append({"id": category["id"], "name": category["name"]})
    return {
        "name": name,
        "description": body.get("description"),
        "status": body.get("status") or "Active",
        "attributes": body.get("attributes") or [],
        "extra": body.get("extra"),
        "categories": categories,
    }


def _variant_fields(sandbox: Sandbox, body: Record, own_id: str | None = None) -> Record:
    sku: str = body["sku"]
    if not sku.strip():
        raise refusal(400, "'sku' must not be empty.", "sku", sku)
    if any(item != own_id for item in sandbox.world.variants.matching({"sku": sku})):
        raise refusal(400, "There is a variant with this SKU.", "sku", sku)
    return {
        "sku": sku,
        "price": body.get("price"),
        "attributes": body.get("attributes") or [],
        "decorations": body.get("decorations") or [],
    }


def _set_variants(sandbox: Sandbox, call: Call, product: Record, variants: list[Record], at: int) -> None:
    PRODUCTS.put(sandbox, call, product, {"variants": variants}, at)


def _refuse_used(sandbox: Sandbox, variant: Record, parameter: str, value: str) -> None:
    for catalog in sandbox.world.merchant_catalogs.values():
        if any(item["sku"] == variant["sku"] for item in catalog["variants"]):
            sentence = f"Merchant catalog {catalog['id']} has the variant {variant['sku']}."
            raise refusal(400, sentence, parameter, value)


def _product(sandbox: Sandbox, product_id: str) -> Record:
    return PRODUCTS.get(sandbox, product_id, "productId")


def _variant(sandbox: Sandbox, variant_id: str) -> Record:
    return VARIANTS.get(sandbox, variant_id, "variantId")


HANDLERS: dict[str, Handler] = {
    "products.list": list_all,
    "products.search": search,
    "products.variants": variants,
    "products.create": create,
    "products.create_many": create_many,
    "products.update": update,
    "products.update_many": update_many,
    "products.delete": delete,
    "products.audit_logs": PRODUCTS.audit_logs("productId"),
    "variants.create": create_variant,
    "variants.update": update_variant,
    "variants.delete": delete_variant,
    "variants.search": search_variants,
    "variants.audit_logs": VARIANTS.audit_logs("variantId"),
}
