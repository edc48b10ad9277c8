"""The initial catalog and notes: generated, with the same bytes for the same seed and orders.

It has 6 categories, 40 products with 160 variants, two merchant catalogs, and 30 notes on orders. The SKUs of the
generated orders are among the variants. Merchant variants follow the samples of the vendor's pages, even the space
at the end of the attribute `TemplateURL `; the fields of categories and products are not documented.
"""

from __future__ import annotations

import uuid
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from worker.sandbox.data.orders import HISTORY_START, TICKS_PER_SECOND, format_ticks
from worker.sandbox.data.times import parse_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from worker.sandbox.data.record import Record

NOTES = 30
"""Initial notes; fewer if there are fewer orders."""

_DAY = 86_400 * TICKS_PER_SECOND
_EURO = 0.9


class _Line(NamedTuple):
    """A category: its products as SKU stem, name and price in cents, and the four variants of each."""

    name: str
    area: str
    method: str
    size: tuple[int, int]
    products: tuple[tuple[str, str, int], ...]
    variants: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


_LINES = (
    _Line(
        "T-Shirts & Tops",
        "Front",
        "DirectToGarment",
        (3_600, 4_800),
        (
            ("TSHIRT-UNI", "Unisex T-Shirt", 1_450),
            ("TSHIRT-WMN", "Women's Fitted T-Shirt", 1_520),
            ("TSHIRT-YTH", "Youth T-Shirt", 1_180),
            ("TSHIRT-ORG", "Organic Cotton T-Shirt", 1_890),
            ("TANK-UNI", "Unisex Tank Top", 1_390),
            ("LONGSLV-UNI", "Long Sleeve T-Shirt", 1_760),
            ("POLO-UNI", "Piqué Polo", 2_140),
        ),
        (
            ("BLK-M", (("Color", "Black"), ("Size", "M"))),
            ("BLK-L", (("Color", "Black"), ("Size", "L"))),
            ("WHT-M", (("Color", "White"), ("Size", "M"))),
            ("WHT-L", (("Color", "White"), ("Size", "L"))),
        ),
    ),
    _Line(
        "Hoodies & Sweatshirts",
        "Front",
        "DirectToFilm",
        (3_600, 3_600),
        (
            ("HOODIE-UNI", "Unisex Hoodie", 2_995),
            ("HOODIE-ZIP", "Zip Hoodie", 3_350),
            ("HOODIE-YTH", "Youth Hoodie", 2_480),
            ("SWEAT-CREW", "Crewneck Sweatshirt", 2_640),
            ("SWEAT-ORG", "Organic Sweatshirt", 3_190),
            ("FLEECE-QZ", "Quarter-Zip Fleece", 3_720),
            ("JOGGER-UNI", "Unisex Joggers", 2_870),
        ),
        (
            ("NVY-M", (("Color", "Navy"), ("Size", "M"))),
            ("NVY-L", (("Color", "Navy"), ("Size", "L"))),
            ("GRY-M", (("Color", "Heather Grey"), ("Size", "M"))),
            ("GRY-L", (("Color", "Heather Grey"), ("Size", "L"))),
        ),
    ),
    _Line(
        "Drinkware",
        "Wrap",
        "Sublimation",
        (2_475, 1_050),
        (
            ("MUG-11OZ", "Ceramic Mug 11 oz", 790),
            ("MUG-15OZ", "Ceramic Mug 15 oz", 940),
            ("MUG-ENM", "Enamel Mug", 1_230),
            ("TUMBLER-20", "Steel Tumbler 20 oz", 1_980),
            ("BOTTLE-17", "Steel Bottle 17 oz", 2_150),
            ("GLASS-PINT", "Pint Glass", 1_060),
            ("COASTER-4", "Coasters, Set of 4", 890),
        ),
        (
            ("WHT", (("Color", "White"),)),
            ("BLK", (("Color", "Black"),)),
            ("BLU", (("Color", "Blue"),)),
            ("RED", (("Color", "Red"),)),
        ),
    ),
    _Line(
        "Wall Art",
        "Full",
        "Giclee",
        (5_400, 7_200),
        (
            ("POSTER-12X16", "Poster 12 x 16 in", 860),
            ("POSTER-18X24", "Poster 18 x 24 in", 1_125),
            ("POSTER-24X36", "Poster 24 x 36 in", 1_690),
            ("PRINT-A4", "Art Print A4", 920),
            ("PRINT-A3", "Art Print A3", 1_340),
            ("CANVAS-16X20", "Canvas 16 x 20 in", 3_480),
            ("METAL-12X12", "Metal Print 12 x 12 in", 4_260),
        ),
        (
            ("MAT", (("Finish", "Matte"),)),
            ("GLO", (("Finish", "Glossy"),)),
            ("SAT", (("Finish", "Satin"),)),
            ("FRM", (("Finish", "Framed"),)),
        ),
    ),
    _Line(
        "Bags & Headwear",
        "Front",
        "Embroidery",
        (1_200, 800),
        (
            ("TOTE-CTN", "Cotton Tote", 980),
            ("TOTE-ORG", "Organic Tote", 1_290),
            ("BACKPACK-S", "Drawstring Backpack", 1_450),
            ("CAP-5P", "Five-Panel Cap", 1_840),
            ("CAP-TRK", "Trucker Cap", 1_920),
            ("BEANIE", "Knit Beanie", 1_610),
        ),
        (
            ("NAT", (("Color", "Natural"),)),
            ("BLK", (("Color", "Black"),)),
            ("KHK", (("Color", "Khaki"),)),
            ("NVY", (("Color", "Navy"),)),
        ),
    ),
    _Line(
        "Phone Cases",
        "Back",
        "UV",
        (1_181, 2_126),
        (
            ("PHONECASE-A14", "Phone Case A14", 1_190),
            ("PHONECASE-A15", "Phone Case A15", 1_260),
            ("PHONECASE-A16", "Phone Case A16", 1_320),
            ("PHONECASE-G8", "Phone Case G8", 1_210),
            ("PHONECASE-G9", "Phone Case G9", 1_280),
            ("PHONECASE-S24", "Phone Case S24", 1_240),
        ),
        (
            ("CLR", (("Material", "Clear"),)),
            ("BLK", (("Material", "Black"),)),
            ("MAT", (("Material", "Matte"),)),
            ("BIO", (("Material", "Biodegradable"),)),
        ),
    ),
)
_TEXTS = (
    "Customer asked for the parcel to be left with the neighbour.",
    "Artwork is low in resolution; the merchant was informed.",
    "Refund agreed after a late delivery.",
    "Gift: no invoice in the parcel, please.",
    "Adresse vérifiée par téléphone.",
    "Reprint approved, the colour was off.",
)
_USERS = uuid.UUID("0e1c9b7e-4f0a-4b36-9f43-7f6f2f1f5f0d")
_WRITERS = ("sandbox@example.com", "support@example.com", "sandbox-client")


class CatalogData(NamedTuple):
    """All initial records of the catalog, decoded, in creation order."""

    categories: list[Record]
    products: list[Record]
    variants: list[Record]
    merchant_catalogs: list[Record]


def make_catalog(rng: Random) -> CatalogData:
    """Generate categories, products, variants and merchant catalogs."""
    result = CatalogData([], [], [], [])
    machine = rng.getrandbits(40)
    numbers = iter(range(1, 1 << 24))

    def record(created: int, **fields: object) -> Record:
        identity = f"{created // TICKS_PER_SECOND:08x}{machine:010x}{next(numbers):06x}"
        return {"id": identity, **fields, "createdAt": format_ticks(created), "updatedAt": None}

    created = HISTORY_START
    for line in _LINES:
        created += _DAY
        category = record(created, name=line.name, description=None)
        result.categories.append(category)
        for stem, name, cents in line.products:
            created += _DAY // 8 + int(rng.random() * _DAY)
            product = record(created, **_product(line, name, category))
            result.products.append(product)
            for suffix, attributes in line.variants:
                fields = _variant(line, product["id"], f"{stem}-{suffix}", cents, attributes)
                result.variants.append(record(created, **fields))
            product["variants"] = result.variants[-len(line.variants) :]
            if rng.random() < 0.3:
                product["updatedAt"] = format_ticks(created + int(rng.random() * 20 * _DAY))
    enabled = result.variants[: len(result.variants) * 2 // 3]
    for name, variants in (("Storefront", enabled), ("Holiday Selection", result.variants[::5])):
        created += _DAY
        merchant_variants = [
            merchant_variant(item, f"{created + number:024x}") for number, item in enumerate(variants)
        ]
        result.merchant_catalogs.append(
            record(
                created,
                name=name,
                description=f"{name}: {len(variants)} variants",
                isEnabled=variants is enabled,
                assignedToSubAccountIds=[str(uuid.UUID(int=rng.getrandbits(128), version=4))],
                variants=merchant_variants,
            )
        )
    return result


def merchant_variant(variant: Record, identity: str | None) -> Record:
    """Return a variant of the global catalog as a variant of a merchant's catalog, as in the vendor's sample."""
    return {
        "id": identity,
        "sku": variant["sku"],
        "merchantSku": f"M-{variant['sku']}" if identity else None,
        "merchantPrice": variant["price"],
        "skipImageManipulation": None,
        "productId": variant["productId"],
        "decorations": variant["decorations"],
        "attributes": [
            {"name": "TemplateURL ", "value": f"https://cdn.example.com/templates/{variant['sku']}.pdf"},
            {"name": "FileType", "value": "pdf"},
            *(variant["attributes"] or []),
        ],
    }


def make_notes(rng: Random, ids: Sequence[str], created: Callable[[str], object]) -> Iterator[Record]:
    """Yield notes on some of the orders, at equal distances; `created` returns the creation time of an order."""
    step = max(1, len(ids) // NOTES)
    for order_id in islice(ids, 0, step * NOTES, step):
        written = parse_ticks(str(created(order_id))) or HISTORY_START
        written += int(rng.random() * _DAY)
        changed = written + int(rng.random() * _DAY) if rng.random() < 0.2 else None
        writer = _WRITERS[int(rng.random() * len(_WRITERS))]
        yield {
            "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "resource": {"id": order_id, "type": "order"},
            "user": user_reference(writer),
            "text": _TEXTS[int(rng.random() * len(_TEXTS))],
            "createdAt": format_ticks(written),
            "updatedAt": None if changed is None else format_ticks(changed),
        }


def user_reference(name: str) -> Record:
    """Return a reference to a user; a name always has the same id."""
    return {"id": str(uuid.uuid5(_USERS, name)), "name": name}


def _product(line: _Line, name: str, category: Record) -> Record:
    values: dict[str, list[str]] = {}
    for _, attributes in line.variants:
        for attribute, value in attributes:
            seen = values.setdefault(attribute, [])
            if value not in seen:
                seen.append(value)
    return {
        "name": name,
        "description": f"{name}, printed on demand.",
        "status": "Active",
        "attributes": [
            {"name": attribute, "values": [{"value": value} for value in seen]}
            for attribute, seen in values.items()
        ],
        "extra": None,
        "categories": [{"id": category["id"], "name": category["name"]}],
        "variants": [],
    }


def _variant(
    line: _Line, product_id: str, sku: str, cents: int, attributes: tuple[tuple[str, str], ...]
) -> Record:
    width, height = line.size
    return {
        "productId": product_id,
        "sku": sku,
        "price": _price(cents),
        "attributes": [{"name": name, "value": value} for name, value in attributes],
        "decorations": [
            {
                "area": line.area,
                "width": width,
                "height": height,
                "dpi": 300,
                "method": line.method,
                "price": _price(0),
                "printImage": None,
            }
        ],
    }


def _price(cents: int) -> Record:
    """Return a price in dollars, and in euros."""
    return {
        "currencies": [
            {"amount": cents / 100, "currency": "USD"},
            {"amount": round(cents * _EURO) / 100, "currency": "EUR"},
        ],
        "amount": cents / 100,
        "currency": "USD",
    }
