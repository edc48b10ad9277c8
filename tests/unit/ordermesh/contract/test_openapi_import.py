"""What an OpenAPI document says of the 79 operations, however it is written, and if it is meant to do harm."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.ordermesh.contract.layers import plain
from worker.ordermesh.contract.openapi_document import NotOpenApi
from worker.ordermesh.contract.openapi_import import NOT_DESCRIBED, Imported, Match, import_document
from worker.ordermesh.contract.operations import OPERATIONS, SERVICES, Operation

TWINS = ("orders.audit_logs", "orders.audit_logs_by_safe_id")


def described(*entries: tuple[str, str, Mapping[str, Any]], **top: Any) -> dict[str, Any]:
    """A document of operations, each as method, path and what is said of it."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, node in entries:
        paths.setdefault(path, {})[method.lower()] = dict(node)
    return {"openapi": "3.0.3", "info": {"title": "OrderMesh", "version": "1"}, "paths": paths, **top}


def of_table(
    path: Callable[[Operation], str] = lambda operation: operation.path,
    title: Callable[[Operation], str] = lambda operation: operation.title,
    **top: Any,
) -> dict[str, Any]:
    """A document of all operations of the table."""
    return described(
        *((one.method, path(one), {"summary": title(one)}) for one in OPERATIONS.values()), **top
    )


def titled(key: str, path: str, method: str | None = None, **node: Any) -> tuple[str, str, dict[str, Any]]:
    """One operation under the title of the table, at another path."""
    operation = OPERATIONS[key]
    return method or operation.method, path, {"summary": operation.title, **node}


def answer(schema: Any, status: Any = "200") -> dict[str, Any]:
    """The responses of an operation that answers with this."""
    return {"responses": {status: {"description": "", "content": {"application/json": {"schema": schema}}}}}


def the_match(imported: Imported, key: str) -> Match:
    (match,) = (match for match in imported.matched if match.key == key)
    return match


def reason(imported: Imported, key: str) -> str:
    (missing,) = (missing for missing in imported.missing if missing.key == key)
    return missing.reason


# --- matching ---------------------------------------------------------------------------------------------


def test_the_titles_and_keys_of_the_table_tell_its_operations_apart() -> None:
    """But for the one title that the vendor has twice."""
    titles = [plain(operation.title) for operation in OPERATIONS.values()]
    assert sorted({title for title in titles if titles.count(title) > 1}) == [
        plain(OPERATIONS[TWINS[0]].title)
    ]
    assert len({plain(key) for key in OPERATIONS}) == len(OPERATIONS)


def test_the_table_itself() -> None:
    """A document that says what the table says: every operation is found by its title, and nothing differs."""
    imported = import_document(of_table())
    assert [match.key for match in imported.matched] == list(OPERATIONS)
    assert {match.by for match in imported.matched} == {"title"}
    assert (imported.operations, imported.missing, imported.unknown) == ({}, (), ())
    assert (imported.title, imported.version) == ("OrderMesh", "3.0.3")


@pytest.mark.parametrize(
    "written", [str.upper, lambda title: f"  {title.replace(' ', '-')}...", lambda title: title.rstrip(".")]
)
def test_titles_count_without_case_and_punctuation(written: Callable[[str], str]) -> None:
    imported = import_document(of_table(title=lambda operation: written(operation.title)))
    assert len(imported.matched) == 79


@given(
    base=st.text("abcxyz019-_", min_size=1, max_size=8),
    names=st.lists(st.text("abcXYZ_", min_size=1, max_size=6), min_size=1, max_size=1),
)
def test_moved_paths_are_taken_over(base: str, names: list[str]) -> None:
    """Wherever an operation stands and however its one parameter is called, it goes there with our names."""

    def moved(operation: Operation) -> str:
        path = operation.path
        for name in operation.path_parameters if len(operation.path_parameters) == 1 else ():
            path = path.replace(f"{{{name}}}", f"{{{names[0]}}}")
        return f"/{base}{path}"

    document = of_table(moved)
    imported = import_document(document)
    untold = {operation.key for operation in OPERATIONS.values() if operation.key in TWINS}
    for match in imported.matched:
        assert match.path == f"/{base}{OPERATIONS[match.key].path}"
        assert match.changed == {"path": match.path}
    assert {missing.key for missing in imported.missing} <= untold


def test_a_key_as_operation_id() -> None:
    """Without a title that is known; dots become what a code generator allows."""
    imported = import_document(
        described(
            ("GET", "/a", {"operationId": "orders.search"}),
            ("GET", "/b", {"operationId": "ordersList", "summary": "Orders"}),
            ("GET", "/c/{x}", {"operationId": "notes_get"}),
        )
    )
    assert [(match.key, match.by, match.path) for match in imported.matched] == [
        ("orders.search", "operationId", "/a"),
        ("orders.list", "operationId", "/b"),
        ("notes.get", "operationId", "/c/{noteId}"),
    ]


def test_method_and_path() -> None:
    """With and without the service's prefix, whatever parameters are called; another method is another operation."""
    imported = import_document(
        described(
            ("GET", "/order/v1/orders/{id}/AUDITLOGS", {}),
            ("GET", "/v1/notes/{x}", {}),
            ("DELETE", "/order/v1/orders", {}),
            ("PUT", "/catalog/v1/products/{a}/variants/{variantId}", {"summary": "?"}),
        )
    )
    assert {match.key: (match.by, match.changed) for match in imported.matched} == {
        "orders.audit_logs": ("path", {"path": "/order/v1/orders/{orderId}/AUDITLOGS"}),
        "notes.get": ("path", {"path": "/v1/notes/{noteId}"}),
        "variants.update": ("path", {}),
    }
    assert [(one.method, one.path, one.reason) for one in imported.unknown] == [
        ("DELETE", "/order/v1/orders", "")
    ]
    assert reason(imported, "orders.search") == NOT_DESCRIBED


def test_a_path_that_two_services_have_without_their_prefix() -> None:
    """`GET /v1/orders/{id}` may be an order or its shipments; the path of the server tells which."""
    entry: tuple[str, str, dict[str, Any]] = ("GET", "/v1/orders/{id}", {})
    assert import_document(described(entry)).matched == ()
    for service, key in (("order", "orders.get"), ("shipment", "shipments.for_order")):
        imported = import_document(described(entry, servers=[{"url": f"https://api.example.com/{service}"}]))
        assert [match.key for match in imported.matched] == [key]
        assert imported.operations == {}
    elsewhere = described(("GET", "/v1/search", {}), servers=[{"url": "/order"}])
    assert import_document(elsewhere).matched == ()  # the search at that path is the shipment service's


def test_a_title_wins_over_a_path() -> None:
    """Two operations that have changed places."""
    imported = import_document(
        described(titled("orders.search", "/order/v1/orders/list"), titled("orders.list", "/order/v1/orders"))
    )
    assert imported.operations == {
        "orders.search": {"path": "/order/v1/orders/list"},
        "orders.list": {"path": "/order/v1/orders"},
    }


def test_an_operation_with_the_title_of_another_one() -> None:
    """It is not taken by its path for the one that stands there by the table."""
    path = OPERATIONS["orders.search"].path
    imported = import_document(described(titled("orders.get", path, operationId="orders.search")))
    assert imported.matched == ()
    assert "needs {orderId}" in reason(imported, "orders.get")
    assert reason(imported, "orders.search") == NOT_DESCRIBED


def test_another_method() -> None:
    imported = import_document(described(titled("orders.search", "/order/v1/orders/search", "POST")))
    assert the_match(imported, "orders.search").changed == {
        "method": "POST",
        "path": "/order/v1/orders/search",
    }


# --- the title that the vendor has twice ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/x/{orderId}/logs", "/x/safe/{safeId}/logs"),
        ("/x/{id}/logs", "/x/safe/{safe-id}/logs"),
        ("/x/{id}/logs", "/x/safeId/{id}/logs"),
        ("/x/{id}/logs", "/x/bySafeId/{id}/logs"),
        ("/x/{orderId}/logs", "/x/y/{id}/logs"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_twins_are_told_apart_by_the_parameter_of_the_path(first: str, second: str, *, swapped: bool) -> None:
    """In either order; where one is told the other is the one that is left."""
    entries = [titled(TWINS[0], first), titled(TWINS[1], second)]
    imported = import_document(described(*(reversed(entries) if swapped else entries)))
    paths = {match.key: match.path for match in imported.matched}
    assert set(paths) == set(TWINS)
    assert paths[TWINS[0]].startswith(first.partition("{")[0])
    assert "{orderId}" in paths[TWINS[0]]
    assert paths[TWINS[1]].startswith(second.partition("{")[0])
    assert "{safeId}" in paths[TWINS[1]]


@pytest.mark.parametrize(
    "paths",
    [
        ("/a/{id}/logs", "/b/{id}/logs"),
        ("/v1/x/{orderId}/logs", "/v2/x/{orderId}/logs"),
        ("/a/{id}/logs",),
        ("/a/{id}/logs", "/b/{id}/logs", "/c/{id}/logs"),
    ],
)
def test_twins_that_cannot_be_told_apart_are_left(paths: tuple[str, ...]) -> None:
    """On both sides, with the reason."""
    imported = import_document(described(*(titled(TWINS[0], path) for path in paths)))
    assert imported.matched == ()
    assert "{orderId} and {safeId}" in reason(imported, TWINS[0])
    assert reason(imported, TWINS[0]) == reason(imported, TWINS[1]) == imported.unknown[0].reason
    assert len(imported.unknown) == len(paths)


def test_one_twin_alone() -> None:
    """Its parameter tells which; the other is missing."""
    imported = import_document(described(titled(TWINS[0], "/x/{safeId}/logs")))
    assert {match.key: match.path for match in imported.matched} == {TWINS[1]: "/x/{safeId}/logs"}


# --- what cannot be used ----------------------------------------------------------------------------------


def test_a_title_that_the_document_has_twice() -> None:
    """The one that is not withdrawn, can be sent, has the method, or stands where we expect it; else neither."""
    key = "orders.get"
    good = titled(key, "/v2/orders/{id}")
    for other in (
        titled(key, "/v1/orders/{id}", deprecated=True),
        titled(key, "/v1/orders"),
        titled(key, "/v1/orders/{id}", "POST"),
    ):
        imported = import_document(described(other, good))
        assert the_match(imported, key).path == "/v2/orders/{orderId}"
        assert len(imported.unknown) == 1
    imported = import_document(described(good, titled(key, OPERATIONS[key].path)))
    assert the_match(imported, key).changed == {}
    imported = import_document(described(good, titled(key, "/v3/orders/{id}")))
    assert reason(imported, key) == "2 operations of the document match, by title"
    assert {one.reason for one in imported.unknown} == {"2 operations of the document match, by title"}


@pytest.mark.parametrize(
    ("key", "path", "words"),
    [
        ("orders.update", "/order/v1/orders", "has no parameter, and orders.update needs {orderId}"),
        ("order_items.get", "/o/{orderId}/i/{itemId}", "{orderId} and {itemId}"),
        ("packages.update", "/s/{a}/p/{b}", "cannot be matched to"),
        ("packages.update", "/s/{a}/p/{a}", "more than once"),
        ("orders.search", "orders", "must begin with a slash"),
        ("orders.search", "/orders?all=true", "characters"),
        ("orders.search", "/or ders", "characters"),
        ("orders.search", "/\ud800", "characters"),
        ("orders.search", "//host/orders", "empty segment"),
        ("orders.search", "/a/../b", "dots"),
        ("orders.search", "/a/{b", "brace"),
        ("orders.search", "/" + "a" * 1000, "longer than"),
    ],
)
def test_a_path_that_cannot_be_sent(key: str, path: str, words: str) -> None:
    """It is not taken over: a request to it would fail, or mean something else."""
    imported = import_document(described(titled(key, path)))
    assert imported.matched == ()
    assert words in reason(imported, key)
    assert [one.reason for one in imported.unknown] == [reason(imported, key)]


def test_two_parameters_go_by_name() -> None:
    """In any order; one that is left over goes to the one that is left."""
    for path, expected in {
        "/p/{PACKAGE_ID}/s/{shipment-id}": "/p/{packageId}/s/{shipmentId}",
        "/s/{id}/p/{packageId}": "/s/{shipmentId}/p/{packageId}",
    }.items():
        assert the_match(
            import_document(described(titled("packages.update", path))), "packages.update"
        ).path == (expected)


# --- servers and prefixes ---------------------------------------------------------------------------------


def test_the_path_of_the_server_stands_before_paths() -> None:
    """Of the operation, else of its path, else of the document; its variables have their defaults."""
    document = described(
        titled("orders.search", "/o"),
        titled("notes.search", "/n", servers=[{"url": "https://{host}/{base}/", "variables": {
            "host": {"default": "h.example.com"}, "base": {"default": "own"}}}]),
        titled("products.list", "/p"),
        servers=[{"url": "https://api.example.com/mesh/"}, {"url": "https://second.example.com/x"}],
    )  # fmt: skip
    document["paths"]["/p"]["servers"] = [{"url": "relative"}]
    imported = import_document(document)
    assert {match.key: match.path for match in imported.matched} == {
        "orders.search": "/mesh/o",
        "notes.search": "/own/n",
        "products.list": "/relative/p",
    }
    assert imported.servers == ("/mesh", "/own", "/relative")


def test_a_server_that_is_the_service_s_prefix_changes_nothing() -> None:
    """The service's own document: `/v1/notes` behind `/note` is what the table says."""
    document = of_table(lambda operation: operation.path.removeprefix("/note"))
    for path in [path for path in document["paths"] if path.startswith("/v1/notes")]:
        document["paths"][path]["servers"] = [{"url": "https://api.example.com/note"}]
    assert import_document(document).operations == {}


def test_swagger() -> None:
    """The older generation: base path, parameters without a schema, answers without a content type."""
    document = described(
        titled(
            "orders.search", "/orders",
            parameters=[{"name": "pageNumber", "in": "query", "type": "integer", "default": 0},
                        {"name": "size", "in": "query", "type": "integer", "maximum": 200}],
            responses={"200": {"description": "", "schema": {"$ref": "#/definitions/Page"}}},
        ),
        basePath="/api/", definitions={"Page": {"properties": {"data": {"type": "array"}}}},
    )  # fmt: skip
    document["swagger"] = document.pop("openapi") and "2.0"
    assert import_document(document).operations == {
        "orders.search": {
            "path": "/api/orders", "page_parameter": "pageNumber", "first_page": 0,
            "size_parameter": "size", "largest_page": 200, "wrapper": "data",
        }
    }  # fmt: skip


def test_paths_without_the_prefix_of_their_service() -> None:
    """They are taken as they stand and told; asked for, the prefix is put before those that lack it."""
    document = of_table(lambda operation: operation.path.removeprefix(f"/{operation.service}"))
    # Two services have a path in common without their prefix, of which a document can have but one.
    plainly = import_document(document)
    assert set(plainly.unprefixed) == set(SERVICES)
    assert the_match(plainly, "orders.search").changed == {"path": "/v1/orders"}
    prefixed = import_document(document, add_prefixes=True)
    assert prefixed.unprefixed == ()
    assert {match.key: match.changed for match in prefixed.matched if match.changed} == {}
    behind = described(titled("orders.search", "/v1/x"), servers=[{"url": "/mesh"}])
    assert the_match(import_document(behind, add_prefixes=True), "orders.search").path == "/mesh/order/v1/x"
    there = described(titled("orders.search", "/v1/x"), servers=[{"url": "/mesh/order"}])
    assert the_match(import_document(there, add_prefixes=True), "orders.search").path == "/mesh/order/v1/x"


# --- lists ------------------------------------------------------------------------------------------------


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


# --- documents that are wrong, or meant to do harm --------------------------------------------------------


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
