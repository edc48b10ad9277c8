"""The reference: what it says, as one page for the command and as pages of the site."""

import json

import msgspec
import pytest

from tests.support.paths import ROOT
from worker.contracts.contract_pages import contract_pages
from worker.ordermesh.contract import reference
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.schemas import SCHEMAS

FOLDER = ROOT / "docs" / "reference" / "contract"


def test_the_committed_pages_are_what_the_tables_say() -> None:
    """A change of a table needs new pages: `make docs`. No page is left of what is no longer written."""
    pages = contract_pages()
    assert {name: (FOLDER / name).read_text(encoding="utf-8") for name in pages} == pages
    assert {path.name for path in FOLDER.iterdir()} == pages.keys()


def test_each_section_is_on_one_page() -> None:
    """Every operation and schema is on the page of one service, and a link to it names that page."""
    pages = contract_pages()
    homes = {
        line.removeprefix("### ").strip("`"): name
        for name, page in pages.items()
        for line in page.splitlines()
        if line.startswith("### ")
    }
    assert homes.keys() == OPERATIONS.keys() | SCHEMAS.keys()
    assert sum(page.count("\n### ") for page in pages.values()) == len(homes)
    assert homes["GetAuditLogResponse"] == "order.md"
    assert "[GetAuditLogResponse](#getauditlogresponse)" in pages["order.md"]
    assert "[GetAuditLogResponse](order.md#getauditlogresponse)" in pages["shipment.md"]


def test_counts() -> None:
    """What is documented is counted from the tables."""
    counts = reference.counts()
    assert (counts["operations"], counts["paths_documented"], counts["methods_documented"]) == (79, 13, 42)
    assert counts["schemas"] == 242
    assert counts["schemas_documented"] < counts["schemas_with_fields"] < counts["schemas"]


def test_every_operation_and_schema_has_its_section() -> None:
    """Nothing of the tables is left out, and every link within the page leads somewhere."""
    page = reference.markdown()
    headings = {line.lstrip("# ") for line in page.splitlines() if line.startswith("### ")}
    assert {f"`{key}`" for key in OPERATIONS} | set(SCHEMAS) == headings
    anchors = {heading.strip("`").replace(".", "").lower() for heading in headings}
    targets = {part.partition(")")[0] for part in page.split("](#")[1:]}
    assert targets <= anchors


def test_an_inferred_operation() -> None:
    """Path and method say separately how they are known, with the other likely paths."""
    text = reference.operation_markdown(OPERATIONS["orders.search"])
    assert "Search for orders based on various criteria and filters." in text
    assert "| Request | `GET /order/v1/orders` |" in text
    assert "| Path | inferred, medium confidence; also possible: `/order/v1/orders/search` |" in text
    assert "| Method | documented |" in text
    assert "| Answer | [SearchOrdersResponse](#searchordersresponse), list under `orders` |" in text
    assert "| Client | `client.orders.search` |" in text


def test_a_documented_operation() -> None:
    """Body fields, documented parameters and the vendor's page stand with their operation."""
    text = reference.operation_markdown(OPERATIONS["users.login"])
    assert "| Path | documented |" in text
    assert "| Query | `source` (documented) |" in text
    assert "| Body | [LoginUserDto](#loginuserdto): `username`, `password` |" in text
    assert "| Vendor's page | <https://docs.dev.ordermesh.io/getting-started-1961217m0> |" in text


def test_what_is_not_known_is_said() -> None:
    """A body or a schema of which only the name is known says so."""
    assert "[CancelOrderModel](#cancelordermodel): fields not documented" in reference.operation_markdown(
        OPERATIONS["orders.cancel"]
    )
    assert "Fields not documented." in reference.schema_markdown(SCHEMAS["CancelOrderItemModel"])
    assert "Type: string; fields not documented." in reference.schema_markdown(SCHEMAS["OrderStatus"])


def test_a_schema_tells_the_source_of_each_field() -> None:
    """Required fields are marked, other schemas linked, sources linked to their pages."""
    text = reference.schema_markdown(SCHEMAS["AddRefundModel"])
    assert "| `orderId`! | string | [vendor:SC-refund] |" in text
    assert "| `refunds`! | list of [AddRefundItemModel](#addrefunditemmodel) | [vendor:SC-refund] |" in text
    assert (
        "[vendor:SC-refund]: https://docs.dev.ordermesh.io/addrefundmodel-12760536d0" in reference.markdown()
    )


@pytest.mark.parametrize("encode", [json.dumps, msgspec.json.encode])
def test_plain_data(encode: object) -> None:
    """The same as plain data: every operation and schema, ready for JSON."""
    data = reference.data()
    assert callable(encode)
    assert encode(data)
    assert [each["key"] for each in data["operations"]] == list(OPERATIONS)
    assert [each["name"] for each in data["schemas"]] == list(SCHEMAS)
    refund = next(each for each in data["operations"] if each["key"] == "orders.refund")
    assert refund["body"] == ["orderId", "refunds"]
    assert (refund["path_documented"], refund["confidence"], refund["writes"]) == (False, "low", True)
    login = next(each for each in data["operations"] if each["key"] == "users.login")
    assert login["query"] == [{"name": "source", "documented": True}]
    (field, _) = next(each for each in data["schemas"] if each["name"] == "AddRefundModel")["fields"]
    assert field == {
        "name": "orderId",
        "type": "string",
        "required": True,
        "nullable": False,
        "documented": True,
        "source": "vendor:SC-refund",
    }
