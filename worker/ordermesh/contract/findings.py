"""The results of the probe for one resource at the live gateway, and their application to the profile.

They are stored as JSON in Redis, one object per resource. They contain only what the probe has observed. A finding that
could not be observed, as with an empty list, has no value, and the value of the profile remains in force.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.contract.profile import ContractProfile, Listing, Route

if TYPE_CHECKING:
    from collections.abc import Iterable

State: TypeAlias = Literal["found", "empty", "forbidden", "missing", "unreadable"]
"""`found`: the list has records. `empty`: the list has no records. `forbidden`: the token has no permission. `missing`:
no path exists. `unreadable`: the response is not a list."""


class Capability(msgspec.Struct, frozen=True):
    """Whether a server does something."""

    supported: bool | None = msgspec.field(name="holds")
    """None if the probe could not find out."""
    why: str
    """The observation that shows it."""


def yes(why: str) -> Capability:
    """Return the finding that the server does it."""
    return Capability(supported=True, why=why)


def no(why: str) -> Capability:
    """Return the finding that the server does not do it."""
    return Capability(supported=False, why=why)


UNKNOWN_LOG = Capability(None, "not tested, because no audit log with several entries was found")
UNKNOWN = Capability(None, "not tested, because the list has too few records")


class LogPages(msgspec.Struct, frozen=True):
    """How the audit logs of a resource are paged; the fields are those of `Listing`."""

    page_parameter: str = "page"
    size_parameter: str = "pageSize"
    first_page: int = 1
    next_in: str | None = None
    next_parameter: str | None = None
    largest_page: int | None = None
    past_end: str = "empty"
    whole: bool = False


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe has found out about one resource."""

    resource: str
    search: str
    """The list operation of the resource."""
    at: float
    """When the probe ran, in seconds since 1970."""
    configured: str = msgspec.field(name="believed")
    """The fingerprint of the profile that the probe started with."""
    state: State
    problem: str = ""
    path: str = ""
    """The path of the list."""
    tried: tuple[str, ...] = ()
    """The paths that the probe has tried."""
    prefix: str | None = None
    """The prefix of the service, if it differs from the profile's."""
    page_parameter: str = ""
    size_parameter: str = ""
    pages: Capability = UNKNOWN
    """Whether the page number is honoured."""
    first_page: int | None = None
    next_in: str = ""
    """Where a response says which page is next, for lists without page numbers: as in `Listing`."""
    next_parameter: str = ""
    """The parameter that takes it; "" if it is an address."""
    sizes: Capability = UNKNOWN
    """Whether the page size is honoured."""
    largest_page: int | None = None
    """The largest number of records in a page, if the server has such a limit."""
    largest_seen: int = 0
    """The number of records in the largest page that was read."""
    wrapper: str | None = None
    """The key of the list; "" for a list without a wrapper."""
    total_field: str | None = None
    total: int | None = None
    filtering: Capability = UNKNOWN
    """Whether a filter by modification time is honoured."""
    since: str | None = None
    """The parameter of that filter."""
    sorting: Capability = UNKNOWN
    """Whether a sort by modification time is honoured."""
    ascending: dict[str, str] = {}
    descending: dict[str, str] = {}
    single: Capability = UNKNOWN
    """Whether a single record can be read."""
    single_alike: bool | None = None
    """True if the single record has the same fields as in the list."""
    audit: Capability = UNKNOWN
    """Whether the audit log of a record can be read."""
    audit_shape: str = ""
    """The wrapper and the fields of an audit entry."""
    log_pages: Capability = UNKNOWN_LOG
    """Whether the whole of an audit log can be read."""
    log_listing: LogPages | None = None
    """How it is read."""
    routes: dict[str, str] = {}
    """The paths of operations, by key, that the server was seen to serve."""
    status_parameter: str | None = None
    """The parameter that selects records by status, if one is honoured."""
    merchant_parameter: str | None = None
    """The parameter that selects records by merchant, if one is honoured."""
    past_end: str = ""
    """The response to a page after the last one: `empty`, `repeats` (the last page again), `restarts` (the first page
    again), or a status."""
    reach: Capability = UNKNOWN
    """Whether paging reaches the last record of the list."""
    totals: Capability = UNKNOWN
    """Whether the total is the number of records that can be read."""
    unfinished: str = ""
    """Why filter, sort, single record or audit log were not tested."""
    requests: int = 0
    """The number of requests that the probe has sent."""

    @property
    def certain(self) -> bool:
        """True if it is known how pages are counted. An empty list, or a single record, does not show it."""
        return self.state == "found" and self.pages.supported is not None

    @property
    def is_sound(self) -> bool:
        """True if the findings can be used. They may have been edited by hand."""
        return (
            self.search in OPERATIONS
            and all(path.startswith("/") for path in self.routes.values())
            and self.first_page in {None, 0, 1}
            and (self.largest_page is None or self.largest_page > 0)
        )

    def without_filter(self, why: str, *, at: float, certain: bool) -> Capabilities:
        """Return a copy without the filter by modification time; not `certain`: it is unknown whether it works."""
        filtering = Capability(supported=False if certain else None, why=why)
        return msgspec.structs.replace(self, at=at, since=None, filtering=filtering)

    def without_sort(self, why: str, *, at: float, certain: bool) -> Capabilities:
        """Return a copy without the sort by modification time; not `certain`: it is unknown whether it works."""
        sorting = Capability(supported=False if certain else None, why=why)
        return msgspec.structs.replace(self, at=at, ascending={}, descending={}, sorting=sorting)

    def without_choices(self, *, at: float) -> Capabilities:
        """Return a copy without the parameters that select records by status and merchant."""
        return msgspec.structs.replace(self, at=at, status_parameter=None, merchant_parameter=None)


def adopt(configured: ContractProfile, result: Iterable[Capabilities]) -> ContractProfile:
    """Return the configured profile with the values that the probe has found."""
    profile = configured
    for capabilities in result:
        if capabilities.state in {"found", "empty"}:
            profile = _adopt(profile, capabilities)
    return profile


def _adopt(profile: ContractProfile, found: Capabilities) -> ContractProfile:
    service = OPERATIONS[found.search].service
    if found.prefix is not None:
        profile = replace(profile, prefixes={**profile.prefixes, service: found.prefix})
    routes = {
        key: Route(profile.route(key).method, path) for key, path in found.routes.items() if key in OPERATIONS
    }
    listing = profile.list_of(found.search)
    listing = Listing(
        page_parameter=found.page_parameter or listing.page_parameter,
        size_parameter=found.size_parameter or listing.size_parameter,
        first_page=listing.first_page if found.first_page is None else found.first_page,
        largest_page=found.largest_page or listing.largest_page,
        wrapper=found.wrapper or listing.wrapper,
        next_in=found.next_in or listing.next_in,
        next_parameter=(found.next_parameter or None) if found.next_in else listing.next_parameter,
        # Only parameters that were shown to work are used: the worker would take a filter that the server ignores, or
        # applies wrongly, for complete.
        since_parameter=found.since,
        ascending=found.ascending,
        descending=found.descending,
        status_parameter=found.status_parameter,
        merchant_parameter=found.merchant_parameter,
        past_end=found.past_end or listing.past_end,
        total="untrusted" if found.totals.supported is False else listing.total,
        capped=listing.capped if found.reach.supported is None else not found.reach.supported,
    )
    lists = {**profile.lists, found.search: listing}
    if found.log_listing is not None:
        fields = msgspec.structs.asdict(found.log_listing)
        for key, operation in OPERATIONS.items():
            # Logs of nested objects, which are not probed, are served like those of the records that contain them.
            is_probed, is_like = key in found.routes, operation.service == service and key not in lists
            if operation.is_log and (is_probed or is_like):
                lists[key] = replace(profile.list_of(key), **fields)
    return replace(profile, routes={**profile.routes, **routes}, lists=lists)


def fingerprint(profile: ContractProfile) -> str:
    """Return a hash of a profile. Findings are only used with the profile that they were made with."""
    return hashlib.sha256(msgspec.json.encode(profile, order="sorted")).hexdigest()[:16]
