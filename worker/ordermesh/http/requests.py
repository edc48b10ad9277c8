"""Requests of operations, ready to be sent."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin

import msgspec

from worker.ordermesh.contract.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.ordermesh.contract.operations import Operation
    from worker.ordermesh.contract.profile import ContractProfile
    from worker.ordermesh.http.continuation import Continuation

_IS_PLAIN = re.compile(r"[A-Za-z0-9._~&=-]+").fullmatch


@dataclass(frozen=True, slots=True)
class Request:
    """An operation, ready to be sent."""

    key: str
    method: str
    url: str
    content: bytes | None = field(repr=False)  # that of a login contains the secret
    repeatable: bool
    headers: Mapping[str, str] = field(default_factory=dict)


def request_of(
    profile: ContractProfile,
    base_url: str,
    key: str,
    *,
    path: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    body: Any = None,
) -> Request:
    """Return the request of an operation.

    Args:
        profile: The contract of the gateway.
        base_url: Its address.
        key: The key of the operation.
        path: The parameters of the path.
        query: The query parameters.
        body: The body, as fields; None for none.

    Raises:
        Unaddressable: A parameter of the path has a value that would result in another path.
        ValueError: A parameter of the path has no value.

    """
    operation, route = OPERATIONS[key], profile.route(key)
    url = base_url + profile.path(key, path)
    if query:
        url += "?" + encoded(query)
    content = None if body is None else msgspec.json.encode(body)
    return Request(key, route.method, url, content, is_repeatable(operation, route.method))


def continued(request: Request, move: Continuation, url: str, query: Mapping[str, str] | None) -> Request:
    """Return the request of the page after a continuation. Whatever that is, it goes to the gateway.

    Args:
        request: That of the first page.
        move: How the page is requested.
        url: The address of the operation, without its `query`.
        query: The parameters of the first page.

    """
    if move.target:
        # An address is read with GET, also where the list is searched with POST: nothing there is changed.
        return replace(request, method="GET", url=urljoin(url, "/").rstrip("/") + move.target)
    return replace(request, url=f"{url}?{encoded({**(query or {}), **move.query})}", headers=move.headers)


def is_repeatable(operation: Operation, method: str) -> bool:
    """True if sending a request twice has the effect of sending it once. A contract file may set the method."""
    if operation.writes:
        return method in {"PUT", "DELETE"}
    return method in {"GET", operation.method}


def encoded(query: Mapping[str, str]) -> str:
    """Return the parameters of a query as text. Most need no quoting, which takes a while to find out otherwise."""
    plain = "&".join([f"{name}={value}" for name, value in query.items()])
    is_plain = plain.count("=") == plain.count("&") + 1 == len(query) and _IS_PLAIN(plain)
    return plain if is_plain else urlencode(query, errors="surrogatepass")


def snake(name: str) -> str:
    """Return a name such as `clientId` as `client_id`."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
