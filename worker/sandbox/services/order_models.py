"""Orders from the body of "Create a New Order", and the changes of "Update order data".

The body is documented (`CreateOrderModel`). The rule that an update accepts the fields that describe the order and the
address, but not those that the service sets, is invented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from worker.ordermesh.contract.operations import OPERATIONS
from worker.sandbox.answers import Refusal, refusal
from worker.sandbox.data.orders import PRODUCTS, format_ticks, money
from worker.sandbox.openapi.validation import check_body

if TYPE_CHECKING:
    from worker.sandbox.data.orders import Order, OrderFactory

CHANGEABLE = frozenset(
    {
        "shippingAddress",
        "billingAddress",
        "returnAddress",
        "externalId",
        "languageCode",
        "isTest",
        "isSample",
        "client",
        "meta",
        "customerShippingMethod",
        "customerTotal",
        "customerItemTotal",
        "customerTotalShipping",
        "customerTotalTaxes",
        "customerTotalDiscountAndPromotions",
        "customerPaymentMethods",
    }
)
"""Fields of an order that a client may change."""

CHANGEABLE_OF_ITEM = frozenset(
    {
        "externalId",
        "sku",
        "quantity",
        "images",
        "options",
        "attributes",
        "clientAttributes",
        "meta",
        "isSample",
        "skipImgManip",
        "skipImageValidation",
        "skipSkuValidation",
    }
)
"""Fields of an item that a client may change."""

_CURRENCIES = frozenset({"USD", "CAD", "EUR"})
_LANGUAGES = frozenset({"en", "es", "pt"})
_PRICES = {sku: cents for sku, _, _, cents in PRODUCTS}
_UNLISTED = 1_000
_SHIPPING = 499


def new_order(body: dict[str, Any], factory: OrderFactory, at: int) -> Order:
    """Return the order that a body describes, open, created at this time in ticks.

    Raises:
        Refusal: 400, a field of the body is invalid.
    """
    currency = body.get("currencyCode") or "USD"
    language = (body.get("languageCode") or "en").lower()
    if currency not in _CURRENCIES:
        raise refusal(400, "'currencyCode' must be USD, CAD or EUR.", "currencyCode", currency)
    if language not in _LANGUAGES:
        raise refusal(400, "'languageCode' must be en, es or pt.", "languageCode", language)
    if not body["items"]:
        raise refusal(400, "'items' must not be empty.", "items")
    for position, item in enumerate(body["items"]):
        _check_item(item, f"items[{position}].")
    order_id, short_id = factory.next_order(at)
    stamp = format_ticks(at)
    items = [_new_item(each, factory, at, currency) for each in body["items"]]
    return {
        "items": items,
        **_totals(items, currency, _SHIPPING),
        "reprint": None,
        "facilityNames": [],
        "shipmentCreatedDates": [],
        "shipmentIds": [],
        "id": order_id,
        "shortId": short_id,
        "shippingAddress": body["shippingAddress"],
        "billingAddress": body.get("billingAddress"),
        "returnAddress": body.get("returnAddress"),
        "safeId": body.get("safeId") or factory.next_safe_id(),
        "externalId": body.get("externalId"),
        "merchantId": body.get("merchantId") or factory.merchants[0],
        "status": "Open",
        "statusDesc": None,
        "createdAt": stamp,
        "updatedAt": None,
        "processedAt": None,
        "cancelledAt": None,
        "languageCode": language,
        "currencyCode": currency,
        "isTest": bool(body.get("isTest")),
        "isSample": bool(body.get("isSample")),
        "client": body.get("client"),
        "meta": body.get("meta") or {},
        "customerShippingMethod": body.get("customerShippingMethod") or "Standard",
        "customerTotal": body.get("customerTotal"),
        "customerItemTotal": body.get("customerItemTotal"),
        "customerTotalShipping": body.get("customerTotalShipping"),
        "customerTotalTaxes": body.get("customerTotalTaxes"),
        "customerTotalDiscountAndPromotions": body.get("customerTotalDiscountAndPromotions"),
        "customerPaymentMethods": body.get("customerPaymentMethods") or [],
    }


def changes(body: dict[str, Any], record: Order, changeable: frozenset[str], schema: str) -> Order:
    """Return the fields of a record that a body changes; objects, such as an address, are changed field by field.

    Unknown fields are ignored without an error.

    Args:
        body: The body.
        record: The record before the change.
        changeable: Fields that may be changed.
        schema: Name of the schema that the changed record must match, since the bodies of updates have no schema.

    Raises:
        Refusal: 400, a field is not changeable or has another type.
    """
    for name, value in body.items():
        # A client may read a record, change it and send all of its fields back, so unchanged fields are accepted.
        if name in record and name not in changeable and value != record[name]:
            raise refusal(400, f"'{name}' cannot be changed by an update.", name, _plain(value))
    changed = {
        name: record[name] | value
        if isinstance(record.get(name), dict) and isinstance(value, dict)
        else value
        for name, value in body.items()
        if name in changeable
    }
    operation = msgspec.structs.replace(OPERATIONS["orders.update"], request=schema)
    rejection = check_body(operation, msgspec.json.encode(record | changed))
    if rejection is not None:
        raise Refusal(rejection)
    return changed


def change_item(order: Order, item: Order, body: dict[str, Any]) -> None:
    """Change an item of an order; another SKU or quantity also changes its price and the totals of the order.

    Raises:
        Refusal: 400, a field is not changeable, or a value is invalid.
    """
    changed = changes(body, item, CHANGEABLE_OF_ITEM, "GetOrderItemModel")
    _check_item({"sku": item["sku"], "quantity": item["quantity"]} | changed, "")
    if "images" in changed:
        changed["images"] = [_image(each) for each in changed["images"] or []]
    if "sku" in changed and changed["sku"] != item["sku"]:
        changed["originalSKU"] = item["originalSKU"] or item["sku"]
    item |= changed
    currency, cents = order["currencyCode"], _price(item["sku"])
    item["merchantPrice"] = money(currency, cents)
    item["merchantItemTotal"] = money(currency, cents * item["quantity"])
    order |= _totals(order["items"], currency, round(order["merchantShippingTotal"]["amount"] * 100))


def _totals(items: list[Order], currency: str, shipping: int) -> Order:
    goods = sum(round(item["merchantItemTotal"]["amount"] * 100) for item in items)
    tax = goods // 12
    return {
        "merchantItemTotal": money(currency, goods),
        "merchantTaxTotal": money(currency, tax),
        "merchantShippingTotal": money(currency, shipping),
        "merchantTotal": money(currency, goods + tax + shipping),
    }


def _check_item(item: dict[str, Any], prefix: str) -> None:
    sku, quantity = item["sku"], item["quantity"]
    if not isinstance(sku, str) or not sku.strip():
        raise refusal(400, f"'{prefix}sku' must not be empty.", f"{prefix}sku", _plain(sku))
    if not isinstance(quantity, int) or isinstance(quantity, bool) or not 1 <= quantity <= 10_000:
        sentence = f"'{prefix}quantity' must be a whole number from 1 to 10000."
        raise refusal(400, sentence, f"{prefix}quantity", _plain(quantity))


def _new_item(body: dict[str, Any], factory: OrderFactory, at: int, currency: str) -> Order:
    item_id, short_id = factory.next_item(at)
    cents = _price(body["sku"])
    return {
        "id": item_id,
        "shortId": short_id,
        "externalId": body.get("externalId"),
        "sku": body["sku"],
        "originalSKU": body.get("originalSKU"),
        "quantity": body["quantity"],
        "status": "Open",
        "statusDesc": None,
        "createdAt": format_ticks(at),
        "updatedAt": None,
        "processedAt": None,
        "cancelledAt": None,
        "images": [_image(item) for item in body.get("images") or []],
        "options": body.get("options") or [],
        "attributes": body.get("attributes") or [],
        "customerSubtotal": None,
        "customerPrice": None,
        "customerShippingPrice": None,
        "customerTaxes": None,
        "merchantPrice": money(currency, cents),
        "merchantShippingPrice": None,
        "merchantTax": None,
        "merchantSubTotal": None,
        "merchantItemTotal": money(currency, cents * body["quantity"]),
        "clientAttributes": body.get("clientAttributes") or {},
        "meta": body.get("meta") or {},
        "isSample": bool(body.get("isSample")),
        "skipImgManip": bool(body.get("skipImgManip")),
        "skipImageValidation": bool(body.get("skipImageValidation")),
        "skipSkuValidation": bool(body.get("skipSkuValidation")),
        "fulfillmentReady": None,
        "refundData": None,
    }


def _price(sku: str) -> int:
    """Return the price in cents. Unknown SKUs have a price too, since orders for them are accepted."""
    return _PRICES.get(sku, _UNLISTED)


def _image(body: dict[str, Any]) -> Order:
    return {
        "url": body.get("url"),
        "thumbnailUrl": body.get("thumbnailUrl"),
        "area": body.get("area"),
        "printMethod": body.get("printMethod"),
        "ourUrl": body.get("ourUrl"),
        "ourFileId": body.get("ourFileId"),
        "ourThumbnailUrl": body.get("ourThumbnailUrl"),
        "ourThumbnailFileId": body.get("ourThumbnailFileId"),
        "vendorReadyFileId": body.get("vendorReadyFileId"),
    }


def _plain(value: object) -> str | int | None:
    return value if isinstance(value, str | int) else None
