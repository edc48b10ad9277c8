"""The routes of the sandbox beside the API: the truth, changes by hand, permissions, and faults of every list."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.sandbox_api import SandboxApi
from worker.sandbox import SandboxServer
from worker.sandbox.state.world import KINDS


def control(server: SandboxServer, method: str, path: str, **query: str | int) -> httpx.Response:
    return httpx.request(method, f"{server.url}/_sandbox/{path}", params=query)


@pytest.mark.parametrize("kind", KINDS)
def test_truth_of_every_kind(kind: str) -> None:
    """The truth of a kind is every record of it, a line each, as lists serve it."""
    with SandboxServer(orders=30) as server:
        lines = control(server, "GET", "truth", kind=kind).content.splitlines()
        assert lines == list(server.world.truth(kind).values())
        assert [json.loads(line)["id"] for line in lines] == server.world.sources()[kind].ids()
        assert len(lines) > 0
        counts = control(server, "GET", "stats").json()["records"]
        assert counts[kind] == len(lines)


def test_an_unknown_kind_is_400() -> None:
    """A kind that is none is refused with those there are."""
    with SandboxServer(orders=1) as server:
        answer = control(server, "GET", "truth", kind="wishes")
        assert (answer.status_code, answer.json()["errors"][0]["attemptedValue"]) == (400, "wishes")
        assert control(server, "POST", "change", kind="notes").status_code == 400


def test_shipments_are_changed_by_hand() -> None:
    """A control request changes shipments alone."""
    with SandboxServer(orders=30) as server:
        before, orders = server.world.truth("shipments"), server.store.truth()
        (changed,) = control(server, "POST", "change", kind="shipments").json()["ids"]
        after = server.world.truth("shipments")
        assert [each for each in after if after[each] != before[each]] == [changed]
        assert server.store.truth() == orders


def test_permissions_are_denied_by_hand() -> None:
    """A control request takes permissions away, and without any gives all back."""
    with SandboxServer(orders=3) as server, SandboxApi(server) as api:
        assert control(server, "POST", "deny", permission="order:get").status_code == 200
        assert api.refused(403, "orders.search")
        assert control(server, "POST", "deny", permission="order:eat").status_code == 400
        assert api.refused(403, "orders.search")
        assert control(server, "POST", "deny").status_code == 200
        assert api.do("orders.search")["total"] == 3


@pytest.mark.parametrize(
    ("action", "check"),
    [
        ("empty", lambda body: body == {"shipments": [], "page": 1, "pageSize": 50, "total": 0}),
        ("not_a_list", lambda body: body["shipments"] == {}),
    ],
)
def test_faults_spoil_every_search(action: str, check: Callable[[Any], bool]) -> None:
    """Faults of searches concern all lists, each in its own layout, and no single record."""
    with SandboxServer(orders=20) as server, SandboxApi(server) as api:
        control_rules = [{"action": action}]
        answer = httpx.post(f"{server.url}/_sandbox/faults", content=json.dumps(control_rules))
        assert answer.json() == {"rules": 1}
        assert check(api.do("shipments.search"))
        shipment_id = server.world.shipments.ids()[0]
        assert api.do("shipments.get", shipmentId=shipment_id)["id"] == shipment_id
        order_id = server.store.ids()[0]
        spoiled = api.do("shipments.for_order", orderId=order_id)
        assert spoiled == ({"shipments": []} if action == "empty" else {"shipments": {}})
