"""The catalog service of the sandbox: categories, products and variants, and their audit logs."""

import json
from random import Random
from typing import Any

from tests.support.sandbox_api import PRICE, SandboxApi
from worker.sandbox import SandboxServer, ServedContract
from worker.sandbox.data.catalog_data import make_catalog
from worker.sandbox.data.orders import PRODUCTS


def category(api: SandboxApi, name: str = "Stickers") -> Any:
    return api.do("categories.create", {"name": name})


def product(api: SandboxApi, *skus: str, **fields: Any) -> Any:
    """A new product with variants of these SKUs."""
    made = api.do("products.create", {"name": "Sticker sheet"} | fields)
    for sku in skus:
        api.do("variants.create", {"productId": made["id"], "sku": sku, "price": PRICE})
    return one(api, made["id"])


def one(api: SandboxApi, product_id: str) -> Any:
    """A product: there is no operation that reads it alone."""
    products = api.do("products.list", query={"pageSize": 500})["products"]
    return next(each for each in products if each["id"] == product_id)


def test_the_start_set(api: SandboxApi) -> None:
    """Six categories, forty products, four variants of each, two merchant catalogs of which one is enabled."""
    categories = api.do("categories.list")["categories"]
    products = api.do("products.list")["products"]
    variants = api.do("variants.search", query={"pageSize": 500})["variants"]
    catalogs = api.do("merchant_catalogs.list")["merchantCatalogs"]
    assert (len(categories), len(products), len(variants), len(catalogs)) == (6, 40, 160, 2)
    assert [each["isEnabled"] for each in catalogs] == [True, False]
    assert {each["id"] for one in products for each in one["categories"]} == {
        each["id"] for each in categories
    }
    assert [each for one in products for each in one["variants"]] == variants
    assert len({each["sku"] for each in variants}) == 160
    assert all(len(each["id"]) == 24 for each in (*categories, *products, *variants, *catalogs))
    assert all(each["createdAt"].endswith("Z") for each in (*categories, *products, *variants, *catalogs))
    assert {each["updatedAt"] is None for each in products} == {True, False}


def test_what_orders_ask_for_is_in_the_catalog() -> None:
    """The SKUs of the made-up orders are among the variants."""
    assert {sku for sku, *_ in PRODUCTS} <= {each["sku"] for each in make_catalog(Random(5)).variants}


def test_the_same_seed_gives_the_same_catalog() -> None:
    """The same seed, the same bytes."""
    first = json.dumps(make_catalog(Random(1)))
    assert json.dumps(make_catalog(Random(1))) == first
    assert json.dumps(make_catalog(Random(2))) != first


# Categories


def test_the_life_of_a_category(api: SandboxApi) -> None:
    """Created, changed, deleted; each step in its audit logs."""
    made = api.send("categories.create", {"name": "Stickers", "description": "round and square"})
    assert made.status_code == 201
    before = made.json()
    assert before["updatedAt"] is None
    after = api.do("categories.update", {"name": "Decals"}, id=before["id"])
    assert after == before | {"name": "Decals", "description": None, "updatedAt": after["updatedAt"]}
    assert api.send("categories.delete", id=before["id"]).status_code == 204
    api.refused(404, "categories.delete", id=before["id"])
    api.refused(404, "categories.update", {"name": "x"}, id=before["id"])
    assert api.audited("categories.audit_logs", id=before["id"]) == ["Created", "Updated", "Deleted"]


def test_a_category_of_products_shows_in_them(api: SandboxApi) -> None:
    """A new name moves its products too; while it has products it is not deleted."""
    mine = category(api)
    made = product(api, categoryIds=[mine["id"]])
    assert made["categories"] == [{"id": mine["id"], "name": "Stickers"}]
    api.do("categories.update", {"name": "Decals"}, id=mine["id"])
    assert one(api, made["id"])["categories"] == [{"id": mine["id"], "name": "Decals"}]
    assert one(api, made["id"])["updatedAt"] is not None
    assert api.audited("products.audit_logs", productId=made["id"]) == ["Created", "Updated"]
    assert "products: 1" in api.refused(400, "categories.delete", id=mine["id"])["errorMessage"]
    api.do("products.delete", productId=made["id"])
    api.do("categories.delete", id=mine["id"])


def test_names_of_categories_are_their_own(api: SandboxApi) -> None:
    """Neither a new nor a renamed category takes the name of another; keeping its own is no matter."""
    mine = category(api)
    assert api.refused(400, "categories.create", {"name": "Stickers"})["propertyName"] == "name"
    api.refused(400, "categories.update", {"name": "Drinkware"}, id=mine["id"])
    api.do("categories.update", {"name": "Stickers"}, id=mine["id"])
    api.refused(400, "categories.create", {"name": " "})


# Products


def test_the_life_of_a_product(api: SandboxApi) -> None:
    """An update replaces every field of the body and leaves the variants; a deletion takes them with it."""
    made = product(api, "STICKER-A", "STICKER-B", description="a sheet", status="Draft")
    assert [each["sku"] for each in made["variants"]] == ["STICKER-A", "STICKER-B"]
    after = api.do("products.update", {"name": "Sheet of stickers"}, productId=made["id"])
    assert (after["name"], after["description"], after["status"]) == ("Sheet of stickers", None, "Active")
    assert after["variants"] == made["variants"]
    assert after["updatedAt"] > made["updatedAt"] > made["createdAt"]
    listed = api.do("products.variants", productId=made["id"])
    assert listed == {"variants": made["variants"]}
    assert api.send("products.delete", productId=made["id"]).status_code == 204
    assert api.do("variants.search", query={"productId": made["id"]})["total"] == 0
    for each in made["variants"]:
        logs = api.audited("variants.audit_logs", variantId=each["id"])
        assert logs == ["Created", "Deleted"]
    actions = api.audited("products.audit_logs", productId=made["id"])
    assert actions == ["Created", "Updated", "Updated", "Updated", "Deleted"]
    api.refused(404, "products.variants", productId=made["id"])


def test_products_are_found_by_name_and_status(api: SandboxApi) -> None:
    """A search gives what has these values, and counts it."""
    made = product(api, name="Odd thing", status="Draft")
    for query in ({"name": "Odd thing"}, {"status": "Draft"}):
        page = api.do("products.search", query=query)
        assert (page["products"], page["total"]) == ([made], 1)
    assert api.do("products.search")["total"] == 41


def test_products_in_bulk(api: SandboxApi) -> None:
    """Items are done or refused one by one; each result tells which item it is of."""
    made = api.do(
        "products.create_many",
        {
            "bulk": [
                {"name": "One"},
                {"name": " "},
                {"name": "Three", "categoryIds": ["no-such"]},
                {"name": 4},
            ]
        },
    )["items"]
    assert [(each["index"], each["isSuccess"], each["statusCode"]) for each in made] == [
        (0, True, 201),
        (1, False, 400),
        (2, False, 400),
        (3, False, 400),
    ]
    assert [each["errors"][0]["propertyName"] for each in made[1:]] == ["name", "categoryIds", "name"]
    assert one(api, made[0]["id"])["name"] == "One"

    changed = api.do(
        "products.update_many",
        {"bulk": [{"id": "no-such", "name": "x"}, {"id": made[0]["id"], "name": "Uno"}, {"name": "nobody"}]},
    )["items"]
    assert [(each["id"], each["statusCode"]) for each in changed] == [
        ("no-such", 404),
        (made[0]["id"], 200),
        (None, 404),
    ]
    assert one(api, made[0]["id"])["name"] == "Uno"
    assert api.audited("products.audit_logs", productId=made[0]["id"]) == ["Created", "Updated"]
    api.refused(400, "products.create_many", {"bulk": {}})


# Variants


def test_the_life_of_a_variant(api: SandboxApi) -> None:
    """A variant and its product change together, with an audit entry on both."""
    made = product(api, "STICKER-A")
    (variant,) = made["variants"]
    path = {"productId": made["id"], "variantId": variant["id"]}
    answer = api.do("variants.update", {"sku": "STICKER-Z", "price": None}, **path)
    assert (answer["sku"], answer["price"], answer["createdAt"]) == ("STICKER-Z", None, variant["createdAt"])
    after = one(api, made["id"])
    assert after["variants"] == [answer]
    assert after["updatedAt"] == answer["updatedAt"] > made["updatedAt"]
    assert api.send("variants.delete", variantId=variant["id"]).status_code == 204
    assert one(api, made["id"])["variants"] == []
    logs = api.audited("variants.audit_logs", variantId=variant["id"])
    assert logs == ["Created", "Updated", "Deleted"]
    assert api.audited("products.audit_logs", productId=made["id"]) == ["Created", *["Updated"] * 3]


def test_skus_are_unique(api: SandboxApi) -> None:
    """No two variants have one SKU, of whatever products; a variant may keep its own."""
    made = product(api, "STICKER-A", "STICKER-B")
    first, second = made["variants"]
    body = {"productId": made["id"], "sku": "MUG-11OZ-WHT"}
    assert api.refused(400, "variants.create", body)["propertyName"] == "sku"
    path = {"productId": made["id"], "variantId": first["id"]}
    api.refused(400, "variants.update", {"sku": second["sku"]}, **path)
    api.do("variants.update", {"sku": first["sku"]}, **path)


def test_a_variant_of_nothing_is_refused(api: SandboxApi) -> None:
    """The product must exist, and a variant is changed under its own product alone."""
    error = api.refused(404, "variants.create", {"productId": "no-such", "sku": "X"})
    assert (error["propertyName"], error["attemptedValue"]) == ("productId", "no-such")
    mine, other = product(api, "STICKER-A"), product(api, "STICKER-B")
    path = {"productId": other["id"], "variantId": mine["variants"][0]["id"]}
    assert api.refused(404, "variants.update", {"sku": "X"}, **path)["propertyName"] == "variantId"


def test_what_a_merchant_sells_stays(api: SandboxApi) -> None:
    """Variants of a merchant catalog are neither deleted nor given another SKU, nor is their product deleted."""
    used = api.do("merchant_catalogs.effective_variants")["variants"][0]
    (variant,) = api.do("variants.search", query={"sku": used["sku"]})["variants"]
    path = {"productId": used["productId"], "variantId": variant["id"]}
    for key in ("variants.delete", "products.delete"):
        path_of = {name: value for name, value in path.items() if name.removesuffix("Id") in key}
        assert used["sku"] in api.refused(400, key, **path_of)["errorMessage"]
    api.refused(400, "variants.update", {"sku": "OTHER"}, **path)


# Contracts


def test_lists_follow_the_contract() -> None:
    """Bare lists, pages from 0, and the other shape of audit logs, in the catalog as everywhere."""
    contract = ServedContract(wrapper_key=None, page_base=0, max_page_size=15, audit_shape="bare")
    with SandboxServer(orders=1, contract=contract) as server, SandboxApi(server) as api:
        assert len(api.do("products.list", query={"page": 2, "pageSize": 100})) == 10
        assert len(api.do("merchant_catalogs.effective_variants")) > 50
        variants = api.do("products.variants", productId=server.world.products.ids()[0])
        assert variants[0]["sku"] == "TSHIRT-UNI-BLK-M"
        made = api.do("categories.create", {"name": "Stickers"})
        (entry,) = api.do("categories.audit_logs", id=made["id"])
        assert entry["eventType"] == "category.Created"
