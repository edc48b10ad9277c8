"""Requests of operations, ready to be sent."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.ordermesh.contract.operations import Operation

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
