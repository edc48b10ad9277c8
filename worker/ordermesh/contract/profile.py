"""The contract profile: the paths of the operations at a gateway, and the parameters of its lists.

Most paths of the API are inferred, and the parameters of lists are not documented, so the code does not contain them: a
profile can be replaced as a whole. Its values come from these sources, each of which takes precedence over the one
before it: the table of operations, an OpenAPI document, a file written by hand (see `file.py`), and the results of the
probe (see `findings.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import quote

import msgspec

from worker.errors import Unaddressable
from worker.ordermesh.contract.operations import OPERATIONS

Case: TypeAlias = Literal["camel", "snake"]
Trust: TypeAlias = Literal["trusted", "untrusted"]

MAX_SEGMENT = 2_000
"""Characters of an id in a path."""


def is_segment(value: str) -> bool:
    """Return whether a value, encoded, is one segment of a path for every server."""
    # Some servers cut a segment at its first semicolon before they look for dots; `%3B` arrives as one.
    return value.partition(";")[0] not in {"", ".", ".."} and len(value) <= MAX_SEGMENT


class Route(msgspec.Struct, frozen=True):
    """The request line of one operation: the method, and the path with `{names}` for its parameters."""

    method: str
    path: str


class Listing(msgspec.Struct, frozen=True):
    """The parameters of one list.

    `page` and `pageSize`, from 1, are documented for one catalog operation and inferred for the others
    (docs/reference/api-facts.md, 1.5).
    """

    page_parameter: str = "page"
    size_parameter: str = "pageSize"
    first_page: int = 1
    """The number of the first page."""
    next_in: str | None = None
    """Where a response says how to request the page after it, for lists that are not read by page numbers: a field of
    the body, with dots where it is nested (`meta.nextCursor`), or `header:` and a name (`header:Link`)."""
    next_parameter: str | None = None
    """The query parameter that takes this value, or `header:` and a name; None if it is the address of the page."""
    largest_page: int | None = None
    """The largest number of records in a page; None if unknown."""
    wrapper: str | None = None
    """The key of the list in the response; None for the one in the table of operations."""
    since_parameter: str | None = None
    """The query parameter with a time that excludes records modified before it; None if no such filter is honoured."""
    ascending: Mapping[str, str] = msgspec.field(default_factory=dict)
    """The query parameters that sort by modification time; empty if unknown."""
    descending: Mapping[str, str] = msgspec.field(default_factory=dict)
    """The query parameters that sort by modification time, newest first; empty if unknown."""
    status_parameter: str | None = None
    """The query parameter that selects records by status; None if no such parameter is honoured."""
    merchant_parameter: str | None = None
    """The query parameter that selects records by merchant; None if no such parameter is honoured."""
    past_end: str = "empty"
    """The response to a page after the last one: `empty`, `repeats` (the last page again), `restarts` (the first page
    again), or a status (`404`)."""
    total: Trust = "trusted"
    """`untrusted` if the total that the list reports is not the number of its records: it may count records that the
    token may not see. It is then ignored."""
    whole: bool = False
    """True if the list of one record, such as its audit log, is served on one page whatever its length."""
    capped: bool = False
    """True if the pages end after a certain number of records although the list has more."""


class ContractProfile(msgspec.Struct, frozen=True):
    """How a gateway lays out the API."""

    prefixes: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Prefixes of services, for the paths that are not in `routes`: `{"order": ""}` for a gateway without `/order`."""
    routes: Mapping[str, Route] = msgspec.field(default_factory=dict)
    """The request lines of single operations, by key."""
    lists: Mapping[str, Listing] = msgspec.field(default_factory=dict)
    """The parameters of single lists, by key."""
    listing: Listing = msgspec.field(default_factory=Listing)
    """The parameters of all other lists."""
    login_case: Case = "camel"
    """The spelling of the fields of a client's login."""

    def route(self, key: str) -> Route:
        """Return the request line of operation `key`."""
        if key in self.routes:
            return self.routes[key]
        operation = OPERATIONS[key]
        return Route(operation.method, self.prefixed(operation.service, operation.path))

    def prefixed(self, service: str, path: str) -> str:
        """Return a path of the table with the prefix that `service` has at this gateway."""
        prefix = self.prefixes.get(service)
        return path if prefix is None else prefix + path.removeprefix(f"/{service}")

    def path(self, key: str, values: Mapping[str, str] | None = None) -> str:
        """Return the path of operation `key` at the gateway, with `values` for its parameters.

        Raises:
            Unaddressable: A parameter has a value that would result in another path.
            ValueError: A parameter has no value.

        """
        path = self.route(key).path
        for name, raw in (values or {}).items():
            value = str(raw)
            if not is_segment(value):
                raise Unaddressable(key, 400, f"{value[:100]!r} cannot be used as {name} in a path")
            path = path.replace(f"{{{name}}}", quote(value, safe="", errors="surrogatepass"))
        if "{" in path:
            raise ValueError(f"{key}: no value for {path[path.index('{') :]}")
        return path

    def list_of(self, key: str) -> Listing:
        """Return the parameters of list operation `key`."""
        return self.lists.get(key, self.listing)

    def wrappers(self, key: str) -> tuple[str, ...]:
        """Return the keys that the list of records may have, the most likely one first."""
        names = (self.list_of(key).wrapper, OPERATIONS[key].records)
        return tuple(dict.fromkeys(name for name in names if name))

    def page_query(self, key: str, number: int, size: int) -> dict[str, str]:
        """Return the query parameters for page `number`, counted from 0, of `size` records.

        A list whose pages have no numbers begins with its first page, whatever the number is.
        """
        listing = self.list_of(key)
        page = {} if listing.next_in else {listing.page_parameter: str(number + listing.first_page)}
        return {**page, listing.size_parameter: str(size)}
