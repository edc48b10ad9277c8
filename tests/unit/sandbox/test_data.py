import re
import statistics
from itertools import pairwise
from random import Random

import msgspec
import pytest

from worker.sandbox.data.mutations import OPEN_STATUSES, mutate
from worker.sandbox.data.orders import HISTORY_START, HISTORY_STEP, Order, OrderFactory, format_ticks
from worker.sandbox.state.store import Store

ORDER_KEYS = [
    "items",
    "merchantItemTotal",
    "merchantTaxTotal",
    "merchantShippingTotal",
    "merchantTotal",
    "reprint",
    "facilityNames",
    "shipmentCreatedDates",
    "shipmentIds",
    "id",
    "shortId",
    "shippingAddress",
    "billingAddress",
    "returnAddress",
    "safeId",
    "externalId",
    "merchantId",
    "status",
    "statusDesc",
    "createdAt",
    "updatedAt",
    "processedAt",
    "cancelledAt",
]
ITEM_KEYS = [
    "id",
    "shortId",
    "externalId",
    "sku",
    "originalSKU",
    "quantity",
    "status",
    "statusDesc",
    "createdAt",
    "updatedAt",
    "processedAt",
    "cancelledAt",
    "images",
    "options",
    "attributes",
    "customerSubtotal",
    "customerPrice",
    "customerShippingPrice",
    "customerTaxes",
    "merchantPrice",
    "merchantShippingPrice",
    "merchantTax",
    "merchantSubTotal",
    "merchantItemTotal",
    "clientAttributes",
    "meta",
    "isSample",
    "skipImgManip",
    "skipImageValidation",
    "skipSkuValidation",
    "fulfillmentReady",
    "refundData",
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}")


def orders(n: int = 400) -> list[Order]:
    return [msgspec.json.decode(record) for record in Store(n, seed=5).truth().values()]


def test_keys_of_an_order_follow_the_vendor() -> None:
    """An order begins with the keys of "Retrieve an order", in the order in which the vendor serves them."""
    for order in orders(50):
        assert list(order)[: len(ORDER_KEYS)] == ORDER_KEYS


def test_keys_of_an_item_follow_the_vendor() -> None:
    """An item has the fields of the item samples, in their order, and one to four of them make an order."""
    seen = {len(order["items"]) for order in orders()}
    assert seen == {1, 2, 3, 4}
    for order in orders(50):
        for item in order["items"]:
            assert list(item) == ITEM_KEYS


def test_identifiers_have_the_vendors_form() -> None:
    """Ids are 24 hex digits, short ids a letter and 8 digits, merchants and shipments UUIDs."""
    for order in orders(100):
        assert re.fullmatch(r"[0-9a-f]{24}", order["id"])
        assert re.fullmatch(r"O\d{8}", order["shortId"])
        assert UUID.fullmatch(order["merchantId"])
        assert all(UUID.fullmatch(each) for each in order["shipmentIds"])
        assert all(re.fullmatch(r"I\d{8}", item["shortId"]) for item in order["items"])


def test_identifiers_are_unique() -> None:
    """No two orders or items share an id, a short id or a safe id."""
    made = orders(2_000)
    records = [*made, *(item for order in made for item in order["items"])]
    assert len({each["id"] for each in records}) == len(records)
    assert len({each["shortId"] for each in records}) == len(records)
    assert len({each["safeId"] for each in made}) == len(made)


def test_times_have_seven_digits_and_a_zone() -> None:
    """Every time of the order service is written with seven fraction digits and Z."""
    for order in orders(100):
        assert TIME.fullmatch(order["createdAt"])
        assert all(TIME.fullmatch(each) for each in order["shipmentCreatedDates"])
        for key in ("updatedAt", "processedAt", "cancelledAt"):
            assert order[key] is None or TIME.fullmatch(order[key])
    assert format_ticks(HISTORY_START + 14_914_307) == "2025-01-01T00:00:01.4914307Z"


def test_updated_is_null_until_the_first_change() -> None:
    """An order that never changed has `updatedAt` null; one that did has it later than `createdAt`."""
    untouched = [order for order in orders() if order["updatedAt"] is None]
    touched = [order for order in orders() if order["updatedAt"] is not None]
    assert untouched
    assert touched
    assert all(order["status"] == "Open" and order["processedAt"] is None for order in untouched)
    assert all(order["updatedAt"] > order["createdAt"] for order in touched)


def test_a_history_is_varied() -> None:
    """A history holds several statuses, currencies and countries, reprints and none, metadata and none."""
    made = orders()
    assert {"Open", "In Production", "Fulfilled", "Cancelled"} <= {order["status"] for order in made}
    assert {order["currencyCode"] for order in made} == {"USD", "CAD", "EUR"}
    assert {order["languageCode"] for order in made} == {"en", "es", "pt"}
    assert len({order["shippingAddress"]["countryCode"] for order in made}) == 5
    for key in ("reprint", "meta", "billingAddress", "customerPaymentMethods", "externalId"):
        assert {bool(order[key]) for order in made} == {True, False}, key


def test_mail_goes_to_example_com() -> None:
    """No address could belong to somebody."""
    assert all(order["shippingAddress"]["email"].endswith("@example.com") for order in orders())


def test_the_same_seed_gives_the_same_bytes() -> None:
    """A history is a function of its seed."""
    assert Store(200, seed=3).truth() == Store(200, seed=3).truth()
    assert Store(200, seed=3).truth() != Store(200, seed=4).truth()


def test_creation_times_grow() -> None:
    """Creation order is the order of creation times, without ties."""
    times = [order["createdAt"] for order in orders()]
    assert all(before < after for before, after in pairwise(times))


def test_default_size() -> None:
    """An order is about 2.5 KB of compact JSON."""
    sizes = [len(record) for record in Store(2_000).truth().values()]
    assert 2_300 <= statistics.mean(sizes) <= 2_700


@pytest.mark.parametrize("size", [2_500, 4_000, 20_000])
def test_size_can_be_set(size: int) -> None:
    """From the default on, the mean size is within a tenth of what was asked for."""
    sizes = [len(record) for record in Store(500, record_bytes=size).truth().values()]
    assert abs(statistics.mean(sizes) - size) < size / 10


def test_small_orders_leave_out_optional_parts() -> None:
    """Below the default, orders have one item, no reprint, no payments and no billing address."""
    factory = OrderFactory(record_bytes=1_000)
    for number in range(100):
        order = factory.make(HISTORY_START + number * HISTORY_STEP)
        assert len(order["items"]) == 1
        assert (order["reprint"], order["billingAddress"], order["customerPaymentMethods"]) == (
            None,
            None,
            [],
        )


def test_a_mutation_always_changes_the_order() -> None:
    """Whatever happens to an order in its whole life leaves it different from before, closed or open."""
    rng = Random(2)
    order = OrderFactory(9).make(HISTORY_START)
    statuses = set()
    for number in range(300):
        before = msgspec.json.encode(order)
        mutate(order, format_ticks(HISTORY_START + number), rng)
        assert msgspec.json.encode(order) != before
        statuses.add(order["status"])
        if order["status"] not in OPEN_STATUSES and number % 10 == 0:
            order = OrderFactory(number).make(HISTORY_START)
    assert statuses == {"Open", "In Production", "Fulfilled", "Cancelled", "Customer Care Hold"}
