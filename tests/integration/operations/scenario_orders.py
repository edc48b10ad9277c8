"""Scenarios of the order service."""

from __future__ import annotations

import pytest

from tests.integration.operations.scenario import SKUS, Walk, new_order, walks
from worker.errors import Conflict, NotFound
from worker.ordermesh.bodies import AddRefundItemModel, AddRefundModel, as_fields


@walks("order_items.search")
async def search_items(walk: Walk) -> None:
    order = await walk.order()
    found = await walk.client.order_items.search(order_id=order["id"])
    assert [each["id"] for each in found.values] == [each["id"] for each in order["items"]]
    (one,) = (await walk.client.order_items.search(order_id=order["id"], sku=SKUS[1])).values
    assert one["sku"] == SKUS[1]
    assert len((await walk.client.order_items.search(page_size=3)).records) == 3


@walks("orders.create")
async def create(walk: Walk) -> None:
    body = new_order("walk-create")
    reply = await walk.client.orders.create(body)
    assert reply.status == 201
    order = (await walk.client.orders.get(reply.fields["id"])).fields
    sent = as_fields(body)
    for name in ("safeId", "externalId", "shippingAddress", "currencyCode"):
        assert order[name] == sent[name]
    assert [(each["sku"], each["quantity"]) for each in order["items"]] == [(SKUS[0], 2), (SKUS[1], 2)]
    assert order["items"][0]["images"][0]["url"] == "https://cdn.example.com/1.png"
    assert (order["status"], order["updatedAt"]) == ("Open", None)
    with pytest.raises(Conflict, match="safeId"):
        await walk.client.orders.create(body)
    await walk.was_made("order", order["id"])


@walks("orders.search")
async def search(walk: Walk) -> None:
    whole = await walk.client.orders.search(page_size=50)
    assert whole.total == len(whole.records) == 50
    second = await walk.client.orders.search(page=1, page_size=20)
    assert second.records == whole.records[20:40]
    order = whole.values[7]
    (found,) = (await walk.client.orders.search(safe_id=order["safeId"], is_test=False)).values
    assert found == order
    assert (await walk.client.orders.search(status="Cancelled", external_id="nobody")).records == ()


@walks("orders.create_many")
async def create_many(walk: Walk) -> None:
    bodies = [new_order(f"walk-many-{number}") for number in range(5)]
    bodies[3].safe_id = "walk-many-0"
    reply = await walk.client.orders.create_many(bodies, most_in_bulk=2)
    assert [item.ok for item in reply.items] == [True, True, True, False, True]
    assert reply.items[3].status == 409
    assert "safeId" in reply.items[3].errors[0].property_name
    for item in reply.items[:3]:
        assert item.id is not None
        order = (await walk.client.orders.get(item.id)).fields
        assert order["safeId"] == bodies[item.position].safe_id
        await walk.was_made("order", item.id)


@walks("orders.get_many")
async def get_many(walk: Walk) -> None:
    orders = (await walk.client.orders.search(page_size=3)).values
    reply = await walk.client.orders.get_many([orders[2]["id"], "nobody", orders[0]["id"]])
    assert [item.ok for item in reply.items] == [True, False, True]
    assert [item.id for item in reply.items] == [orders[2]["id"], "nobody", orders[0]["id"]]
    assert reply.items[0].raw is not None
    assert orders[2]["safeId"].encode() in reply.items[0].raw


@walks("orders.update_many")
async def update_many(walk: Walk) -> None:
    one, other = await walk.order(), await walk.order()
    changes = [
        {"id": one["id"], "externalId": "changed-1"},
        {"id": "nobody", "externalId": "x"},
        {"id": other["id"], "externalId": "changed-2"},
    ]
    async with (
        walk.leaves("order", one["id"], externalId="changed-1"),
        walk.leaves("order", other["id"], externalId="changed-2"),
    ):
        reply = await walk.client.orders.update_many(changes)
    assert [item.ok for item in reply.items] == [True, False, True]
    assert (await walk.client.orders.get(other["id"])).fields["externalId"] == "changed-2"


@walks("orders.list")
async def list_orders(walk: Walk) -> None:
    found = await walk.client.orders.list(page=2, page_size=20)
    assert (found.total, len(found.records)) == (50, 10)
    assert {"id", "status", "createdAt"} <= set(found.values[0])


@walks("orders.get")
async def get(walk: Walk) -> None:
    order = await walk.some_order()
    reply = await walk.client.orders.get(order["id"])
    assert reply.fields == order
    assert reply.value == {"order": order}
    with pytest.raises(NotFound):
        await walk.client.orders.get("nobody")


@walks("orders.update")
async def update(walk: Walk) -> None:
    order = await walk.order()
    async with walk.leaves("order", order["id"], externalId="changed"):
        reply = await walk.client.orders.update(order["id"], {"externalId": "changed"})
    assert reply.fields["externalId"] == "changed"
    read = (await walk.client.orders.get(order["id"])).fields
    assert (read["externalId"], read["safeId"]) == ("changed", order["safeId"])
    assert read["updatedAt"] > read["createdAt"]


@walks("orders.get_by_safe_id")
async def get_by_safe_id(walk: Walk) -> None:
    order = await walk.some_order()
    assert (await walk.client.orders.get_by_safe_id(order["safeId"])).fields == order


@walks("order_items.get")
async def get_item(walk: Walk) -> None:
    order = await walk.some_order()
    reply = await walk.client.order_items.get(order["items"][0]["id"])
    assert reply.fields == order["items"][0]
    assert list(reply.value) == ["orderItem"]


@walks("order_items.update")
async def update_item(walk: Walk) -> None:
    order = await walk.order()
    item = order["items"][1]
    async with walk.leaves("orderItem", item["id"], quantity=5):
        reply = await walk.client.order_items.update(order["id"], item["id"], {"quantity": 5})
    assert reply.fields["quantity"] == 5
    assert (await walk.client.order_items.get(item["id"])).fields["quantity"] == 5
    assert (await walk.client.orders.get(order["id"])).fields["items"][0] == order["items"][0]


@walks("orders.cancel")
async def cancel(walk: Walk) -> None:
    order = await walk.order()
    one, other = (each["id"] for each in order["items"])
    async with walk.leaves("order", order["id"], action="Cancelled"):
        await walk.client.orders.cancel(order["id"], {"items": [{"id": one}]})
    assert (await walk.client.order_items.get(one)).fields["status"] == "Cancelled"
    assert (await walk.client.order_items.get(other)).fields["status"] == "Open"
    async with walk.leaves("order", order["id"], action="Cancelled", status="Cancelled"):
        await walk.client.orders.cancel(order["id"])
    read = (await walk.client.orders.get(order["id"])).fields
    assert read["status"] == "Cancelled"
    assert read["cancelledAt"] is not None
    with pytest.raises(Conflict):
        await walk.client.orders.cancel(order["id"])


@walks("orders.hold")
async def hold(walk: Walk) -> None:
    order = await walk.order()
    async with walk.leaves("order", order["id"], action="CustomerCareHold", status="Customer Care Hold"):
        await walk.client.orders.hold(order["id"])
    assert (await walk.client.orders.get(order["id"])).fields["status"] == "Customer Care Hold"


@walks("orders.audit_logs")
async def audit_logs(walk: Walk) -> None:
    order = await walk.order()
    await walk.client.orders.update(order["id"], {"externalId": "changed"})
    made, changed = await walk.entries("order", order["id"])
    assert made.id != changed.id
    assert (made.time or "") < (changed.time or "")
    with pytest.raises(NotFound):
        await walk.client.orders.audit_logs("nobody")


@walks("orders.audit_logs_by_safe_id")
async def audit_logs_by_safe_id(walk: Walk) -> None:
    order = await walk.order()
    found = await walk.client.orders.audit_logs_by_safe_id(order["safeId"])
    assert found.entries == await walk.entries("order", order["id"])
    assert len(found.entries) == 1


@walks("order_items.audit_logs")
async def item_audit_logs(walk: Walk) -> None:
    order = await walk.order()
    item = order["items"][0]["id"]
    await walk.client.order_items.update(order["id"], item, {"quantity": 3})
    made, changed = await walk.entries("orderItem", item)
    assert b'"Created"' in made.raw
    assert b'"quantity"' in changed.raw


@walks("orders.refund")
async def refund(walk: Walk) -> None:
    order = await walk.order()
    item = order["items"][0]
    amount = item["merchantItemTotal"]["amount"] / 2
    refunds = [
        AddRefundItemModel(item_id=item["id"], is_shipping_refund=False, amount=amount, reason="broken")
    ]
    async with walk.leaves("order", order["id"], action="RefundRequested"):
        await walk.client.orders.refund(AddRefundModel(order_id=order["id"], refunds=refunds))
    data = (await walk.client.order_items.get(item["id"])).fields["refundData"]
    (entry,) = data["refunds"]
    assert (entry["amount"], entry["reason"], entry["isShippingRefund"]) == (amount, "broken", False)
    assert data["remainingPriceBalance"] == pytest.approx(amount)
