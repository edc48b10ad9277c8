import json
import re
from typing import Any

import pytest

from worker.sandbox import ShipmentStatus, Store
from worker.sandbox.data.shipment_data import derive
from worker.sandbox.documents.packing_slip import packing_slip
from worker.sandbox.documents.pdf import Line, render_pdf
from worker.sandbox.state.world import World


def made(world: World) -> list[str]:
    """Ids of the shipments that have been made so far."""
    return [each for each in world.shipments.ids() if not world.shipments.is_announced(each)]


def read(world: World, order_id: str) -> dict[str, Any]:
    order = world.orders.read(order_id)
    assert order is not None
    return order


def test_a_history_makes_no_shipment_before_it_is_asked_for() -> None:
    """At the start shipments are only announced; a page makes those it shows and no others."""
    world = World(Store(500))
    assert made(world) == []
    assert len(world.shipments) > 400
    assert len(world.shipments.window(10, 20)) == 10
    assert made(world) == world.shipments.ids()[10:20]


def test_announced_times_are_those_of_the_shipment() -> None:
    """What is announced of a shipment's times is what it has when it is made."""
    world = World(Store(300))
    announced = {each: world.shipments.times(each) for each in world.shipments.ids()}
    for shipment in world.shipments.values():
        assert (shipment["lastModifiedDate"], shipment["createdDate"]) == announced[shipment["id"]]


def test_a_change_is_made_of_what_was_there_before() -> None:
    """A shipment that nobody has seen goes through the change of its order like any other, with its entry."""
    world = World(Store(300))
    order = next(
        order for order in map(world.orders.read, world.orders.ids()[270:]) if order and order["shipmentIds"]
    )
    (shipment_id,) = order["shipmentIds"]
    assert order["status"] == "In Production"
    assert world.shipments.is_announced(shipment_id)
    world.orders.change(order["id"], status="Fulfilled")
    assert (world.shipments.get(shipment_id) or {})["shipmentStatus"] == ShipmentStatus.SHIPPED
    entry = world.audit.entries("shipment", shipment_id)[-1]
    assert entry["action"] == "Shipped"
    status = {"property": "shipmentStatus", "oldValue": 1, "newValue": 4}
    assert status in entry["changes"]


def test_orders_and_shipments_agree_whatever_happens() -> None:
    """After hundreds of random changes every order still names its shipments and their facilities, and they it."""
    world = World(Store(60, seed=4))
    for _ in range(300):
        world.orders.change(2)
        world.orders.create()
        world.shipments.change()
    seen = set()
    for order_id in world.orders.ids():
        order = read(world, order_id)
        shipments = world.shipments.of_order(order)
        assert [each["id"] for each in shipments] == order["shipmentIds"]
        assert [each["facilityName"] for each in shipments] == order["facilityNames"]
        assert len(order["shipmentCreatedDates"]) == len(shipments)
        seen |= {(order["status"], each["shipmentStatus"]) for each in shipments}
    assert len(world.shipments) == sum(len(read(world, each)["shipmentIds"]) for each in world.orders.ids())
    assert ("Fulfilled", ShipmentStatus.SHIPPED) in seen
    assert ("Cancelled", ShipmentStatus.CANCELLED) in seen
    assert ("Cancelled", ShipmentStatus.ASSIGNED) not in seen


def test_a_deleted_order_takes_its_shipments_along() -> None:
    """Without its order there is no shipment; entries of both stay."""
    world = World(Store(50))
    order = read(world, world.orders.ids()[0])
    (shipment_id,) = order["shipmentIds"]
    world.orders.delete(order["id"])
    assert world.shipments.get(shipment_id) is None
    assert [each["action"] for each in world.audit.entries("shipment", shipment_id)] == ["Deleted"]


def test_the_same_order_gives_the_same_shipment() -> None:
    """A shipment is a function of its order."""
    one, other = World(Store(40, seed=2)), World(Store(40, seed=2))
    assert one.truth("shipments") == other.truth("shipments")


def test_a_shipment_of_an_unreadable_order_is_still_one() -> None:
    """A record that a test planted over an order costs its shipment details, not the whole list."""
    world = World(Store(20))
    order_id = world.orders.ids()[0]
    (shipment_id,) = read(world, order_id)["shipmentIds"]
    world.orders.replace(order_id, b"{not json")
    shipment = world.shipments.get(shipment_id) or {}
    assert (shipment["id"], shipment["orderId"], shipment["orderItems"]) == (shipment_id, order_id, [])
    assert len(world.truth("shipments")) == len(world.shipments)


def test_a_later_shipment_has_a_part_of_the_order() -> None:
    """A parcel that is sent after the first has one item and is under way."""
    store = Store(1)
    order = json.loads(store.get(store.ids()[0]) or b"")
    order["shipmentIds"] = ["a" * 32, "b" * 32]
    shipment = derive(order, 1, "b" * 32)
    assert len(shipment["orderItemIDs"]) == 1
    assert shipment["shipmentStatus"] == ShipmentStatus.ASSIGNED


# PDF


def test_lines_of_a_pdf() -> None:
    """Each line has its font and its indent, from top to bottom; the title is that of the document."""
    pdf = render_pdf("Test", [Line("one"), Line("two", bold=True, indent=10)])
    one, two = re.findall(rb"BT /F(\d) 11.00 Tf ET\nBT (\S+) (\S+) Td \((\w+)\) Tj", pdf)
    assert (one[1], one[3], two[1], two[3]) == (b"56.00", b"one", b"66.00", b"two")
    assert float(one[2]) > float(two[2])
    fonts = re.findall(rb"/BaseFont /(\S+)", pdf)
    assert [fonts[int(number) - 1] for number in (one[0], two[0])] == [b"Helvetica", b"Helvetica-Bold"]
    assert b"/Title (Test)" in pdf


def test_text_of_a_pdf_is_escaped() -> None:
    """Brackets and backslashes are escaped, letters are of Windows-1252, others and line breaks replaced."""
    pdf = render_pdf("Test", [Line("a(b)c\\d é€ 日\nx")])
    assert rb"(a\(b\)c\\d " + "é€".encode("cp1252") + b" ? x) Tj" in pdf


def test_a_long_pdf_has_several_pages() -> None:
    """Lines that do not fit go onto further pages, none is lost, all stand inside the page."""
    pdf = render_pdf("Long", [Line(f"line {number}") for number in range(120)])
    assert b"/Count 3" in pdf
    assert [int(each) for each in re.findall(rb"\(line (\d+)\)", pdf)] == list(range(120))
    heights = [float(each) for each in re.findall(rb"BT 56.00 (\S+) Td", pdf)]
    assert min(heights) >= 56
    assert max(heights) <= 842 - 56


def test_a_long_line_of_a_pdf_is_wrapped() -> None:
    """Nothing leaves the page on the right."""
    pdf = render_pdf("Long", [Line("word " * 100)])
    assert pdf.count(b"word") == 100
    assert len(re.findall(rb"word\s*\) Tj", pdf)) > 4


@pytest.mark.parametrize("address", [None, "somewhere", {"firstName": None, "city": 5}])
def test_a_slip_needs_no_address(address: object) -> None:
    """An order whose address is missing or odd has a slip too."""
    world = World(Store(20))
    shipment = world.shipments.values()[0]
    pdf = packing_slip(shipment, {"shippingAddress": address})
    assert shipment["orderItems"][0]["sku"].encode() in pdf
    assert b"(Ship to) Tj" in pdf
