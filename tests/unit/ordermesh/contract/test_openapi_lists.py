"""What an OpenAPI document says of lists: their parameters, and where the records are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.openapi_documents import answer, described, the_match, titled
from worker.ordermesh.contract.openapi_import import import_document
from worker.ordermesh.contract.operations import OPERATIONS


def query(name: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "integer", **schema}}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ([query("page", minimum=1), query("pageSize", maximum=1000)], {"largest_page": 1000}),
        ([query("Page"), query("PageSize")], {"page_parameter": "Page", "size_parameter": "PageSize"}),
        ([query("page_number", default=0), query("limit")],
         {"page_parameter": "page_number", "first_page": 0, "size_parameter": "limit"}),
        ([query("page", minimum=0)], {"first_page": 0}),
        ([query("page", minimum=0, default=1)], {}),
        ([query("page", default=7), query("pageSize", maximum=0)], {}),
        ([query("page", default=True, minimum="0"), query("pageSize", maximum=float("inf"))], {}),
        ([query("status"), {"name": "page", "in": "header"}, "junk", {"in": "query"}, {"in": "query", "name": 5}], {}),
    ],
)  # fmt: skip
def test_page_parameters(parameters: list[Any], expected: dict[str, Any]) -> None:
    """Their names, the first page and the largest one, where the document tells them."""
    path = OPERATIONS["orders.search"].path
    imported = import_document(described(titled("orders.search", path, parameters=parameters)))
    assert the_match(imported, "orders.search").changed == expected


def test_parameters_of_the_path_and_by_reference() -> None:
    """An operation's own win over those of its path."""
    document = described(
        titled("orders.search", "/order/v1/orders", parameters=[query("page", default=1)]),
        components={"parameters": {"Size": query("limit")}},
    )
    document["paths"]["/order/v1/orders"]["parameters"] = [
        query("page", default=0), {"$ref": "#/components/parameters/Size"},
    ]  # fmt: skip
    assert the_match(import_document(document), "orders.search").changed == {"size_parameter": "limit"}


def test_paging_that_is_not_supported_is_told() -> None:
    imported = import_document(
        described(titled("orders.search", "/o", parameters=[query("skip"), query("take")]))
    )
    assert "offset" in the_match(imported, "orders.search").notes[0]


LIST = {"type": "array", "items": {"type": "object"}}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"data": LIST, "total": {"type": "integer"}}},
        {"properties": {"data": {"type": ["array", "null"]}}},
        {"properties": {"data": {"items": {}}}},
        {"$ref": "#/components/schemas/Page"},
        {"$ref": "#/components/schemas/Hop"},
        {"allOf": [{"properties": {"total": {}}}, {"$ref": "#/components/schemas/Page"}]},
    ],
)
@pytest.mark.parametrize("status", ["200", 200, "201", "2XX"])
def test_the_only_list_of_the_answer_is_the_wrapper(schema: Any, status: Any) -> None:
    schemas = {
        "Page": {"properties": {"data": {"$ref": "#/components/schemas/a~1b"}}},
        "Hop": {"$ref": "#/components/schemas/Page"},
        "a/b": LIST,
    }
    entry = titled("orders.search", "/order/v1/orders", **answer(schema, status))
    imported = import_document(described(entry, components={"schemas": schemas}))
    assert the_match(imported, "orders.search").changed == {"wrapper": "data"}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"orders": LIST, "errors": LIST}},  # one has the expected name
        LIST,  # a bare list needs no wrapper
        {"properties": {"total": {"type": "integer"}}},
        {"$ref": "#/components/schemas/Round"},
        {"$ref": "https://example.com/other.json#/Page"},
        {"$ref": "#/components/schemas/Nowhere"},
        {"allOf": [{"$ref": "#/components/schemas/Tree"}]},
        {"properties": {"\x1b[2J": LIST}},
        {"properties": "junk"},
        {"allOf": "junk"},
        "junk",
    ],
)
def test_answers_that_say_nothing_of_a_wrapper(schema: Any) -> None:
    """What leads in circles or nowhere is not followed."""
    schemas = {
        "Round": {"$ref": "#/components/schemas/Round"},
        "Tree": {"allOf": [{"$ref": "#/components/schemas/Tree"}] * 3},
    }
    entry = titled("orders.search", "/order/v1/orders", **answer(schema))
    match = the_match(import_document(described(entry, components={"schemas": schemas})), "orders.search")
    assert (match.changed, match.notes) == ({}, ())


def test_several_lists_are_left_to_a_person() -> None:
    schema = {"properties": {"rows": LIST, "errors": LIST}}
    imported = import_document(described(titled("orders.search", "/order/v1/orders", **answer(schema))))
    match = the_match(imported, "orders.search")
    assert (match.changed, match.notes) == (
        {}, ("the response contains the lists rows, errors: set `wrapper` in the profile",),
    )  # fmt: skip
