"""The contract profile: paths and page parameters as data."""

import pytest

from worker.errors import Unaddressable
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.contract.profile import ContractProfile, Listing, Route


def test_built_in_path() -> None:
    """Without anything else said, the path of the table holds."""
    assert ContractProfile().path("orders.search") == OPERATIONS["orders.search"].path


def test_a_path_can_be_replaced() -> None:
    """A profile's path wins over the built-in one, parameters included."""
    profile = ContractProfile(routes={"orders.get": Route("GET", "/v1/orders/by-id/{orderId}")})
    assert profile.path("orders.get", {"orderId": "a1"}) == "/v1/orders/by-id/a1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a/b?c#d", "a%2Fb%3Fc%23d"),
        ("100%", "100%25"),
        ("{orderId}", "%7BorderId%7D"),
        ("a b+c", "a%20b%2Bc"),
        ("../x", "..%2Fx"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_values_stay_one_segment(value: str, expected: str) -> None:
    """Whatever an id holds, it is one segment of the path and leads nowhere else."""
    assert ContractProfile().path("orders.get", {"orderId": value}).endswith(f"/orders/{expected}")


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_values_that_would_lead_elsewhere(value: str) -> None:
    """A value that makes another path of it, which no escaping mends, is refused."""
    with pytest.raises(Unaddressable, match="orderId"):
        ContractProfile().path("orders.get", {"orderId": value})


def test_missing_value() -> None:
    """A path with an open parameter is never sent."""
    with pytest.raises(ValueError, match="orderId"):
        ContractProfile().path("orders.get")


def test_page_query() -> None:
    """Pages are counted from 0 inside and as the gateway counts outside, under its names."""
    assert ContractProfile().page_query("orders.search", 0, 100) == {"page": "1", "pageSize": "100"}
    other = ContractProfile(
        listing=Listing(page_parameter="pageNumber", size_parameter="limit", first_page=0)
    )
    assert other.page_query("notes.search", 2, 50) == {"pageNumber": "2", "limit": "50"}


def test_one_list_differs() -> None:
    """The layout of one list says nothing of the others."""
    profile = ContractProfile(lists={"orders.search": Listing(first_page=0, wrapper="data")})
    assert profile.page_query("orders.search", 0, 10)["page"] == "0"
    assert profile.page_query("notes.search", 0, 10)["page"] == "1"
    assert profile.wrappers("orders.search") == ("data", "orders")
    assert profile.wrappers("notes.search") == ("notes",)


def test_a_prefix_moves_a_service() -> None:
    """A service may stand at the gateway without its prefix; a path set by itself stays."""
    profile = ContractProfile(prefixes={"order": ""}, routes={"orders.get": Route("GET", "/o/{orderId}")})
    assert profile.path("orders.search") == "/v1/orders"
    assert profile.path("orders.get", {"orderId": "1"}) == "/o/1"
    assert profile.path("notes.search") == "/note/v1/notes"
