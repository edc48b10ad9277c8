"""The table of schemas: complete, consistent with itself and with the table of operations."""

import re

import pytest

from worker.ordermesh.contract.operations import OPERATIONS, SERVICES
from worker.ordermesh.schemas import (
    BASIC_TYPES,
    PAGES,
    SCHEMAS,
    Field,
    Schema,
    element,
    records_schema,
    schemas_of,
)
from worker.ordermesh.schemas.base import fields

every_schema = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda each: each.name)


def test_the_portal_names_242_schemas() -> None:
    """As many as the seed document lists, for each service and in all, and none twice."""
    assert {service: len(schemas_of(service)) for service in SERVICES} == {
        "user": 70,
        "order": 70,
        "note": 18,
        "catalog": 64,
        "shipment": 65,
    }
    assert len(SCHEMAS) == 242
    assert [each.name for each in SCHEMAS.values()] == list(SCHEMAS)


def test_schemas_of_several_services_are_one() -> None:
    """Errors, bulk answers and audit logs are shared; the services stand in the order of the portal."""
    shared = {each.name: each.services for each in SCHEMAS.values() if len(each.services) > 1}
    assert shared["BulkResponse"] == ("user", "order", "catalog", "shipment")
    assert shared["GetAuditLogResponse"] == ("order", "note", "catalog", "shipment")
    assert shared["PriceModel"] == ("order", "catalog")
    assert shared["Price"] == ("catalog", "shipment")
    assert shared["ConflictErrorResponse"] == ("user", "order", "shipment")
    assert len(shared) == 16
    assert all(tuple(sorted(each, key=SERVICES.index)) == each for each in shared.values())


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda each: each.key)
def test_every_schema_of_an_operation_is_there(operation: object) -> None:
    """Request and answer of an operation are schemas of its own service, and its known body fields theirs."""
    each = OPERATIONS[getattr(operation, "key")]  # noqa: B009 - parametrized values have no type
    for name in filter(None, (each.request, each.answer)):
        assert each.service in SCHEMAS[name].services
    if each.request and each.body:
        assert set(each.body) <= {field.name for field in SCHEMAS[each.request].fields}


@every_schema
def test_types_are_known(schema: Schema) -> None:
    """A field is of a basic type or of another schema, and no field is named twice."""
    names = [each.name for each in schema.fields]
    assert len(names) == len(set(names))
    for each in schema.fields:
        assert element(each.type) in (*BASIC_TYPES, *SCHEMAS)
    assert element(schema.type) in (*BASIC_TYPES, *SCHEMAS)


@every_schema
def test_sources_are_named(schema: Schema) -> None:
    """Every field tells where it is known from, and every page that is named has an address."""
    for each in schema.fields:
        assert re.fullmatch(r"seed|vendor:[\w-]+|inferred: .+", each.source)
    for text in (schema.note, *(each.source for each in schema.fields)):
        assert set(re.findall(r"vendor:([\w-]+)", text)) <= set(PAGES)


def test_every_page_is_used() -> None:
    """No page is listed that nothing is known from."""
    texts = [text for each in SCHEMAS.values() for text in (each.note, *(one.source for one in each.fields))]
    assert set(PAGES) == {page for text in texts for page in re.findall(r"vendor:([\w-]+)", text)}


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ("AddRefundModel", ["orderId", "refunds"]),
        ("AddRefundItemModel", ["itemId", "isShippingRefund", "amount", "reason"]),
        ("Reroute", ["shipmentId", "facilityId", "reason", "orderItems"]),
        ("RerouteBulkModel", ["bulk"]),
        ("CreateOrderModelBulkModel", ["bulk"]),
        ("MultiPrice", ["currencies", "amount", "currency"]),
        (
            "PatchMerchantCatalogDto",
            [
                *("id", "name", "description", "isEnabled", "assignedToSubAccountIds"),
                *("variantsToAdd", "variantsSkusToRemove", "variantsToUpdate"),
            ],
        ),
    ],
)
def test_documented_bodies(schema: str, names: list[str]) -> None:
    """Bodies whose samples are complete have these fields and no others, all documented."""
    known = SCHEMAS[schema].fields
    assert [each.name for each in known] == names
    assert all(each.documented for each in known)


def test_spellings_of_the_vendor() -> None:
    """Odd spellings are the vendor's and stay."""
    assert "CreateNoteReponse" in SCHEMAS
    assert "originalSKU" in {each.name for each in SCHEMAS["GetOrderItemModel"].fields}
    for name in ("ShipmentDTO", "PackageDTO"):
        assert "orderItemIDs" in {each.name for each in SCHEMAS[name].fields}


def test_only_what_must_be_there_is_required() -> None:
    """A required field is never null; of an order that is created, the items and where they go."""
    for each in SCHEMAS.values():
        assert all(not field.nullable for field in each.fields if field.required)
    required = {
        name: [each.name for each in SCHEMAS[name].fields if each.required]
        for name in ("CreateOrderModel", "CreateOrderItemModel", "MerchantVariantDto", "UpdatePackageDTO")
    }
    assert required == {
        "CreateOrderModel": ["shippingAddress", "items"],
        "CreateOrderItemModel": ["sku", "quantity"],
        "MerchantVariantDto": ["sku"],
        "UpdatePackageDTO": [],
    }


def test_the_notation_of_fields() -> None:
    """`!` means: must be there and is not null."""
    assert fields("seed", "a: [Price]!", "b: string") == (
        Field("a", "[Price]", "seed", nullable=False, required=True),
        Field("b", "string", "seed"),
    )


def test_schema_of_records() -> None:
    """The schema of a list's records is found under the list's key, where it is known."""
    assert records_schema("GetNotesResponse", "notes") == "GetNoteResponseItemModel"
    assert records_schema("GetEffectiveVariantListResponse", "variants") == "MerchantVariantDto"
    assert records_schema("ShipmentDTO", "shipments") is None


def test_a_schema_without_fields_is_not_documented() -> None:
    """What is only inferred does not count as documented."""
    assert not SCHEMAS["CancelOrderModel"].documented
    assert not SCHEMAS["CreateNoteModel"].documented
    assert SCHEMAS["CreateOrderModel"].documented
