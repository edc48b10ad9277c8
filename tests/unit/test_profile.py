"""The contract profile: paths and page parameters as data."""

import pytest

from worker.ordermesh.operations import OPERATIONS
from worker.ordermesh.profile import ContractProfile


def test_built_in_path() -> None:
    """Without anything else said, the path of the table holds."""
    assert ContractProfile().path("orders.search") == OPERATIONS["orders.search"].path


def test_a_path_can_be_replaced() -> None:
    """A profile's path wins over the built-in one, parameters included."""
    profile = ContractProfile(paths={"orders.get": "/v1/orders/by-id/{orderId}"})
    assert profile.path("orders.get", {"orderId": "a1"}) == "/v1/orders/by-id/a1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a/b?c#d", "a%2Fb%3Fc%23d"),
        ("100%", "100%25"),
        ("{orderId}", "%7BorderId%7D"),
        ("a b+c", "a%20b%2Bc"),
        ("../x", "..%2Fx"),
    ],
)
def test_values_stay_one_segment(value: str, expected: str) -> None:
    """Whatever an id holds, it is one segment of the path and leads nowhere else."""
    assert ContractProfile().path("orders.get", {"orderId": value}).endswith(f"/orders/{expected}")


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_values_that_would_lead_elsewhere(value: str) -> None:
    """A value that makes another path of it, which no escaping mends, is refused."""
    with pytest.raises(ValueError, match="orderId"):
        ContractProfile().path("orders.get", {"orderId": value})


def test_missing_value() -> None:
    """A path with an open parameter is never sent."""
    with pytest.raises(ValueError, match="orderId"):
        ContractProfile().path("orders.get")


def test_page_query() -> None:
    """Pages are counted from 0 inside and as the gateway counts outside, under its names."""
    assert ContractProfile().page_query(0, 100) == {"page": "1", "pageSize": "100"}
    other = ContractProfile(page_parameter="pageNumber", size_parameter="limit", first_page=0)
    assert other.page_query(2, 50) == {"pageNumber": "2", "limit": "50"}
