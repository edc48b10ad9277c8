"""Generated shipments with the fields of `ShipmentDTO`, each derived from its order.

Key order, field names and the integers follow the vendor's samples "Get details of a specific shipment" and "Get
all shipments for an order". The meanings of the integers of `shipmentStatus` are not documented; those here are
invented, and so are facilities, vendors and carriers.
"""

from __future__ import annotations

import uuid
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from worker.sandbox.data.order_fields import items_of
from worker.sandbox.data.orders import FACILITIES
from worker.sandbox.data.times import unzoned

if TYPE_CHECKING:
    from worker.sandbox.data.orders import Order
    from worker.sandbox.data.record import Record


class ShipmentStatus(IntEnum):
    """The status of a shipment."""

    ASSIGNED = 1
    UNASSIGNED = 2
    REJECTED = 3
    SHIPPED = 4
    CANCELLED = 5


LIVE = frozenset({ShipmentStatus.ASSIGNED, ShipmentStatus.UNASSIGNED, ShipmentStatus.REJECTED})
"""Statuses in which a shipment can still be changed and packed."""

_NAMES = uuid.UUID("8f1a1c0e-53f4-4d0c-8b7e-2f7f0c5d9a66")


def made_uuid(*parts: object) -> str:
    """Return a UUID that is always the same for the same parts."""
    return str(uuid.uuid5(_NAMES, "/".join(map(str, parts))))


VENDORS = {
    "F01290042": (made_uuid("vendor", 1), "Northfield Group"),
    "F01290107": (made_uuid("vendor", 2), "Imprimerie Loire"),
    "F01290311": (made_uuid("vendor", 1), "Northfield Group"),
}
"""Id and name of the vendor that runs each facility; one vendor has two."""

FACILITY_NAMES = dict(FACILITIES)

_FACILITY_IDS = {name: facility for facility, name in FACILITIES}
_MERCHANTS = ("Corner Shop", "Sample Store", "Example Prints")
_CARRIERS = (("UPS", "Ground"), ("DHL", "Parcel"), ("USPS", "Priority Mail"))
_COUNTRY_CODES = {"US": 236, "CA": 40, "FR": 76, "ES": 209, "PT": 177}
_LANGUAGE_CODES = {"en": 40, "es": 43, "pt": 131}
_ITEM_STATUSES = {"Open": 1, "In Production": 2, "Fulfilled": 3, "Cancelled": 4}
_TEN_DIGITS = 10**10


def item_status(status: object) -> int:
    """Return the status of an item in the shipment service."""
    return _ITEM_STATUSES.get(str(status), 1)


def derive(order: Order, index: int, shipment_id: str) -> Record:
    """Return the shipment at this position of the order's `shipmentIds`, derived from the current order.

    The first shipment has all items; a later one has one of them, like an additional parcel. The first shipment of a
    fulfilled order has been sent, in one package.
    """
    items = items_of(order)
    if index > 0:
        items = items[index % len(items) :][:1] if items else []
    name = _at(order.get("facilityNames"), index)
    facility = _FACILITY_IDS.get(str(name), FACILITIES[index % len(FACILITIES)][0])
    created = unzoned(_at(order.get("shipmentCreatedDates"), index)) or unzoned(order.get("createdAt"))
    record = build(order, shipment_id, facility, {item["id"]: None for item in items}, created)
    changed = unzoned(order.get("updatedAt")) or created
    record["lastModifiedDate"] = changed
    status = order.get("status")
    if status == "Cancelled":
        record["shipmentStatus"] = ShipmentStatus.CANCELLED
    elif status == "Fulfilled" and index == 0:
        ship(record, changed)
    elif number_of(shipment_id) % 50 == 0:
        record["isPollingStopped"] = True
    return record


def build(
    order: Order, shipment_id: str, facility: str, items: dict[str, int | None], now: str | None
) -> Record:
    """Return a new shipment of an order.

    Args:
        order: The order.
        shipment_id: The id of the shipment.
        facility: The id of the facility that makes it.
        items: The ids of its items, each with the quantity; None for the quantity in the order.
        now: The time in the format of the shipment service.
    """
    chosen = [item for item in items_of(order) if item["id"] in items]
    lines = [_line(each, items[each["id"]]) for each in chosen]
    goods = sum(line["merchantPrice"]["amount"] * line["quantity"] for line in lines)
    tax, shipping = round(goods / 12, 2), round(3.99 + len(lines), 2)
    cost = round(goods * 0.7, 2)
    merchant = str(order.get("merchantId"))
    country = str(_of(order.get("shippingAddress"), "countryCode") or "US")
    language = str(order.get("languageCode") or "en")
    carrier, method = _CARRIERS[number_of(shipment_id) % len(_CARRIERS)]
    return {
        "id": shipment_id,
        "merchantId": merchant,
        "merchantName": _MERCHANTS[number_of(merchant) % len(_MERCHANTS)],
        **_facility(facility),
        "orderId": order.get("id"),
        "shortId": f"S{number_of(shipment_id) % _TEN_DIGITS:010d}",
        "orderExternalId": order.get("externalId"),
        "merchantOrderId": order.get("externalId"),
        "safeId": order.get("safeId"),
        "customerId": made_uuid("customer", order.get("id")),
        "customerShippingAddressId": number_of(shipment_id) % 10_000_000,
        "merchantPaymentId": None,
        "shippingCountryCodeISO": _COUNTRY_CODES.get(country, 236),
        "shippingCountryCode": country,
        "shipmentStatus": ShipmentStatus.ASSIGNED,
        "isRejectedByVendor": False,
        "shippingMethod": order.get("customerShippingMethod"),
        "isPollingStopped": False,
        "currencyCode": order.get("currencyCode"),
        "languageCodeISO": _LANGUAGE_CODES.get(language, 40),
        "languageCode": language,
        "transactionalCostModel": "transactional",
        "createdDate": now,
        "orderCreatedDate": unzoned(order.get("createdAt")),
        "lastModifiedDate": now,
        "merchantOrderTotal": _of(order.get("merchantTotal"), "amount"),
        "merchantPackageTotal": round(goods, 2),
        "merchantTaxTotal": tax,
        "merchantShippingTotal": shipping,
        "packageTotal": cost,
        "taxTotal": round(cost / 12, 2),
        "shippingTotal": shipping,
        "total": round(cost + cost / 12 + shipping, 2),
        "costTotal": cost,
        "costTaxTotal": round(cost / 12, 2),
        "costShippingTotal": shipping,
        "costShippingTaxTotal": 0.0,
        "packages": [],
        "orderItemIDs": [line["id"] for line in lines],
        "orderItems": lines,
        "selectedShippingMapping": {
            "carrierName": carrier,
            "type": "Detailed",
            "shippingMethods": [{"name": method}],
        },
    }


def move(shipment: Record, facility: str) -> None:
    """Move a shipment to another facility and its vendor."""
    shipment |= _facility(facility)


def ship(shipment: Record, now: str | None) -> None:
    """Send a shipment. Items that are not packed go into a new package with a tracking number."""
    packed = {item for package in shipment["packages"] for item in package["orderItemIDs"]}
    unpacked = [item for item in shipment["orderItemIDs"] if item not in packed]
    if unpacked:
        mapping = shipment["selectedShippingMapping"]
        method = _at(_of(mapping, "shippingMethods"), 0)
        number = f"1Z{number_of(shipment['id']) % _TEN_DIGITS:012d}"
        body = {
            "carrierName": _of(mapping, "carrierName"),
            "carrierMethodName": _of(method, "name"),
            "carrierTrackingNumber": number,
            "carrierLink": f"https://tracking.example.com/{number}",
            "shippedDate": now,
            "fulfilledDate": now,
        }
        package_id = made_uuid("package", shipment["id"], *unpacked)
        shipment["packages"].append(new_package(shipment, package_id, body, dict.fromkeys(unpacked)))
    shipment["shipmentStatus"] = ShipmentStatus.SHIPPED
    _set_lines(shipment, "Fulfilled")


def take_back(shipment: Record) -> None:
    """Undo the sending of a shipment: it is at its facility again."""
    shipment["shipmentStatus"] = ShipmentStatus.ASSIGNED
    _set_lines(shipment, "In Production")


def new_package(
    shipment: Record, package_id: str, body: dict[str, Any], items: dict[str, int | None]
) -> Record:
    """Return a package for items of a shipment, with the fields of `PackageDTO`; the caller adds it."""
    quantities = {line["id"]: line["quantity"] for line in shipment["orderItems"]}
    return {
        "id": package_id,
        "shortId": f"P{number_of(package_id) % _TEN_DIGITS:010d}",
        "shipmentId": shipment["id"],
        "carrierName": body.get("carrierName"),
        "carrierMethodName": body.get("carrierMethodName"),
        "shippedDate": body.get("shippedDate"),
        "fulfilledDate": body.get("fulfilledDate"),
        "carrierTrackingNumber": body.get("carrierTrackingNumber"),
        "carrierLink": body.get("carrierLink"),
        "carrierAccount": bool(body.get("carrierAccount")),
        "orderItemIDs": list(items),
        "packageOrderItems": [
            {"orderItemId": item, "quantity": quantities.get(item) if quantity is None else quantity}
            for item, quantity in items.items()
        ],
        "packingSlipId": made_uuid("packing slip", package_id),
    }


def number_of(text: str) -> int:
    """Return a whole number that is always the same for the same id."""
    try:
        return int(text.replace("-", "")[-12:], 16)
    except ValueError:
        return sum(text.encode())


def _line(item: Order, quantity: int | None) -> Record:
    price = item.get("merchantPrice") or {"currency": "USD", "amount": 0.0}
    amount = float(_of(price, "amount") or 0)
    currency = _of(price, "currency")
    return {
        "id": item["id"],
        "shortId": item.get("shortId"),
        "sku": item.get("sku"),
        "vendorSku": f"V-{item.get('sku')}",
        "variantId": None,
        "vendorProductId": None,
        "quantity": item.get("quantity") if quantity is None else quantity,
        "status": item_status(item.get("status")),
        "merchantPrice": {"currency": currency, "amount": amount, "tax": round(amount / 12, 2)},
        "price": {"currency": currency, "amount": round(amount * 0.7, 2), "tax": round(amount * 0.7 / 12, 2)},
        "images": [
            {"area": _of(image, "area"), "ourUrl": _of(image, "ourUrl")} for image in item.get("images") or []
        ],
    }


def _set_lines(shipment: Record, status: str) -> None:
    for line in shipment["orderItems"]:
        if line["status"] != _ITEM_STATUSES["Cancelled"]:
            line["status"] = _ITEM_STATUSES[status]


def _facility(facility: str) -> Record:
    vendor_id, vendor_name = VENDORS[facility]
    return {
        "vendorId": vendor_id,
        "vendorName": vendor_name,
        "facilityId": facility,
        "facilityName": FACILITY_NAMES[facility],
    }


def _at(values: object, index: int) -> object:
    return values[index] if isinstance(values, list) and index < len(values) else None


def _of(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
