"""The order service of the sandbox over real HTTP: every operation, and what it refuses."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.sandbox_api import SandboxApi
from tests.support.sandbox_orders import ADDRESS, body, created, read, some
from worker.sandbox import SandboxServer

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z")


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxServer]:
    """A sandbox with 40 orders."""
    with SandboxServer(orders=40) as server:
        yield server


# Creating


def test_a_created_order_has_every_field_of_the_others(server: SandboxServer, api: SandboxApi) -> None:
    """A create answers 201 with the whole order, open and never changed, in the shape of all others."""
    answer = api.send("orders.create", body("MUG-11OZ-WHT", "UNLISTED", externalId="E-1", meta={"a": "b"}))
    assert answer.status_code == 201
    order = answer.json()["order"]
    known = server.store.read(server.store.ids()[0]) or {}
    assert list(order) == list(known)
    assert [list(item) for item in order["items"]] == [list(known["items"][0])] * 2
    assert (order["status"], order["updatedAt"], order["externalId"]) == ("Open", None, "E-1")
    assert (order["currencyCode"], order["languageCode"]) == ("USD", "en")
    assert order["merchantItemTotal"] == {"currency": "USD", "amount": 2 * 7.9 + 2 * 10}
    assert TIME.fullmatch(order["createdAt"])
    assert server.store.ids()[-1] == order["id"]
    assert read(api, order["id"]) == order


def test_the_same_safe_id_twice_is_a_conflict(server: SandboxServer, api: SandboxApi) -> None:
    """A second create with a `safeId` is 409 and makes nothing, whether the first was made by us or not."""
    order = created(api, safeId="once")
    assert order["safeId"] == "once"
    before = len(server.store)
    for safe_id in ("once", some(server, "Fulfilled")["safeId"]):
        error = api.refused(409, "orders.create", body(safeId=safe_id))
        assert (error["propertyName"], error["attemptedValue"]) == ("safeId", safe_id)
    assert len(server.store) == before


@pytest.mark.parametrize(
    ("change", "property_name"),
    [
        ({"items": []}, "items"),
        ({"items": None}, "items"),
        ({"shippingAddress": None}, "shippingAddress"),
        ({"items": [{"sku": " ", "quantity": 1}]}, "items[0].sku"),
        ({"items": [{"sku": "A", "quantity": 0}]}, "items[0].quantity"),
        ({"currencyCode": "XXX"}, "currencyCode"),
        ({"languageCode": "xx"}, "languageCode"),
    ],
)
def test_a_bad_order_is_400(api: SandboxApi, change: dict[str, Any], property_name: str) -> None:
    """What makes no order is refused with the name of the field."""
    assert api.refused(400, "orders.create", body() | change)["propertyName"] == property_name


def test_a_bulk_create_is_never_all_or_nothing(server: SandboxServer, api: SandboxApi) -> None:
    """Every item of a bulk has its own result, at its position; the good ones are made."""
    before = len(server.store)
    sent = [body(safeId="bulk-1"), {"items": []}, "no order", body(safeId="bulk-1"), body()]
    results = api.do("orders.create_many", {"bulk": sent})["items"]
    assert [each["index"] for each in results] == [0, 1, 2, 3, 4]
    assert [each["statusCode"] for each in results] == [201, 400, 400, 409, 201]
    assert [each["isSuccess"] for each in results] == [True, False, False, False, True]
    assert [bool(each["errors"]) for each in results] == [False, True, True, True, False]
    assert [results[0]["id"], results[4]["id"]] == server.store.ids()[-2:]
    assert len(server.store) == before + 2


@pytest.mark.parametrize("sent", [{}, {"bulk": []}, {"bulk": {}}, {"bulk": [{}] * 101}])
def test_a_bad_envelope_is_400(api: SandboxApi, sent: dict[str, Any]) -> None:
    """A bulk without a list, with an empty one or with one that is too long is refused as a whole."""
    assert api.refused(400, "orders.create_many", sent)["propertyName"] == "bulk"


# Reading


def test_orders_are_read_by_safe_id(server: SandboxServer, api: SandboxApi) -> None:
    """By safe id comes the same answer as by id; an unknown one is 404."""
    order = some(server, "Fulfilled")
    assert api.do("orders.get_by_safe_id", safeId=order["safeId"]) == {"order": order}
    assert api.refused(404, "orders.get_by_safe_id", safeId="nobody")["propertyName"] == "safeId"


def test_a_list_serves_the_same_pages_as_a_search(api: SandboxApi) -> None:
    """The list of orders is paged like the search."""
    query = {"page": 2, "pageSize": 7}
    assert api.do("orders.list", query=query) == api.do("orders.search", query=query)


def test_several_orders_are_read_at_once(server: SandboxServer, api: SandboxApi) -> None:
    """A bulk read gives each order or its 404, for ids with commas between them or given one by one."""
    first, second = server.store.ids()[:2]
    results = api.do("orders.get_many", query={"ids": f"{first},nobody,{second}"})["items"]
    assert [(each["id"], each["statusCode"]) for each in results] == [
        (first, 200),
        ("nobody", 404),
        (second, 200),
    ]
    assert [results[0]["data"], results[2]["data"]] == [server.store.read(first), server.store.read(second)]
    assert "data" not in results[1]
    assert api.refused(400, "orders.get_many")["propertyName"] == "ids"


def test_items_of_all_orders_are_searched(server: SandboxServer, api: SandboxApi) -> None:
    """A search for items walks through every item of every order once, each with the id of its order."""
    walked = []
    for page in range(1, 100):
        found = api.do("order_items.search", query={"page": page, "pageSize": 9})["orderItems"]
        walked += found
        if len(found) < 9:
            break
    expected = [
        item | {"orderId": order_id}
        for order_id in server.store.ids()
        for item in (server.store.read(order_id) or {})["items"]
    ]
    assert sorted(walked, key=lambda each: each["id"]) == sorted(expected, key=lambda each: each["id"])
    total = api.do("order_items.search")["total"]
    assert total == len(expected)


@pytest.mark.parametrize("name", ["orderId", "status", "sku", "merchantId"])
def test_items_are_narrowed(server: SandboxServer, api: SandboxApi, name: str) -> None:
    """Each filter gives the items with that value and no others; the merchant is that of the order."""
    everything = server.world.truth("order_items")
    merchants = {each: (server.store.read(each) or {})["merchantId"] for each in server.store.ids()}
    rows = api.do("order_items.search", query={"pageSize": 1000})["orderItems"]
    assert len(rows) == len(everything)
    values = {each["id"]: each[name] if name in each else merchants[each["orderId"]] for each in rows}
    wanted = values[rows[3]["id"]]
    found = api.do("order_items.search", query={"pageSize": 1000, name: wanted})["orderItems"]
    assert {each["id"] for each in found} == {each for each, value in values.items() if value == wanted}


def test_an_item_alone_has_no_order_id(server: SandboxServer, api: SandboxApi) -> None:
    """A single item stands under `orderItem` as it is in its order, without the order's id."""
    item = some(server, "Fulfilled")["items"][0]
    assert api.do("order_items.get", itemId=item["id"]) == {"orderItem": item}
    assert api.refused(404, "order_items.get", itemId="nobody")["propertyName"] == "itemId"


# Changing


def test_an_update_changes_the_fields_it_names(api: SandboxApi) -> None:
    """Fields are replaced, objects such as addresses changed field by field, and `updatedAt` moves."""
    order = created(api)
    sent = {"shippingAddress": {"line1": "2 Mill Lane"}, "externalId": "E-2", "somethingElse": 1}
    changed = api.do("orders.update", sent, orderId=order["id"])["order"]
    assert changed["shippingAddress"] == ADDRESS | {"line1": "2 Mill Lane"}
    assert changed["externalId"] == "E-2"
    assert "somethingElse" not in changed
    assert changed["updatedAt"] > order["createdAt"]


@pytest.mark.parametrize("sent", [{"status": "Fulfilled"}, {"id": "x"}, {"meta": 5}, {"safeId": "other"}])
def test_an_update_of_what_is_the_services_own_is_400(api: SandboxApi, sent: dict[str, Any]) -> None:
    """Status and ids are not a client's to set, and types are kept; nothing changes."""
    order = created(api)
    assert api.refused(400, "orders.update", sent, orderId=order["id"])["propertyName"] == next(iter(sent))
    assert read(api, order["id"]) == order


def test_a_bulk_update_names_orders_in_the_items(api: SandboxApi) -> None:
    """Items name their order by id or safe id; each is done or refused by itself."""
    one, other = created(api), created(api)
    sent = [
        {"id": one["id"], "externalId": "first"},
        {"safeId": other["safeId"], "externalId": "second"},
        {"id": "nobody", "externalId": "third"},
        {"externalId": "fourth"},
    ]
    results = api.do("orders.update_many", {"bulk": sent})["items"]
    assert [each["statusCode"] for each in results] == [200, 200, 404, 404]
    assert [results[0]["id"], results[1]["id"]] == [one["id"], other["id"]]
    assert [read(api, each["id"])["externalId"] for each in (one, other)] == ["first", "second"]


@pytest.mark.parametrize("status", ["Fulfilled", "Cancelled"])
@pytest.mark.parametrize("key", ["orders.update", "orders.cancel", "orders.hold"])
def test_a_closed_order_does_not_change(
    server: SandboxServer, api: SandboxApi, status: str, key: str
) -> None:
    """A fulfilled or cancelled order refuses updates, cancellation and hold with 409."""
    order = some(server, status)
    assert api.refused(409, key, {}, orderId=order["id"])["attemptedValue"] == status
    assert read(api, order["id"]) == order


@pytest.mark.parametrize(
    "key", ["orders.get", "orders.update", "orders.cancel", "orders.hold", "orders.audit_logs"]
)
def test_an_unknown_order_is_404(api: SandboxApi, key: str) -> None:
    """Every operation on an order that is not there says so."""
    sent: dict[str, Any] | None = None if key in ("orders.get", "orders.audit_logs") else {}
    assert api.refused(404, key, sent, orderId="nobody")["propertyName"] == "orderId"


def test_an_item_is_changed_until_it_is_made(server: SandboxServer, api: SandboxApi) -> None:
    """An open item takes another quantity, which moves the totals; one in production is left as it is."""
    order = created(api)
    path = {"orderId": order["id"], "itemId": order["items"][0]["id"]}
    item = api.do("order_items.update", {"quantity": 5, "images": [{"url": "u"}]}, **path)["orderItem"]
    assert (item["quantity"], item["merchantItemTotal"]["amount"]) == (5, 39.5)
    assert item["images"][0] == dict.fromkeys(item["images"][0]) | {"url": "u"}
    now = read(api, order["id"])
    assert now["items"] == [item]
    assert now["merchantItemTotal"]["amount"] == 39.5
    assert item["updatedAt"] == now["updatedAt"]
    assert api.refused(400, "order_items.update", {"quantity": True}, **path)["propertyName"] == "quantity"
    assert api.refused(400, "order_items.update", {"status": "Done"}, **path)["propertyName"] == "status"
    assert api.refused(404, "order_items.update", {}, **(path | {"itemId": "nobody"}))
    made = some(server, "Fulfilled")
    path = {"orderId": made["id"], "itemId": made["items"][0]["id"]}
    assert api.refused(409, "order_items.update", {"quantity": 5}, **path)


def test_a_whole_order_is_cancelled(api: SandboxApi) -> None:
    """Without items the order ends, with all of its items; a second time is a conflict."""
    order = created(api, "A", "B")
    cancelled = api.do("orders.cancel", orderId=order["id"])["order"]
    assert cancelled["status"] == "Cancelled"
    assert TIME.fullmatch(cancelled["cancelledAt"])
    assert [(each["status"], each["cancelledAt"]) for each in cancelled["items"]] == [
        ("Cancelled", cancelled["cancelledAt"])
    ] * 2
    assert api.refused(409, "orders.cancel", orderId=order["id"])


def test_items_are_cancelled_one_by_one(api: SandboxApi) -> None:
    """Named items are cancelled and the order goes on; with its last item it is cancelled itself."""
    order = created(api, "A", "B")
    first, second = (each["id"] for each in order["items"])
    partly = api.do("orders.cancel", {"items": [{"id": first, "quantity": 2}]}, orderId=order["id"])["order"]
    assert (partly["status"], [each["status"] for each in partly["items"]]) == ("Open", ["Cancelled", "Open"])
    assert api.refused(409, "orders.cancel", {"items": [{"id": first}]}, orderId=order["id"])
    assert api.refused(400, "orders.cancel", {"items": [{"id": "nobody"}]}, orderId=order["id"])
    assert api.refused(400, "orders.cancel", {"items": []}, orderId=order["id"])
    assert api.refused(400, "orders.cancel", {"items": [{"id": second}, second]}, orderId=order["id"])
    wholly = api.do("orders.cancel", {"itemIds": [second]}, orderId=order["id"])["order"]
    assert wholly["status"] == "Cancelled"
    assert wholly["items"][0]["cancelledAt"] == partly["items"][0]["cancelledAt"]


def test_an_order_is_held(api: SandboxApi) -> None:
    """A hold changes the status of the order, not of its items, and is a conflict the second time."""
    order = created(api)
    held = api.do("orders.hold", orderId=order["id"])["order"]
    assert (held["status"], held["items"][0]["status"]) == ("Customer Care Hold", "Open")
    assert api.refused(409, "orders.hold", orderId=order["id"])
    assert api.do("orders.cancel", orderId=order["id"])["order"]["status"] == "Cancelled"


def test_refunds_are_kept_in_the_item(server: SandboxServer, api: SandboxApi) -> None:
    """Refunds stand in `refundData` of their items, of closed orders too, and lower what is left."""
    order = some(server, "Fulfilled")
    item = order["items"][0]
    shipping, price = order["merchantShippingTotal"]["amount"], item["merchantItemTotal"]["amount"]
    refunds = [
        {"itemId": item["id"], "isShippingRefund": False, "amount": 1.5, "reason": "Print quality"},
        {"itemId": item["id"], "isShippingRefund": True, "amount": shipping},
    ]
    answer = api.send("orders.refund", {"orderId": order["id"], "refunds": refunds})
    assert answer.status_code == 201
    data = api.do("order_items.get", itemId=item["id"])["orderItem"]["refundData"]
    assert [each | {"transactionId": None} for each in data["refunds"]] == [
        {"transactionId": None, "isShippingRefund": False, "amount": 1.5, "reason": "Print quality"},
        {"transactionId": None, "isShippingRefund": True, "amount": shipping, "reason": None},
    ]
    assert data["remainingShippingBalance"] == 0
    assert data["remainingPriceBalance"] == pytest.approx(price - 1.5)
    assert [each["transactionId"] for each in answer.json()["refunds"]] == [
        each["transactionId"] for each in data["refunds"]
    ]


def test_a_refund_is_made_as_a_whole_or_not_at_all(api: SandboxApi) -> None:
    """One refund that asks for too much, or for an item that is not there, refuses the request; nothing is kept."""
    order = created(api)
    item_id = order["items"][0]["id"]
    good = {"itemId": item_id, "amount": 1}
    for bad, status, name in (
        ({"itemId": item_id, "amount": 1_000}, 400, "refunds[1].amount"),
        ({"itemId": item_id, "amount": 0}, 400, "refunds[1].amount"),
        ({"itemId": "nobody", "amount": 1}, 404, "refunds[1].itemId"),
    ):
        sent = {"orderId": order["id"], "refunds": [good, bad]}
        assert api.refused(status, "orders.refund", sent)["propertyName"] == name
    assert api.refused(404, "orders.refund", {"orderId": "nobody", "refunds": [good]})
    assert api.refused(400, "orders.refund", {"orderId": order["id"], "refunds": []})
    assert read(api, order["id"]) == order
