"""Scenarios of the catalog service."""

from __future__ import annotations

import pytest

from tests.integration.operations.scenario import SKUS, Record, Walk, check_log, walks
from worker.errors import ApiError, NotFound, PropertyError
from worker.ordermesh.bodies import (
    CreateMerchantCatalogDto,
    MerchantVariantDto,
    MultiPrice,
    PatchMerchantCatalogDto,
    Price,
    UpdateMerchantCatalogDto,
)


async def new_category(walk: Walk) -> Record:
    return (await walk.client.categories.create({"name": "Garden", "description": "green"})).fields


@walks("categories.list")
async def list_categories(walk: Walk) -> None:
    whole = await walk.client.categories.list()
    assert whole.total == len(whole.records) > 2
    second = await walk.client.categories.list(page=1, page_size=2)
    assert second.records == whole.records[2:4]


@walks("categories.create")
async def create_category(walk: Walk) -> None:
    category = await new_category(walk)
    assert (category["name"], category["description"]) == ("Garden", "green")
    assert category in (await walk.client.categories.list()).values
    await walk.was_made("category", category["id"])


@walks("categories.update")
async def update_category(walk: Walk) -> None:
    category = await new_category(walk)
    async with walk.leaves("category", category["id"], name="Yard"):
        await walk.client.categories.update(category["id"], {"name": "Yard", "description": "green"})
    names = {each["id"]: each["name"] for each in (await walk.client.categories.list()).values}
    assert names[category["id"]] == "Yard"


@walks("categories.delete")
async def delete_category(walk: Walk) -> None:
    category = await new_category(walk)
    async with walk.leaves("category", category["id"], action="Deleted"):
        await walk.client.categories.delete(category["id"])
    assert category["id"] not in {each["id"] for each in (await walk.client.categories.list()).values}


@walks("categories.audit_logs")
async def category_audit_logs(walk: Walk) -> None:
    category = await new_category(walk)
    await check_log(walk, await walk.client.categories.audit_logs(category["id"]))


# Merchant catalogs


def variant(sku: str, amount: float = 5) -> MerchantVariantDto:
    price = MultiPrice(amount=amount, currency="USD", currencies=[Price(amount, "USD")])
    return MerchantVariantDto(sku=sku, id=None, merchant_sku=f"M-{sku}", merchant_price=price)


async def new_catalog(walk: Walk) -> Record:
    body = CreateMerchantCatalogDto(
        name="Spring", is_enabled=False, assigned_to_sub_account_ids=[], variants=[variant(SKUS[0])]
    )
    reply = await walk.client.merchant_catalogs.create(body)
    assert reply.errors == ()
    return (await walk.client.merchant_catalogs.get(reply.fields["id"])).fields


@walks("merchant_catalogs.create")
async def create_catalog(walk: Walk) -> None:
    catalog = await new_catalog(walk)
    assert (catalog["name"], catalog["isEnabled"]) == ("Spring", False)
    (own,) = catalog["variants"]
    assert (own["sku"], own["merchantSku"]) == (SKUS[0], f"M-{SKUS[0]}")
    assert own["merchantPrice"]["currencies"] == [{"amount": 5, "currency": "USD"}]
    await walk.was_made("merchantCatalog", catalog["id"])


@walks("merchant_catalogs.update")
async def update_catalog(walk: Walk) -> None:
    catalog = await new_catalog(walk)
    body = UpdateMerchantCatalogDto(
        id=catalog["id"], name="Summer", is_enabled=False, variants=[variant(SKUS[1]), variant("NO-SUCH-SKU")]
    )
    async with walk.leaves("merchantCatalog", catalog["id"], name="Summer"):
        reply = await walk.client.merchant_catalogs.update(body)
    (error,) = reply.errors
    assert isinstance(error, PropertyError)
    assert error.property_name == "Variants"
    read = (await walk.client.merchant_catalogs.get(catalog["id"])).fields
    assert (read["name"], [each["sku"] for each in read["variants"]]) == ("Summer", [SKUS[1]])


@walks("merchant_catalogs.patch")
async def patch_catalog(walk: Walk) -> None:
    catalog = await new_catalog(walk)
    body = PatchMerchantCatalogDto(
        id=catalog["id"],
        description="changed",
        variants_to_add=[variant(SKUS[1]), variant(SKUS[2])],
        variants_skus_to_remove=[SKUS[0]],
        variants_to_update=[],
    )
    async with walk.leaves("merchantCatalog", catalog["id"], description="changed"):
        await walk.client.merchant_catalogs.patch(body)
    cheaper = PatchMerchantCatalogDto(id=catalog["id"], variants_to_update=[variant(SKUS[1], 4)])
    async with walk.leaves("merchantCatalog", catalog["id"]):
        await walk.client.merchant_catalogs.patch(cheaper)
    read = (await walk.client.merchant_catalogs.get(catalog["id"])).fields
    assert (read["name"], read["description"]) == ("Spring", "changed")
    prices = {each["sku"]: each["merchantPrice"]["amount"] for each in read["variants"]}
    assert prices == {SKUS[1]: 4, SKUS[2]: 5}


@walks("merchant_catalogs.list")
async def list_catalogs(walk: Walk) -> None:
    before = await walk.client.merchant_catalogs.list()
    catalog = await new_catalog(walk)
    after = await walk.client.merchant_catalogs.list()
    assert after.total == len(before.records) + 1
    assert catalog in after.values


@walks("merchant_catalogs.delete")
async def delete_catalog(walk: Walk) -> None:
    catalog = await new_catalog(walk)
    async with walk.leaves("merchantCatalog", catalog["id"], action="Deleted"):
        await walk.client.merchant_catalogs.delete(catalog["id"])
    with pytest.raises(NotFound):
        await walk.client.merchant_catalogs.get(catalog["id"])


@walks("merchant_catalogs.search_variants")
async def search_catalog_variants(walk: Walk) -> None:
    catalog = (await walk.client.merchant_catalogs.list()).values[0]
    found = await walk.client.merchant_catalogs.search_variants(catalog["id"], page=1, page_size=2)
    assert found.values == catalog["variants"][2:4]
    assert found.total == len(catalog["variants"])
    sku = catalog["variants"][3]["sku"]
    (one,) = (await walk.client.merchant_catalogs.search_variants(catalog["id"], extra={"sku": sku})).values
    assert one["sku"] == sku


@walks("merchant_catalogs.get")
async def get_catalog(walk: Walk) -> None:
    for catalog in (await walk.client.merchant_catalogs.list()).values:
        assert (await walk.client.merchant_catalogs.get(catalog["id"])).fields == catalog


@walks("merchant_catalogs.effective_variants")
async def effective_variants(walk: Walk) -> None:
    catalogs = (await walk.client.merchant_catalogs.list()).values
    enabled = next(each for each in catalogs if each["isEnabled"])
    found = await walk.client.merchant_catalogs.effective_variants(page_size=500)
    assert [each["sku"] for each in found.values] == [each["sku"] for each in enabled["variants"]]
    assert {"sku", "merchantPrice", "decorations", "attributes"} <= set(found.values[0])


@walks("merchant_catalogs.search_effective_variants")
async def search_effective_variants(walk: Walk) -> None:
    catalogs = walk.client.merchant_catalogs
    mine = {each["sku"] for each in (await catalogs.effective_variants(page_size=500)).values}
    found = await catalogs.search_effective_variants(page_size=500)
    skus = [each["sku"] for each in found.values]
    assert mine < set(skus)  # those of the global catalog come after
    other = next(sku for sku in skus if sku not in mine)
    (one,) = (await catalogs.search_effective_variants({"sku": other}, page_size=5)).values
    assert one["sku"] == other


@walks("merchant_catalogs.audit_logs")
async def catalog_audit_logs(walk: Walk) -> None:
    catalog = await new_catalog(walk)
    await check_log(walk, await walk.client.merchant_catalogs.audit_logs(catalog["id"]))


# Products


async def new_product(walk: Walk) -> Record:
    category = (await walk.client.categories.list()).values[0]
    body = {"name": "Kite", "description": "flies", "categoryIds": [category["id"]]}
    return (await walk.client.products.create(body)).fields


async def read_product(walk: Walk, product_id: str) -> Record | None:
    """There is no operation that reads one product."""
    found = (await walk.client.products.list(page_size=100)).values
    return next((each for each in found if each["id"] == product_id), None)


@walks("products.list")
async def list_products(walk: Walk) -> None:
    whole = await walk.client.products.list(page_size=100)
    assert whole.total == len(whole.records) > 10
    assert (await walk.client.products.list(page=1, page_size=7)).records == whole.records[7:14]


@walks("products.variants")
async def product_variants(walk: Walk) -> None:
    product = (await walk.client.products.list(page_size=1)).values[0]
    found = await walk.client.products.variants(product["id"])
    assert found.values == product["variants"] != []
    with pytest.raises(NotFound):
        await walk.client.products.variants("nobody")


@walks("products.create")
async def create_product(walk: Walk) -> None:
    product = await new_product(walk)
    assert (product["name"], product["description"], product["variants"]) == ("Kite", "flies", [])
    assert await read_product(walk, product["id"]) == product
    await walk.was_made("product", product["id"])


@walks("products.search")
async def search_products(walk: Walk) -> None:
    product = await new_product(walk)
    assert (await walk.client.products.search(extra={"name": "Kite"})).values == [product]
    assert len((await walk.client.products.search(page_size=4)).records) == 4


@walks("products.create_many")
async def create_products(walk: Walk) -> None:
    reply = await walk.client.products.create_many([{"name": "Kite"}, {"name": ""}, {"name": "Drum"}])
    assert [item.ok for item in reply.items] == [True, False, True]
    assert reply.items[1].errors[0].property_name == "name"
    for item, name in ((reply.items[0], "Kite"), (reply.items[2], "Drum")):
        assert item.id is not None
        read = await read_product(walk, item.id)
        assert read is not None
        assert read["name"] == name
        await walk.was_made("product", item.id)


@walks("products.update_many")
async def update_products(walk: Walk) -> None:
    one, other = await new_product(walk), await new_product(walk)
    changes = [
        {"id": other["id"], "name": "Drum"},
        {"id": "nobody", "name": "x"},
        {"id": one["id"], "name": "Fife"},
    ]
    async with (
        walk.leaves("product", one["id"], name="Fife"),
        walk.leaves("product", other["id"], name="Drum"),
    ):
        reply = await walk.client.products.update_many(changes)
    assert [(item.ok, item.status) for item in reply.items] == [(True, 200), (False, 404), (True, 200)]


@walks("products.update")
async def update_product(walk: Walk) -> None:
    product = await new_product(walk)
    async with walk.leaves("product", product["id"], name="Drum"):
        await walk.client.products.update(product["id"], {"name": "Drum"})
    read = await read_product(walk, product["id"])
    assert read is not None
    assert (read["name"], read["description"]) == ("Drum", None)  # a replacement


@walks("products.delete")
async def delete_product(walk: Walk) -> None:
    product = await new_product(walk)
    async with walk.leaves("product", product["id"], action="Deleted"):
        await walk.client.products.delete(product["id"])
    assert await read_product(walk, product["id"]) is None


@walks("products.audit_logs")
async def product_audit_logs(walk: Walk) -> None:
    product = await new_product(walk)
    await check_log(walk, await walk.client.products.audit_logs(product["id"]))


# Variants


async def new_variant(walk: Walk) -> Record:
    product = await new_product(walk)
    price = {"amount": 12.5, "currency": "USD", "currencies": []}
    return (
        await walk.client.variants.create({"productId": product["id"], "sku": "KITE-RED", "price": price})
    ).fields


@walks("variants.update")
async def update_variant(walk: Walk) -> None:
    made = await new_variant(walk)
    async with (
        walk.leaves("variant", made["id"], sku="KITE-BLU"),
        walk.leaves("product", made["productId"]),
    ):
        await walk.client.variants.update(made["productId"], made["id"], {"sku": "KITE-BLU"})
    (read,) = (await walk.client.products.variants(made["productId"])).values
    assert (read["id"], read["sku"]) == (made["id"], "KITE-BLU")


@walks("variants.delete")
async def delete_variant(walk: Walk) -> None:
    made = await new_variant(walk)
    async with walk.leaves("variant", made["id"], action="Deleted"):
        await walk.client.variants.delete(made["id"])
    assert (await walk.client.products.variants(made["productId"])).records == ()


@walks("variants.create")
async def create_variant(walk: Walk) -> None:
    made = await new_variant(walk)
    assert (made["sku"], made["price"]["amount"]) == ("KITE-RED", 12.5)
    assert (await walk.client.products.variants(made["productId"])).values == [made]
    with pytest.raises(ApiError, match="SKU"):
        await walk.client.variants.create({"productId": made["productId"], "sku": "KITE-RED"})
    await walk.was_made("variant", made["id"])


@walks("variants.search")
async def search_variants(walk: Walk) -> None:
    made = await new_variant(walk)
    assert (await walk.client.variants.search(extra={"sku": "KITE-RED"})).values == [made]
    page = await walk.client.variants.search(page=3, page_size=10)
    assert len(page.records) == 10


@walks("variants.audit_logs")
async def variant_audit_logs(walk: Walk) -> None:
    made = await new_variant(walk)
    await check_log(walk, await walk.client.variants.audit_logs(made["id"]))
