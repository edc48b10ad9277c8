"""Typed bodies: what they put on the wire, and that they are what the table of schemas says."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import pytest

from worker.ordermesh import bodies
from worker.ordermesh.bodies import (
    AddRefundItemModel,
    AddRefundModel,
    AddressModel,
    APIClientInfoModel,
    BaseAddressModel,
    BillingInfoModel,
    CoordinatesModel,
    CreateNoteModel,
    CreateOrderCustomerPaymentMethodModel,
    CreateOrderCustomerTransactionModel,
    CreateOrderItemImageModel,
    CreateOrderItemModel,
    CreateOrderModel,
    CreatePackageDTO,
    DecorationModel,
    MerchantVariantAttributeDto,
    MerchantVariantDto,
    Model,
    MultiPrice,
    PatchMerchantCatalogDto,
    Price,
    PrintImageModel,
    Reroute,
    RerouteOrderItem,
    ResourceReferenceModel,
    UpdateMerchantCatalogDto,
    as_fields,
)
from worker.ordermesh.schemas import BASIC_TYPES, SCHEMAS, element

MODELS = [
    each
    for _, each in inspect.getmembers(bodies, inspect.isclass)
    if issubclass(each, Model) and each is not Model
]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda each: each.__name__)


@every_model
def test_fields_are_those_of_the_table(model: type[Model]) -> None:
    """Each stands in the table of schemas under its name, with these fields and these alone."""
    schema = SCHEMAS[model.__name__]
    known = {each.name: each for each in schema.fields}
    fields = {each.encode_name: each for each in msgspec.structs.fields(model)}
    assert set(fields) == set(known) - NOT_SENT.get(model.__name__, set())
    mandatory = {name for name, each in fields.items() if each.required}
    assert mandatory == {name for name, each in known.items() if each.required}


NOT_SENT = {"Price": {"tax"}}
"""Fields of a schema that one name stands for in two services: the shipment service alone has a tax."""


@every_model
def test_types_are_those_of_the_table(model: type[Model]) -> None:
    """Text is text, a number is a number, a list of addresses is one; every field but a mandatory one may be null."""
    written = msgspec.json.schema(model)["$defs"][model.__name__]["properties"]
    for each in SCHEMAS[model.__name__].fields:
        if each.name not in written:
            continue
        types = [
            part
            for part in written[each.name].get("anyOf", [written[each.name]])
            if part.get("type") != "null"
        ]
        assert types
        for type_ in types:
            assert fits(type_, each.type), (each, type_)


def fits(written: dict[str, Any], told: str) -> bool:
    """Whether a JSON schema says what the table says."""
    if told.startswith("["):
        return written.get("type") == "array" and fits(written["items"], element(told))
    if "$ref" in written:
        return str(written["$ref"]).endswith(f"/{told}")
    if told not in BASIC_TYPES:
        # An enumeration, or an object of which nothing is known.
        told = SCHEMAS[told].type
    return (
        told == "any" or written.get("type") == told or (told, written.get("type")) == ("number", "integer")
    )


@every_model
def test_the_source_is_named(model: type[Model]) -> None:
    """Each docstring says where its fields are known from."""
    text = model.__doc__ or ""
    assert "Source" in text or "nferred" in text
    documented = any(each.documented for each in SCHEMAS[model.__name__].fields)
    assert documented or "nferred" in text


def test_an_order() -> None:
    """The vendor's sample of a new order, as far as it is stored, byte for byte in its spellings."""
    order = CreateOrderModel(
        safe_id="UniqueSafeID12345",
        merchant_id="8f2d7a52-53a4-4d0e-a6b5-d1ef2f6b1a11",
        shipping_address=BaseAddressModel(
            first_name="Ada",
            last_name="Example",
            line1="1 Maple Street",
            line2=None,
            line3=None,
            city="Springfield",
            state="IL",
            zip="62701",
            country_code="US",
            phone="+15550100",
            email="ada@example.com",
        ),
        external_id="SHOP-1",
        language_code="EN",
        is_test=True,
        is_sample=False,
        client=APIClientInfoModel(source="shop", details="d", version="1", ip="192.0.2.1"),
        meta={"campaign": "spring"},
        currency_code="USD",
        customer_shipping_method="Expedited",
        customer_total=30.5,
        customer_item_total=20,
        customer_total_shipping=8,
        customer_total_taxes=2.5,
        customer_total_discount_and_promotions=0,
        customer_payment_methods=[
            CreateOrderCustomerPaymentMethodModel(
                method="CreditCard",
                sub_method="Visa",
                card_first4="4000",
                card_last4="1234",
                billing_info=BillingInfoModel(
                    full_name="Ada Example",
                    address=AddressModel(
                        city="Springfield", location=CoordinatesModel(longitude=1, latitude=2)
                    ),
                ),
                customer_transactions=[
                    CreateOrderCustomerTransactionModel(
                        total=30.5,
                        currency_code="USD",
                        transaction_date="2026-02-27T22:29:29Z",
                        transaction_id="t1",
                        authorization_code=None,
                    )
                ],
            )
        ],
        items=[
            CreateOrderItemModel(
                sku="MUG-11OZ-WHT",
                quantity=2,
                images=[
                    CreateOrderItemImageModel(
                        url="https://cdn.example.com/1.png",
                        thumbnail_url=None,
                        area="Front",
                        print_method="DTG",
                    )
                ],
            )
        ],
    )
    assert as_fields(order) == {
        "safeId": "UniqueSafeID12345",
        "merchantId": "8f2d7a52-53a4-4d0e-a6b5-d1ef2f6b1a11",
        "shippingAddress": {
            "firstName": "Ada",
            "lastName": "Example",
            "line1": "1 Maple Street",
            "line2": None,
            "line3": None,
            "city": "Springfield",
            "state": "IL",
            "zip": "62701",
            "countryCode": "US",
            "phone": "+15550100",
            "email": "ada@example.com",
        },
        "externalId": "SHOP-1",
        "languageCode": "EN",
        "isTest": True,
        "isSample": False,
        "client": {"source": "shop", "details": "d", "version": "1", "ip": "192.0.2.1"},
        "meta": {"campaign": "spring"},
        "currencyCode": "USD",
        "customerShippingMethod": "Expedited",
        "customerTotal": 30.5,
        "customerItemTotal": 20,
        "customerTotalShipping": 8,
        "customerTotalTaxes": 2.5,
        "customerTotalDiscountAndPromotions": 0,
        "customerPaymentMethods": [
            {
                "method": "CreditCard",
                "subMethod": "Visa",
                "cardFirst4": "4000",
                "cardLast4": "1234",
                "billingInfo": {
                    "fullName": "Ada Example",
                    "address": {"city": "Springfield", "location": {"longitude": 1, "latitude": 2}},
                },
                "customerTransactions": [
                    {
                        "total": 30.5,
                        "currencyCode": "USD",
                        "transactionDate": "2026-02-27T22:29:29Z",
                        "transactionId": "t1",
                        "authorizationCode": None,
                    }
                ],
            }
        ],
        "items": [
            {
                "sku": "MUG-11OZ-WHT",
                "quantity": 2,
                "images": [
                    {
                        "url": "https://cdn.example.com/1.png",
                        "thumbnailUrl": None,
                        "area": "Front",
                        "printMethod": "DTG",
                    }
                ],
            }
        ],
    }


def test_what_is_not_set_is_left_out() -> None:
    """An argument that is not given is no field; None is null."""
    assert msgspec.json.encode(Price(amount=1.5)) == b'{"amount":1.5}'
    assert msgspec.json.encode(Price(amount=1.5, currency=None)) == b'{"amount":1.5,"currency":null}'


def test_exact_spellings() -> None:
    """The spellings that camelCase would get wrong."""
    item = CreateOrderItemModel(sku="A", quantity=1, original_sku="B", skip_img_manip=True)
    assert as_fields(item) == {"sku": "A", "quantity": 1, "originalSKU": "B", "skipImgManip": True}
    package = CreatePackageDTO(order_item_ids=["i1"], carrier_tracking_number="1Z")
    assert as_fields(package) == {"orderItemIDs": ["i1"], "carrierTrackingNumber": "1Z"}


def test_a_refund() -> None:
    """As the vendor's page of the schema has it."""
    refund = AddRefundModel(
        order_id="o1",
        refunds=[AddRefundItemModel(item_id="i1", is_shipping_refund=False, amount=9.99, reason="broken")],
    )
    assert as_fields(refund) == {
        "orderId": "o1",
        "refunds": [{"itemId": "i1", "isShippingRefund": False, "amount": 9.99, "reason": "broken"}],
    }


def test_a_reroute() -> None:
    """As the vendor's page of the schema has it."""
    reroute = Reroute("s1", "F01290042", "closed", [RerouteOrderItem("i1", 2)])
    assert as_fields(reroute) == {
        "shipmentId": "s1",
        "facilityId": "F01290042",
        "reason": "closed",
        "orderItems": [{"id": "i1", "quantity": 2}],
    }


def test_a_merchant_catalog() -> None:
    """As the vendor's samples of the update and of the patch have it."""
    variant = MerchantVariantDto(
        id=None,
        sku="MUG",
        merchant_sku="M-1",
        merchant_price=MultiPrice(amount=5, currency="USD", currencies=[Price(5, "USD")]),
        skip_image_manipulation=False,
        product_id="p1",
        decorations=[
            DecorationModel(
                area="Front",
                width=10,
                height=12.5,
                dpi=300,
                method="DirectToGarment",
                price=MultiPrice(amount=1, currency="USD", currencies=[]),
                print_image=PrintImageModel(source_print_file_url="https://cdn.example.com/1.png"),
            )
        ],
        attributes=[MerchantVariantAttributeDto("Color", "White")],
    )
    wire = {
        "id": None,
        "sku": "MUG",
        "merchantSku": "M-1",
        "merchantPrice": {"amount": 5, "currency": "USD", "currencies": [{"amount": 5, "currency": "USD"}]},
        "skipImageManipulation": False,
        "productId": "p1",
        "decorations": [
            {
                "area": "Front",
                "width": 10,
                "height": 12.5,
                "dpi": 300,
                "method": "DirectToGarment",
                "price": {"amount": 1, "currency": "USD", "currencies": []},
                "printImage": {"sourcePrintFileUrl": "https://cdn.example.com/1.png"},
            }
        ],
        "attributes": [{"name": "Color", "value": "White"}],
    }
    update = UpdateMerchantCatalogDto(
        id="c1",
        name="n",
        description="d",
        is_enabled=True,
        assigned_to_sub_account_ids=["m1"],
        variants=[variant],
    )
    assert as_fields(update) == {
        "id": "c1",
        "name": "n",
        "description": "d",
        "isEnabled": True,
        "assignedToSubAccountIds": ["m1"],
        "variants": [wire],
    }
    patch = PatchMerchantCatalogDto(
        id="c1", variants_to_add=[variant], variants_skus_to_remove=["OLD"], variants_to_update=[]
    )
    assert as_fields(patch) == {
        "id": "c1",
        "variantsToAdd": [wire],
        "variantsSkusToRemove": ["OLD"],
        "variantsToUpdate": [],
    }


def test_a_note() -> None:
    """By the inferred names."""
    note = CreateNoteModel(resource=ResourceReferenceModel("o1", "order"), text="call back")
    assert as_fields(note) == {"resource": {"id": "o1", "type": "order"}, "text": "call back"}


def test_unknown_fields_go_along() -> None:
    """A dictionary is sent as it is, and a typed body can be one with more fields."""
    assert as_fields({"shoeSize": 44}) == {"shoeSize": 44}
    assert as_fields(Price(1, "USD")) | {"tax": 0.2} == {"amount": 1, "currency": "USD", "tax": 0.2}


@every_model
def test_no_customer_in_a_repr(model: type[Model]) -> None:
    """A body in a traceback or a log line tells its type and nothing else."""
    fields = {each.name: "joe@example.com" for each in msgspec.structs.fields(model)}
    assert repr(model(**fields)) == f"{model.__name__}(...)"
