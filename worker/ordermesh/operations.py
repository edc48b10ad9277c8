"""The operations of the OrderMesh API that the worker uses: one table for client, sandbox and reference.

Source: the vendor's portal. A path is `documented` where a vendor page or sample shows it, and inferred
otherwise; an inferred path can be replaced by a contract profile (see `profile.py`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API.

    `path` is the path at the gateway, with `{names}` for its path parameters. `documented` says whether the
    vendor shows that path. `query` and `body` name the parameters that are known or, for an inferred path,
    expected.
    """

    key: str
    title: str
    service: str
    method: str
    path: str
    documented: bool
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    request_schema: str | None = None
    answer_schema: str | None = None


_ROWS = (
    Operation(
        key="clients.token",
        title="Generate Service Client Access Token",
        service="user",
        method="POST",
        path="/user/v1/clients/token",
        documented=True,
        body=("clientId", "clientSecret"),
        request_schema="GetServiceClientTokenDto",
        answer_schema="ClientTokenResponseDTO",
    ),
    Operation(
        key="users.login",
        title="Login User by Username and Password",
        service="user",
        method="POST",
        path="/user/v1/login",
        documented=True,
        query=("source",),
        body=("username", "password"),
        request_schema="LoginUserDto",
        answer_schema="TokenResponseDTO",
    ),
    Operation(
        key="users.refresh",
        title="Login User with Refresh Token",
        service="user",
        method="POST",
        path="/user/v1/login/refresh",
        documented=False,
        body=("refreshToken",),
        request_schema="LoginUserWithRefreshToken",
        answer_schema="TokenResponseDTO",
    ),
    Operation(
        key="orders.search",
        title="Search for orders based on various criteria and filters.",
        service="order",
        method="GET",
        path="/order/v1/orders",
        documented=False,
        query=("page", "pageSize"),
        answer_schema="SearchOrdersResponse",
    ),
    Operation(
        key="orders.get",
        title="Retrieve an order by Order ID.",
        service="order",
        method="GET",
        path="/order/v1/orders/{orderId}",
        documented=False,
        answer_schema="GetOrderResponse",
    ),
)

OPERATIONS: dict[str, Operation] = {row.key: row for row in _ROWS}
"""Every operation by its key."""
