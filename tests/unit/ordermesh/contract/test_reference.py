"""The reference: what the page says, and that the committed page says it."""

import json
import subprocess
import sys

import msgspec
import pytest

from tests.support.paths import ROOT
from worker.ordermesh.contract import reference
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.schemas import SCHEMAS

PAGE = ROOT / "docs" / "contract.md"


def test_the_committed_page_is_what_the_tables_say() -> None:
    """A change of a table needs a new page: `python -m worker.ordermesh.contract.reference > docs/contract.md`."""
    assert PAGE.read_text(encoding="utf-8") == reference.markdown()


def test_the_module_prints_the_page() -> None:
    """Run as a program it writes the page to standard output."""
    run = subprocess.run(
        [sys.executable, "-m", "worker.ordermesh.contract.reference"], capture_output=True, check=True
    )
    assert run.stdout.decode("utf-8") == reference.markdown()


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
