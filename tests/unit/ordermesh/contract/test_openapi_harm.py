"""OpenAPI documents that are wrong, or meant to do harm."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.openapi_documents import answer, described, of_table, the_match, titled
from tests.unit.ordermesh.contract.test_openapi_lists import LIST, query
from worker.ordermesh.contract.openapi_document import NotOpenApi
from worker.ordermesh.contract.openapi_import import import_document
from worker.ordermesh.contract.operations import OPERATIONS


@pytest.mark.parametrize(
    ("root", "words"),
    [
        (None, "its top level is not an object"),
        ([], "its top level is not an object"),
        ({}, "no `openapi`"),
        ({"openapi": {}}, "no `openapi`"),
        ({"openapi": "4.0.0", "paths": {}}, "'4.0.0'. Supported versions: OpenAPI 3.0, 3.1"),
        ({"swagger": "1.2"}, "'1.2'"),
        ({"openapi": "3.1.0"}, "describes no operation"),
        ({"openapi": "3.1.0", "paths": []}, "describes no operation"),
        ({"openapi": "3.1.0", "paths": {"/a": {"get": None, "options": {}}, "/b": 1, 5: {"get": {}}}}, "no operation"),
    ],
)  # fmt: skip
def test_what_is_no_document(root: Any, words: str) -> None:
    with pytest.raises(NotOpenApi, match=words):
        import_document(root)


def test_a_version_that_yaml_took_for_a_number() -> None:
    document = of_table() | {"openapi": 3.1}
    assert len(import_document(document).matched) == 79


def test_aliases_that_lead_in_circles_and_multiply() -> None:
    """A YAML file may hold itself, and a few lines of it may stand for more schemas than there is time for."""
    schema: dict[str, Any] = {"properties": {"data": LIST}}
    for _ in range(60):
        schema = {"allOf": [schema, schema]}
    node: dict[str, Any] = {"summary": OPERATIONS["orders.search"].title, **answer(schema)}
    node["responses"]["200"]["itself"] = node
    item: dict[str, Any] = {"get": node, "parameters": []}
    item["parameters"].append(item)
    document = described(("GET", "/elsewhere", {}))
    document["paths"]["/order/v1/orders"] = item
    document["paths"]["/referred"] = {"$ref": "#/paths/~1order~1v1~1orders"}
    imported = import_document(document)
    assert the_match(imported, "orders.search").changed == {}


def test_a_document_of_a_much_larger_api() -> None:
    """Ours are found among ten thousand others."""
    document = of_table()
    document["paths"] |= {f"/x/{number}": {"get": {"summary": f"X {number}"}} for number in range(10_000)}
    imported = import_document(document)
    assert (len(imported.matched), len(imported.unknown)) == (79, 10_000)


WORDS = st.sampled_from(
    ["paths", "/order/v1/orders", "/x/{id}", "get", "post", "parameters", "name", "in", "query", "page", "schema",
     "responses", "200", "content", "application/json", "properties", "allOf", "$ref", "#/paths", "#/", "servers",
     "url", "variables", "summary", OPERATIONS["orders.search"].title, OPERATIONS["orders.audit_logs"].title,
     "operationId", "orders.get", "items", "type", "array", "", "\ud800", "basePath", "//[", "default"]
)  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.integers(), inner, max_size=6),
    max_leaves=40,
)


@given(paths=JUNK, top=st.dictionaries(WORDS, JUNK, max_size=4), swagger=st.booleans())
def test_any_junk_is_read_or_refused(paths: Any, top: dict[str, Any], *, swagger: bool) -> None:
    """Nothing but `NotOpenApi` comes out of a document, and each operation is on one side of each list."""
    version = {"swagger": "2.0"} if swagger else {"openapi": "3.1.0"}
    document = {**top, **version, "paths": paths}
    before = copy.deepcopy(document)
    try:
        imported = import_document(document)
    except NotOpenApi:
        return
    assert repr(document) == repr(before)
    keys = [match.key for match in imported.matched] + [missing.key for missing in imported.missing]
    assert sorted(keys) == sorted(OPERATIONS)
    assert all(match.path.startswith("/") for match in imported.matched)


@given(broken=JUNK, name=st.sampled_from(["parameters", "responses", "servers", "summary", "operationId"]))
def test_one_broken_operation_does_not_harm_the_others(broken: Any, name: str) -> None:
    document = of_table()
    document["paths"]["/order/v1/orders"]["get"][name] = broken
    assert len(import_document(document).matched) >= 78


@pytest.mark.parametrize(
    ("parameters", "fields", "expected"),
    [
        (["cursor"], {"nextCursor": "string"}, {"next_in": "nextCursor", "next_parameter": "cursor"}),
        (["pageToken"], {"next_page_token": "string"}, {"next_in": "next_page_token", "next_parameter": "pageToken"}),
        (["Cursor"], {"meta": {"nextCursor": "string"}}, {"next_in": "meta.nextCursor", "next_parameter": "Cursor"}),
        ([], {"@odata.nextLink": "string"}, {"next_in": "@odata.nextLink"}),
        ([], {"_links": {"next": {"href": "string"}}}, {"next_in": "_links.next"}),
        (["cursor"], {"count": "integer"}, {}),
        (["page", "cursor"], {"nextCursor": "string"}, {}),
    ],
)  # fmt: skip
def test_lists_without_page_numbers(
    parameters: list[str], fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    """A token and its parameter, or an address, as far as both can be told; page numbers come first."""

    def schema_of(members: Any) -> dict[str, Any]:
        if isinstance(members, str):
            return {"type": members}
        return {"type": "object", "properties": {name: schema_of(inner) for name, inner in members.items()}}

    page = schema_of(fields)
    page["properties"]["orders"] = {"type": "array", "items": {}}
    known = [query(name) for name in parameters]
    entry = titled("orders.search", "/order/v1/orders", parameters=known, **answer(page))
    match = the_match(import_document(described(entry)), "orders.search")
    assert match.changed == expected
    assert bool(match.notes) == (parameters == ["cursor"] and not expected)
