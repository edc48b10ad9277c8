"""The merchant catalogs of the sandbox: which products a merchant sells, at which price, and in which catalog."""

from typing import Any

from tests.support.sandbox_api import PRICE, SandboxApi
from worker.sandbox import CLIENT_ID


def merchant_catalog(api: SandboxApi, *skus: str, **fields: Any) -> Any:
    body = {"name": "Mine", "variants": [{"sku": sku, "merchantPrice": PRICE} for sku in skus]} | fields
    return api.do("merchant_catalogs.create", body)


def test_the_life_of_a_merchant_catalog(api: SandboxApi) -> None:
    """Created, replaced by an update with its id in the body, deleted; each step in its audit logs."""
    made = merchant_catalog(api, "MUG-11OZ-WHT", "MUG-11OZ-BLK", description="mugs")
    assert made.pop("errors") == []
    assert [each["sku"] for each in made["variants"]] == ["MUG-11OZ-WHT", "MUG-11OZ-BLK"]
    assert all(len(each["id"]) == 24 and each["productId"] for each in made["variants"])
    assert api.do("merchant_catalogs.get", id=made["id"]) == made

    body = {"id": made["id"], "name": "Ours", "isEnabled": True, "variants": [{"sku": "MUG-11OZ-BLK"}]}
    after = api.do("merchant_catalogs.update", body)
    assert (after["name"], after["description"], after["isEnabled"]) == ("Ours", None, True)
    assert [each["sku"] for each in after["variants"]] == ["MUG-11OZ-BLK"]
    assert after["variants"][0]["id"] == made["variants"][1]["id"]
    assert after["updatedAt"] > made["createdAt"]

    assert api.send("merchant_catalogs.delete", id=made["id"]).status_code == 204
    api.refused(404, "merchant_catalogs.get", id=made["id"])
    assert api.refused(404, "merchant_catalogs.update", body)["propertyName"] == "id"
    logs = api.audited("merchant_catalogs.audit_logs", id=made["id"])
    assert logs == ["Created", "Updated", "Deleted"]


def test_a_partial_update(api: SandboxApi) -> None:
    """Variants are taken out, changed and added by SKU; fields that are left out or null stay."""
    made = merchant_catalog(api, "MUG-11OZ-WHT", "MUG-11OZ-BLK", description="mugs")
    after = api.do(
        "merchant_catalogs.patch",
        {
            "id": made["id"],
            "name": None,
            "isEnabled": True,
            "variantsSkusToRemove": ["MUG-11OZ-WHT"],
            "variantsToUpdate": [{"sku": "MUG-11OZ-BLK", "merchantSku": "M-1", "merchantPrice": None}],
            "variantsToAdd": [{"sku": "MUG-11OZ-RED", "merchantSku": "M-2"}],
        },
    )
    assert (after["name"], after["description"], after["isEnabled"]) == ("Mine", "mugs", True)
    assert [(each["sku"], each["merchantSku"]) for each in after["variants"]] == [
        ("MUG-11OZ-BLK", "M-1"),
        ("MUG-11OZ-RED", "M-2"),
    ]
    assert after["variants"][0]["merchantPrice"] == PRICE
    assert after["errors"] == []
    (_, entry) = api.do("merchant_catalogs.audit_logs", id=made["id"])["auditLogs"]
    assert entry["user"] == CLIENT_ID
    white, black = (each["id"] for each in made["variants"])
    assert {each["property"] for each in entry["changes"]} == {
        "isEnabled",
        f"variants[{white}]",
        f"variants[{black}].merchantSku",
        f"variants[{after['variants'][1]['id']}]",
    }


def test_skus_that_cannot_be_used_are_left_out_and_named(api: SandboxApi) -> None:
    """A partial success: the rest is done, and `errors` has one entry for each reason, as in the vendor's sample."""
    made = merchant_catalog(api, "MUG-11OZ-WHT", "NO-SUCH-1", "NO-SUCH-2")
    assert [each["sku"] for each in made["variants"]] == ["MUG-11OZ-WHT"]
    (error,) = made["errors"]
    assert (error["propertyName"], error["attemptedValue"]) == ("Variants", ["NO-SUCH-1", "NO-SUCH-2"])
    after = api.do(
        "merchant_catalogs.patch",
        {
            "id": made["id"],
            "variantsSkusToRemove": ["MUG-11OZ-BLU"],
            "variantsToUpdate": [{"sku": "MUG-11OZ-RED"}],
            "variantsToAdd": [{"sku": "MUG-11OZ-WHT"}, {"sku": "MUG-11OZ-BLK"}],
        },
    )
    assert [each["sku"] for each in after["variants"]] == ["MUG-11OZ-WHT", "MUG-11OZ-BLK"]
    assert [each["attemptedValue"] for each in after["errors"]] == [
        ["MUG-11OZ-BLU"],
        ["MUG-11OZ-RED"],
        ["MUG-11OZ-WHT"],
    ]


def test_a_merchant_catalog_needs_its_fields(api: SandboxApi) -> None:
    """A body without id or name, and variants without a SKU, are 400 and change nothing."""
    before = api.do("merchant_catalogs.list")
    known = before["merchantCatalogs"][0]["id"]
    assert api.refused(400, "merchant_catalogs.create", {})["propertyName"] == "name"
    assert api.refused(400, "merchant_catalogs.create", {"name": ""})["propertyName"] == "name"
    assert api.refused(400, "merchant_catalogs.update", {"name": "x"})["propertyName"] == "id"
    api.refused(400, "merchant_catalogs.patch", {"id": known, "name": " "})
    error = api.refused(400, "merchant_catalogs.patch", {"id": known, "variantsToAdd": [{}]})
    assert error["propertyName"] == "variantsToAdd[0].sku"
    assert api.do("merchant_catalogs.list") == before


def test_variants_are_searched_in_one_catalog(api: SandboxApi) -> None:
    """By SKU, the merchant's SKU or product, in pages."""
    made = merchant_catalog(api, "MUG-11OZ-WHT", "MUG-11OZ-BLK", "TOTE-CTN-NAT")
    product_id = made["variants"][0]["productId"]
    found = api.do("merchant_catalogs.search_variants", id=made["id"], query={"productId": product_id})
    assert [each["sku"] for each in found["variants"]] == ["MUG-11OZ-WHT", "MUG-11OZ-BLK"]
    page = api.do("merchant_catalogs.search_variants", id=made["id"], query={"page": 2, "pageSize": 2})
    assert ([each["sku"] for each in page["variants"]], page["total"]) == (["TOTE-CTN-NAT"], 3)
    api.refused(404, "merchant_catalogs.search_variants", id="no-such")


# Effective variants


def test_effective_variants_are_those_of_the_enabled_catalog(api: SandboxApi) -> None:
    """Without page parameters the whole catalog in one answer, else pages; a variant has the fields of the sample."""
    whole = api.do("merchant_catalogs.effective_variants")
    assert list(whole) == ["variants"]
    enabled = api.do("merchant_catalogs.list")["merchantCatalogs"][0]
    assert whole["variants"] == enabled["variants"]
    assert len(whole["variants"]) > 50
    page = api.do("merchant_catalogs.effective_variants", query={"page": 2, "pageSize": 10})
    assert page["variants"] == whole["variants"][10:20]
    assert page["total"] == len(whole["variants"])
    first = whole["variants"][0]
    assert list(first["merchantPrice"]) == ["currencies", "amount", "currency"]
    assert [each["name"] for each in first["attributes"]][:2] == ["TemplateURL ", "FileType"]
    assert list(first["decorations"][0])[:6] == ["area", "width", "height", "dpi", "method", "price"]


def test_another_catalog_is_enabled(api: SandboxApi) -> None:
    """The first enabled catalog counts; without one there are no effective variants."""
    first, second = api.do("merchant_catalogs.list")["merchantCatalogs"]
    api.do("merchant_catalogs.patch", {"id": first["id"], "isEnabled": False})
    assert api.do("merchant_catalogs.effective_variants") == {"variants": []}
    api.do("merchant_catalogs.patch", {"id": second["id"], "isEnabled": True})
    assert api.do("merchant_catalogs.effective_variants")["variants"] == second["variants"]


def test_a_search_falls_back_to_the_global_catalog(api: SandboxApi) -> None:
    """What the enabled catalog has comes with the merchant's SKU, the rest from the global catalog without one."""
    mine = api.do("merchant_catalogs.effective_variants")["variants"]
    own = {each["sku"] for each in mine}
    everything = api.do("merchant_catalogs.search_effective_variants", {}, query={"pageSize": 500})
    assert everything["total"] == len({each["sku"] for each in everything["variants"]}) == 160
    other = next(each for each in everything["variants"] if each["sku"] not in own)

    def search(**wanted: str) -> Any:
        return api.do("merchant_catalogs.search_effective_variants", wanted)["variants"]

    assert search(sku=mine[0]["sku"]) == [mine[0]]
    assert search(sku=other["sku"]) == [other]
    assert (other["id"], other["merchantSku"]) == (None, None)
    assert search(merchantSku=mine[0]["merchantSku"]) == [mine[0]]
    assert search(sku="no-such") == []
    assert {each["productId"] for each in search(productId=other["productId"])} == {other["productId"]}
