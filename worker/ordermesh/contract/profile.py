"""The contract profile: where the operations stand at a gateway, and how its lists are paged and narrowed.

Most paths of the API are inferred and no list's parameters are documented, so none of it is written into
the code that uses it: a profile can be replaced as a whole. What is believed comes from, the later wins: the
table of operations, an OpenAPI document, a file set by hand (see `contract_file.py`), and what the probe has
found (see `probe.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import quote

from worker.errors import Unaddressable
from worker.ordermesh.contract.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

Case: TypeAlias = Literal["camel", "snake"]


@dataclass(frozen=True, slots=True)
class Route:
    """Where one operation stands: method, and path with `{names}` for its parameters."""

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Listing:
    """How one list is asked for.

    `page` and `pageSize`, from 1, are documented for one catalog operation and inferred for the rest
    (docs/reference/api-facts.md, 1.5). `largest_page`: more records than these are not given in one page; None: not
    known. `wrapper`: key of the list in the answer; None: the one that the table expects. `since_parameter`: a query
    parameter, to which a time is given, that leaves out every record that was modified before it; None: there is
    none, or none that holds. `ascending`, `descending`: query parameters that sort by modification; empty: not known.
    `status_parameter`, `merchant_parameter`: query parameters that choose records by their status or merchant; None:
    none that holds. `past_end`: what a page beyond the last one is answered with: `empty`, `repeats` (the last page
    once more), or a status (`404`). `capped`: so is a page behind a number of records, though there are more.
    """

    page_parameter: str = "page"
    size_parameter: str = "pageSize"
    first_page: int = 1
    largest_page: int | None = None
    wrapper: str | None = None
    since_parameter: str | None = None
    ascending: Mapping[str, str] = field(default_factory=dict)
    descending: Mapping[str, str] = field(default_factory=dict)
    status_parameter: str | None = None
    merchant_parameter: str | None = None
    past_end: str = "empty"
    capped: bool = False


@dataclass(frozen=True, slots=True)
class ContractProfile:
    """What is believed of a gateway.

    `prefixes` replaces the prefix of all paths of a service that are not set one by one (`{"order": ""}` for a
    gateway without `/order`). `routes` replaces single operations, by key, `lists` the layout of single lists,
    and `listing` that of all others. `login_case`: how the fields of a client's login are spelled.
    """

    prefixes: Mapping[str, str] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    lists: Mapping[str, Listing] = field(default_factory=dict)
    listing: Listing = field(default_factory=Listing)
    login_case: Case = "camel"

    def route(self, key: str) -> Route:
        """Where operation `key` stands."""
        if key in self.routes:
            return self.routes[key]
        operation = OPERATIONS[key]
        return Route(operation.method, self.prefixed(operation.service, operation.path))

    def prefixed(self, service: str, path: str) -> str:
        """A path of the table with the prefix that `service` has at this gateway."""
        prefix = self.prefixes.get(service)
        return path if prefix is None else prefix + path.removeprefix(f"/{service}")

    def path(self, key: str, values: Mapping[str, str] | None = None) -> str:
        """The path of operation `key` at the gateway, with `values` in the place of its parameters.

        Raises:
            Unaddressable: A parameter has a value that would lead to another path.
            ValueError: A parameter has no value.

        """
        path = self.route(key).path
        for name, given in (values or {}).items():
            value = str(given)
            if value in {"", ".", ".."}:
                raise Unaddressable(key, 400, f"{value!r} cannot be used as {name} in a path")
            path = path.replace(f"{{{name}}}", quote(value, safe="", errors="surrogatepass"))
        if "{" in path:
            raise ValueError(f"{key}: no value for {path[path.index('{') :]}")
        return path

    def list_of(self, key: str) -> Listing:
        """How list operation `key` is asked for."""
        return self.lists.get(key, self.listing)

    def wrappers(self, key: str) -> tuple[str, ...]:
        """Keys under which the records of a list may stand, most likely first."""
        names = (self.list_of(key).wrapper, OPERATIONS[key].records)
        return tuple(dict.fromkeys(name for name in names if name))

    def page_query(self, key: str, number: int, size: int) -> dict[str, str]:
        """Query parameters for page `number`, counted from 0, of `size` records."""
        listing = self.list_of(key)
        return {listing.page_parameter: str(number + listing.first_page), listing.size_parameter: str(size)}
