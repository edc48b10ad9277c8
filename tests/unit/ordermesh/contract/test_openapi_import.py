"""What an OpenAPI document says of the 79 operations, however it is written, and if it is meant to do harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.openapi_documents import described, of_table, the_match, titled
from worker.ordermesh.contract.layers import plain
from worker.ordermesh.contract.openapi_import import NOT_DESCRIBED, Imported, import_document
from worker.ordermesh.contract.operations import OPERATIONS, SERVICES, Operation

TWINS = ("orders.audit_logs", "orders.audit_logs_by_safe_id")


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
