"""Generated orders with the fields of `GetOrderModel`.

Key order, field names, nulls and identifiers follow the vendor's samples "Retrieve an order by Safe ID",
"Retrieve order item by Order Item ID" and "Create a New Order". A field that only the sample of the creation shows
(customer totals, payment methods) has the form of that sample. No person is real: names are combined from lists,
phone numbers are in ranges reserved for fiction, email addresses are at example.com.
"""

from __future__ import annotations

import time
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple, TypeAlias

Order: TypeAlias = dict[str, Any]
"""One order as decoded JSON."""

TICKS_PER_SECOND = 10_000_000
"""Times are in ticks of 100 ns since 1970, the resolution of the seven fractional digits of the API."""

HISTORY_START = 1_735_689_600 * TICKS_PER_SECOND
"""Creation of the first order of a history, 2025-01-01. It is fixed, so that a seed determines the bytes."""

HISTORY_STEP = 90 * TICKS_PER_SECOND
"""Mean time between two orders of a history: 100,000 orders span 104 days."""

DEFAULT_RECORD_BYTES = 2_500
"""Mean size of an order as compact JSON."""


class _Place(NamedTuple):
    country: str
    currency: str
    language: str
    dial: str
    cities: tuple[tuple[str, str | None, str], ...]


_PLACES = (
    _Place(
        "US",
        "USD",
        "en",
        "+1",
        (
            ("Springfield", "IL", "62701"),
            ("Riverton", "UT", "84065"),
            ("Portland", "OR", "97201"),
            ("Asheville", "NC", "28801"),
            ("Boulder", "CO", "80302"),
            ("Madison", "WI", "53703"),
        ),
    ),
    _Place(
        "CA",
        "CAD",
        "en",
        "+1",
        (("Halifax", "NS", "B3H 4R2"), ("Guelph", "ON", "N1G 2W1"), ("Laval", "QC", "H7N 5X9")),
    ),
    _Place(
        "FR",
        "EUR",
        "en",
        "+33",
        (("Nantes", None, "44000"), ("Besançon", None, "25000"), ("Lille", None, "59000")),
    ),
    _Place("ES", "EUR", "es", "+34", (("Logroño", "La Rioja", "26001"), ("Cáceres", "Extremadura", "10003"))),
    _Place("PT", "EUR", "pt", "+351", (("Évora", None, "7000-841"), ("Guimarães", None, "4800-412"))),
)
_PLACE_OF_TEN = (0, 0, 0, 0, 0, 1, 1, 2, 3, 4)
_FIRST = (
    "Avery",
    "Jordan",
    "Zoë",
    "Mateo",
    "Ines",
    "Noah",
    "Camille",
    "Priya",
    "Luís",
    "Hana",
    "Otto",
    "Maren",
)
_LAST = (
    "Example",
    "Sample",
    "Placeholder",
    "Testwell",
    "Mockridge",
    "Demoir",
    "Fixture",
    "Muñoz-Prueba",
    "Fakeley",
)
_STREETS = (
    "Maple Street",
    "Rue du Moulin",
    "Harbour Road",
    "Calle Mayor",
    "Station Avenue",
    "Rua Nova",
    "Mill Lane",
)
PRODUCTS = (
    ("TSHIRT-UNI-BLK-M", "Front", "DirectToGarment", 1450),
    ("HOODIE-UNI-NVY-L", "Front", "DirectToFilm", 2995),
    ("MUG-11OZ-WHT", "Wrap", "Sublimation", 790),
    ("POSTER-18X24-MAT", "Full", "Giclee", 1125),
    ("TOTE-CTN-NAT", "Front", "DirectToGarment", 980),
    ("CAP-5P-KHK", "Front", "Embroidery", 1840),
    ("PHONECASE-A15-CLR", "Back", "UV", 1260),
)
"""The products in orders: SKU, printed area, method of printing, merchant price in cents."""

FACILITIES = (
    ("F01290042", "Northfield Print Works"),
    ("F01290107", "Atelier Loire"),
    ("F01290311", "Harbour DTG"),
)
"""The facilities that make orders: id and name."""

_METHODS = ("Standard", "Standard", "Standard", "Expedited", "Overnight")
_ITEMS_OF_FIFTY = (*(1,) * 44, 2, 2, 2, 2, 3, 4)
_FILLER = "Fold flat, tissue between layers, card on top, no invoice in the parcel. "


def format_ticks(ticks: int) -> str:
    """Return a time in the format of the order service: `2026-02-27T22:29:29.4914307Z`."""
    seconds, fraction = divmod(ticks, TICKS_PER_SECOND)
    days, rest = divmod(seconds, 86_400)
    return f"{_day(days)}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}.{fraction:07d}Z"


@lru_cache(maxsize=1_024)
def _day(days: int) -> str:
    # Cached, since a history formats several times for each of its orders.
    return time.strftime("%Y-%m-%d", time.gmtime(days * 86_400))


def make_uuid(rng: Random) -> str:
    """Return a version 4 UUID from seeded randomness, the format of shipment and merchant ids."""
    text = f"{rng.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


class OrderFactory:
    """Generates new orders: the same seed and the same times result in the same orders, byte for byte.

    Args:
        seed: Seed of all randomness.
        record_bytes: Approximate mean size of an order in bytes of compact JSON. If it is at least the default, the
            mean is within a tenth of it: larger orders are filled with packing notes in `meta`. If it is smaller,
            orders have the smallest size, about 2,300 bytes: one item, no optional parts.
    """

    def __init__(self, seed: int = 1, record_bytes: int = DEFAULT_RECORD_BYTES) -> None:
        self.rng = Random(seed)
        self._record_bytes = record_bytes
        self._sequence = 0
        self._items = 0
        self._machine = f"{self.rng.getrandbits(40):010x}"
        self._merchants = tuple(make_uuid(self.rng) for _ in range(3))

    def next_order(self, created: int) -> tuple[str, str]:
        """Return the id and short id of an order that is created at this time, in ticks."""
        self._sequence += 1
        return self._object_id(created, self._sequence), f"O{4_790_000 + self._sequence:08d}"

    def next_item(self, created: int) -> tuple[str, str]:
        """Return the id and short id of an item that is created at this time, in ticks."""
        self._items += 1
        # Items use the upper half of the numbers, so that an item never has the id of an order.
        return self._object_id(created, 0x800000 + self._items), f"I{5_790_000 + self._items:08d}"

    def next_safe_id(self) -> str:
        """Return a safe id for the last order."""
        return f"{self._sequence:05d}-{self.rng.getrandbits(64):016x}"

    @property
    def merchants(self) -> tuple[str, ...]:
        """The ids of the merchants of the orders."""
        return self._merchants

    def make(self, created: int) -> Order:
        """Return a new order: open, never updated.

        Args:
            created: Time of creation in ticks.
        """
        rng = self.rng
        order_id, short_id = self.next_order(created)
        place = _PLACES[_PLACE_OF_TEN[int(rng.random() * 10)]]
        stamp = format_ticks(created)
        small = self._record_bytes < DEFAULT_RECORD_BYTES
        count = 1 if small else _ITEMS_OF_FIFTY[int(rng.random() * 50)]
        items = [self._item(created, stamp, place.currency) for _ in range(count)]
        goods = sum(round(item["merchantItemTotal"]["amount"] * 100) for item in items)
        shipping = 399 + int(rng.random() * 6) * 100
        tax = goods // 12
        address = self._address(place)
        external = f"SHOP-{100_000 + self._sequence}"
        return {
            "items": items,
            "merchantItemTotal": money(place.currency, goods),
            "merchantTaxTotal": money(place.currency, tax),
            "merchantShippingTotal": money(place.currency, shipping),
            "merchantTotal": money(place.currency, goods + tax + shipping),
            "reprint": self._reprint(created, items) if not small and rng.random() < 0.06 else None,
            "facilityNames": [],
            "shipmentCreatedDates": [],
            "shipmentIds": [],
            "id": order_id,
            "shortId": short_id,
            "shippingAddress": address,
            "billingAddress": dict(address) if not small and rng.random() < 0.1 else None,
            "returnAddress": None,
            "safeId": self.next_safe_id(),
            "externalId": external if rng.random() < 0.9 else None,
            "merchantId": self._merchants[int(rng.random() * 3)],
            "status": "Open",
            "statusDesc": None,
            "createdAt": stamp,
            "updatedAt": None,
            "processedAt": None,
            "cancelledAt": None,
            "languageCode": place.language,
            "currencyCode": place.currency,
            "isTest": False,
            "isSample": rng.random() < 0.02,
            "client": {"source": "storefront", "details": None, "version": "3.4.1", "ip": None},
            "meta": self._meta(),
            "customerShippingMethod": _METHODS[int(rng.random() * 5)],
            "customerTotal": (goods * 2 + shipping) / 100,
            "customerItemTotal": goods * 2 / 100,
            "customerTotalShipping": shipping / 100,
            "customerTotalTaxes": None,
            "customerTotalDiscountAndPromotions": 0.0,
            "customerPaymentMethods": self._payments(place, address, stamp, goods * 2 + shipping)
            if not small and rng.random() < 0.1
            else [],
        }

    def _object_id(self, created: int, number: int) -> str:
        # The layout of a Mongo ObjectId: seconds, machine, counter.
        return f"{created // TICKS_PER_SECOND:08x}{self._machine}{number & 0xFFFFFF:06x}"

    def _item(self, created: int, stamp: str, currency: str) -> Order:
        rng = self.rng
        item_id, short_id = self.next_item(created)
        sku, area, method, price = PRODUCTS[int(rng.random() * 7)]
        quantity = 1 if rng.random() < 0.8 else 2
        art = f"https://cdn.example.com/art/{rng.getrandbits(48):012x}.png"
        return {
            "id": item_id,
            "shortId": short_id,
            "externalId": None,
            "sku": sku,
            "originalSKU": sku if rng.random() < 0.1 else None,
            "quantity": quantity,
            "status": "Open",
            "statusDesc": None,
            "createdAt": stamp,
            "updatedAt": None,
            "processedAt": None,
            "cancelledAt": None,
            "images": [
                {
                    "url": art,
                    "thumbnailUrl": None,
                    "area": area,
                    "printMethod": method,
                    "ourUrl": None,
                    "ourFileId": None,
                    "ourThumbnailUrl": None,
                    "ourThumbnailFileId": None,
                    "vendorReadyFileId": None,
                }
            ],
            "options": [],
            "attributes": [],
            "customerSubtotal": None,
            "customerPrice": money(currency, price * 2) if rng.random() < 0.5 else None,
            "customerShippingPrice": None,
            "customerTaxes": None,
            "merchantPrice": money(currency, price),
            "merchantShippingPrice": None,
            "merchantTax": None,
            "merchantSubTotal": None,
            "merchantItemTotal": money(currency, price * quantity),
            "clientAttributes": {},
            "meta": {},
            "isSample": False,
            "skipImgManip": False,
            "skipImageValidation": False,
            "skipSkuValidation": False,
            "fulfillmentReady": None,
            "refundData": None,
        }

    def _address(self, place: _Place) -> Order:
        rng = self.rng
        first = _FIRST[int(rng.random() * 12)]
        last = _LAST[int(rng.random() * 9)]
        city, state, code = place.cities[int(rng.random() * len(place.cities))]
        return {
            "firstName": first,
            "lastName": last,
            "line1": f"{1 + int(rng.random() * 240)} {_STREETS[int(rng.random() * 7)]}",
            "line2": f"Apt {1 + int(rng.random() * 40)}" if rng.random() < 0.25 else None,
            "line3": None,
            "city": city,
            "state": state,
            "zip": code,
            "countryCode": place.country,
            "phone": f"{place.dial}55501{int(rng.random() * 100):02d}" if rng.random() < 0.7 else None,
            "email": f"buyer{self._sequence}@example.com",
        }

    def _reprint(self, created: int, items: list[Order]) -> Order:
        facility, _ = FACILITIES[int(self.rng.random() * 3)]
        original = max(1, self._sequence - 1 - int(self.rng.random() * 200))
        return {
            "originalOrderId": self._object_id(created - 7 * 86_400 * TICKS_PER_SECOND, original),
            "reasonId": 1 + int(self.rng.random() * 8),
            "shipments": [
                {
                    "facilityId": facility,
                    "shippingMethod": "Standard",
                    "costCoverage": {"item": "Merchant", "shipping": "Customer"},
                    "items": [{"sku": item["sku"], "quantity": item["quantity"]} for item in items],
                }
            ],
        }

    def _meta(self) -> Order:
        rng = self.rng
        meta: Order = {}
        if rng.random() < 0.3:
            meta["campaign"] = f"drop-{int(rng.random() * 40):02d}"
        if rng.random() < 0.15:
            meta["giftMessage"] = "Happy birthday — see you in the summer!"
        surplus = self._record_bytes - DEFAULT_RECORD_BYTES
        if surplus > 0:
            meta["packingNotes"] = (_FILLER * (surplus // len(_FILLER) + 1))[:surplus]
        return meta

    def _payments(self, place: _Place, address: Order, stamp: str, cents: int) -> list[Order]:
        rng = self.rng
        return [
            {
                "method": "CreditCard",
                "subMethod": "Visa",
                "cardFirst4": "4000",
                "cardLast4": f"{int(rng.random() * 10_000):04d}",
                "billingInfo": {"fullName": f"{address['firstName']} {address['lastName']}", "address": None},
                "customerTransactions": [
                    {
                        "total": cents / 100,
                        "currencyCode": place.currency,
                        "transactionDate": stamp,
                        "transactionId": f"txn-{rng.getrandbits(40):010x}",
                        "authorizationCode": None,
                    }
                ],
            }
        ]


def money(currency: str, cents: int) -> Order:
    """Return an amount in the format of the order service."""
    return {"currency": currency, "amount": cents / 100}
