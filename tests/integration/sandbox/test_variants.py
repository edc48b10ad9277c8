"""Every variant of the contract as a client sees it: lists, times, paths, logins and audit logs."""

import json
from typing import Any, Literal

import httpx
import pytest

from tests.support.sandbox_api import SandboxApi
from worker.ordermesh.contract.operations import OPERATIONS
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, ContractError, SandboxServer, ServedContract
from worker.sandbox.openapi.openapi import document
from worker.sandbox.services import HANDLERS

LISTS = [each for each in OPERATIONS.values() if each.records is not None and each.method == "GET"]
SEARCHES = {"orders": "orders.search", "order_items": "order_items.search", "shipments": "shipments.search"}


def test_every_operation_is_served() -> None:
    """There is a handler for each of the 79 operations, and for nothing else."""
    assert set(HANDLERS) == set(OPERATIONS)


def listed(api: SandboxApi, server: SandboxServer, key: str, **query: str | int) -> httpx.Response:
    """The answer of a list operation; names in its path are those of something that exists."""
    order = next(
        order
        for order in map(server.store.read, server.store.ids())
        if order is not None and order["shipmentIds"]
    )
    known = {
        "orderId": order["id"],
        "productId": server.world.products.ids()[0],
        "id": server.world.merchant_catalogs.ids()[0],
    }
    path = {name: known[name] for name in OPERATIONS[key].path_parameters}
    return api.send(key, query=query, **path)


# Lists


def test_every_list_stands_under_its_plural() -> None:
    """By default each list has the key that its row in the table expects, and pages tell their place and total."""
    with SandboxServer(orders=20) as server, SandboxApi(server) as api:
        for operation in LISTS:
            # The effective variants are served whole to those who ask for no page.
            body = listed(api, server, operation.key, page=1).raise_for_status().json()
            rest = {"page", "pageSize", "total"} if operation.paged else set()
            assert set(body) == {operation.records} | rest, operation.key
            assert isinstance(body[operation.records], list)


@pytest.mark.parametrize("key", ["data", None])
def test_another_wrapper_key_is_that_of_every_list(key: str | None) -> None:
    """A given key stands in every list, and without one every list is bare."""
    with (
        SandboxServer(orders=20, contract=ServedContract(wrapper_key=key)) as server,
        SandboxApi(server) as api,
    ):
        for operation in LISTS:
            body = listed(api, server, operation.key).raise_for_status().json()
            assert isinstance(body if key is None else body[key], list), operation.key


def test_a_size_above_the_limit_is_refused() -> None:
    """With `refuse_large` a page that is too large is 400, in every list; the limit itself is not."""
    contract = ServedContract(max_page_size=7, refuse_large=True)
    with SandboxServer(orders=20, contract=contract) as server, SandboxApi(server) as api:
        for operation in LISTS:
            if operation.paged:
                answer = listed(api, server, operation.key, pageSize=8)
                assert (answer.status_code, answer.json()["errors"][0]["propertyName"]) == (400, "pageSize")
                assert listed(api, server, operation.key, pageSize=7).status_code == 200
        assert len(api.do("orders.search")["orders"]) == 7


def test_page_0_may_be_the_first() -> None:
    """With `lenient_pages` page 0 of a list that begins at 1 is page 1; without it is refused."""
    with SandboxServer(orders=20) as server, SandboxApi(server) as api:
        assert api.send("shipments.search", query={"page": 0}).status_code == 400
    with (
        SandboxServer(orders=20, contract=ServedContract(lenient_pages=True)) as server,
        SandboxApi(server) as api,
    ):
        for key in SEARCHES.values():
            zero, one, two = (api.do(key, query={"page": each, "pageSize": 5}) for each in (0, 1, 2))
            assert zero == one != two


def test_pages_may_be_ignored() -> None:
    """With `ignore_page` every page is the first, whatever is asked for."""
    with (
        SandboxServer(orders=20, contract=ServedContract(ignore_page=True)) as server,
        SandboxApi(server) as api,
    ):
        for key in SEARCHES.values():
            first = api.do(key, query={"pageSize": 5})
            assert api.do(key, query={"page": 3, "pageSize": 5}) == first
            assert api.do(key, query={"page": "x", "pageSize": 5}) == first


# Times and order


PARAMETERS = {
    "orders": ("updatedFrom", "updatedTo", "updatedAt", "createdAt"),
    "order_items": ("updatedFrom", "updatedTo", "updatedAt", "createdAt"),
    "shipments": ("lastModifiedDateFrom", "lastModifiedDateTo", "lastModifiedDate", "createdDate"),
}


def modified(record: dict[str, Any], fields: tuple[str, ...]) -> str:
    """When a record was changed last, or else made."""
    return str(record[fields[2]] or record[fields[3]])


@pytest.mark.parametrize("kind", SEARCHES)
def test_times_are_ignored_unless_honoured(kind: str) -> None:
    """By default a filter or an order by time changes nothing at all."""
    fields = PARAMETERS[kind]
    with SandboxServer(orders=20) as server, SandboxApi(server) as api:
        plain = api.do(SEARCHES[kind])
        query = {fields[0]: "2999-01-01T00:00:00Z", "sortBy": fields[2], "sortDirection": "desc"}
        assert api.do(SEARCHES[kind], query=query) == plain


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_time_narrows_a_list(kind: str) -> None:
    """From and to are inclusive, a record that never changed counts by its creation, the future is empty."""
    key, fields = SEARCHES[kind], PARAMETERS[kind]
    with (
        SandboxServer(orders=60, contract=ServedContract(since_honoured=True)) as server,
        SandboxApi(server) as api,
    ):
        rows = api.do(key, query={"pageSize": 1000})[OPERATIONS[key].records or ""]
        times = sorted(modified(each, fields) for each in rows)
        low, high = times[len(times) // 4], times[len(times) // 2]

        def asked(**query: str) -> list[dict[str, Any]]:
            body = api.do(key, query={"pageSize": "1000"} | query)
            found: list[dict[str, Any]] = body[OPERATIONS[key].records or ""]
            assert body["total"] == len(found)
            return found

        assert asked(**{fields[0]: low}) == [each for each in rows if modified(each, fields) >= low]
        assert asked(**{fields[1]: high}) == [each for each in rows if modified(each, fields) <= high]
        both = asked(**{fields[0]: low, fields[1]: high})
        assert both == [each for each in rows if low <= modified(each, fields) <= high]
        assert asked(**{fields[0]: "2999-01-01"}) == []
        assert asked(**{fields[0]: "1960-01-01"}) == rows
        other_service = "updatedFrom" if kind == "shipments" else "lastModifiedDateFrom"
        assert asked(**{other_service: "2999-01-01"}) == rows
        refused = api.send(key, query={fields[0]: "yesterday"})
        assert (refused.status_code, refused.json()["errors"][0]["propertyName"]) == (400, fields[0])


def test_a_change_moves_a_record_into_the_window() -> None:
    """What changes after a moment, and only that, is found from that moment on, in whatever form it is written."""
    with (
        SandboxServer(orders=30, contract=ServedContract(since_honoured=True)) as server,
        SandboxApi(server) as api,
    ):
        now = "2026-01-01T00:00:00+00:00"
        assert api.do("orders.search", query={"updatedFrom": now})["orders"] == []
        changed = server.store.ids()[3]
        server.store.change(changed, status="Fulfilled")
        found = api.do("orders.search", query={"updatedFrom": now})["orders"]
        assert [each["id"] for each in found] == [changed]
        (shipment_id,) = (server.store.read(changed) or {})["shipmentIds"]
        assert api.do("shipments.search", query={"lastModifiedDateFrom": now})["shipments"] == []
        server.world.shipments.change(shipment_id)
        found = api.do("shipments.search", query={"lastModifiedDateFrom": "2026-01-01T00:00:00"})["shipments"]
        assert [each["id"] for each in found] == [shipment_id]


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_a_list_is_ordered_by_time(kind: str, direction: str) -> None:
    """Pages in turn hold every record once, in the order asked for; a field that is none changes nothing."""
    key, fields = SEARCHES[kind], PARAMETERS[kind]
    contract = ServedContract(sort_honoured=True, max_page_size=9)
    with SandboxServer(orders=60, contract=contract) as server, SandboxApi(server) as api:
        plural = OPERATIONS[key].records or ""

        def walked(sort_by: str) -> list[dict[str, Any]]:
            query: dict[str, str | int] = {"pageSize": 9, "sortBy": sort_by, "sortDirection": direction}
            return [
                each for page in range(1, 12) for each in api.do(key, query=query | {"page": page})[plural]
            ]

        by_change = walked(fields[2])
        times = [modified(each, fields) for each in by_change]
        assert times == sorted(times, reverse=direction == "desc")
        assert len({each["id"] for each in by_change}) == len(by_change) == len(server.world.truth(kind))
        by_creation = [each[fields[3]] for each in walked(fields[3])]
        assert by_creation == sorted(by_creation, reverse=direction == "desc")
        assert [each["id"] for each in walked("nothing")] == list(server.world.truth(kind))


def test_filter_and_order_work_together() -> None:
    """A filter by field, one by time and an order narrow and order the same list."""
    contract = ServedContract(since_honoured=True, sort_honoured=True)
    with SandboxServer(orders=60, contract=contract) as server, SandboxApi(server) as api:
        rows = api.do("orders.search", query={"pageSize": 100, "status": "Fulfilled"})["orders"]
        low = sorted(each["updatedAt"] for each in rows)[20]
        query = {"pageSize": 100, "status": "Fulfilled", "updatedFrom": low, "sortBy": "updatedAt"}
        found = api.do("orders.search", query=query | {"sortDirection": "desc"})["orders"]
        expected = [each for each in rows if each["updatedAt"] >= low]
        assert found == sorted(expected, key=lambda each: each["updatedAt"], reverse=True)


# Paths


def fetch(server: SandboxServer, path: str) -> httpx.Response:
    """What stands at a path, for a client that is logged in."""
    login = httpx.post(
        server.url + OPERATIONS["clients.token"].path,
        json={"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET},
    )
    token = login.raise_for_status().json()["accessToken"]
    return httpx.get(server.url + path, headers={"authorization": f"Bearer {token}"})


def test_a_service_may_stand_without_its_prefix() -> None:
    """The service answers at its own path, and under its prefix there is nothing; others are where they were."""
    with SandboxServer(orders=5, contract=ServedContract(prefixless=("order",))) as server:
        order_id = server.store.ids()[0]
        for path in ("/v1/orders", f"/v1/orders/{order_id}", "/v1/orderItems", "/v1/orders/list"):
            assert fetch(server, path).status_code == 200
            assert fetch(server, f"/order{path}").status_code == 404
        assert fetch(server, "/shipment/v1/search").status_code == 200
        paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
        assert "/v1/orders/{orderId}" in paths
        assert not [path for path in paths if path.startswith("/order/")]


def test_operations_may_be_moved() -> None:
    """An operation answers at another path, whatever its parameters are called there, and not at its own."""
    moved = {
        "orders.search": "/order/v1/orders/search",
        "orders.get": "/order/v2/{id}",
        "order_items.update": "/order/v2/items/{item}/of/{order}",
    }
    with SandboxServer(orders=5, contract=ServedContract(moved=moved)) as server:
        order_id = server.store.ids()[0]
        assert len(fetch(server, "/order/v1/orders/search").json()["orders"]) == 5
        assert fetch(server, f"/order/v2/{order_id}").json()["order"]["id"] == order_id
        for operation, path in (
            ("orders.search", "/order/v1/orders"),
            ("orders.get", f"/order/v1/orders/{order_id}"),
        ):
            assert fetch(server, path).status_code in (404, 405), operation
        paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
        assert {"/order/v1/orders/search", "/order/v2/{id}"} <= set(paths)
        assert "get" not in paths["/order/v1/orders"]


def test_paths_that_cannot_be_told_apart_are_refused() -> None:
    """Two operations at one path, or a path with other parameters, make no contract."""
    with pytest.raises(ContractError, match=r"orders\.get and shipments\.for_order are both GET"):
        ServedContract(prefixless=("order", "shipment"))
    with pytest.raises(ContractError, match=r"moved\.orders\.get .* 1 \{parameters\}"):
        ServedContract(moved={"orders.get": "/order/v1/one"})


def test_the_document_needs_no_token() -> None:
    """The OpenAPI document of the sandbox is served to anybody, for its contract."""
    with SandboxServer(orders=1, contract=ServedContract(wrapper_key="data")) as server:
        answer = httpx.get(f"{server.url}/openapi.json")
        assert answer.json() == document(server.options.contract, server.url)


# Logins and audit logs


@pytest.mark.parametrize(
    ("case", "camel", "snake"), [("either", 200, 200), ("camel", 200, 400), ("snake", 400, 200)]
)
def test_the_spelling_of_a_login(case: Any, camel: int, snake: int) -> None:
    """The token request takes the spelling of the contract; another one is 400 and names the field."""
    with SandboxServer(orders=1, contract=ServedContract(login_case=case)) as server:
        url = server.url + OPERATIONS["clients.token"].path
        answers = [
            httpx.post(url, json={"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}),
            httpx.post(url, json={"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}),
        ]
        assert [each.status_code for each in answers] == [camel, snake]
        for answer in answers:
            if answer.status_code == 400:
                expected = "client_id" if case == "snake" else "clientId"
                assert answer.json()["errors"][0]["propertyName"] == expected


def test_audit_logs_of_another_shape() -> None:
    """In the bare shape logs are a list of the same entries with other names and their data as text."""
    logs = []
    shapes: tuple[Literal["wrapped", "bare"], ...] = ("wrapped", "bare")
    for shape in shapes:
        with (
            SandboxServer(orders=3, contract=ServedContract(audit_shape=shape)) as server,
            SandboxApi(server) as api,
        ):
            (order_id,) = server.store.create()
            api.do("orders.update", {"externalId": "other"}, orderId=order_id)
            logs.append(api.do("orders.audit_logs", orderId=order_id))
    wrapped, bare = logs[0]["auditLogs"], logs[1]
    assert [list(each) for each in bare] == [["auditId", "createdAt", "eventType", "performedBy", "data"]] * 2
    assert [each["eventType"] for each in bare] == ["order.Created", "order.Updated"]
    assert [each["performedBy"] for each in bare] == [each["user"] for each in wrapped]
    assert json.loads(bare[1]["data"])["changes"] == wrapped[1]["changes"]
    assert wrapped[1]["changes"][0]["newValue"] == "other"
