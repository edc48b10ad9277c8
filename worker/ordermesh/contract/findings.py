"""The results of the probe for one resource at the live gateway, and their application to the profile.

They are stored as JSON in Redis, one object per resource. They contain only what the probe has observed. A finding that
could not be observed, as with an empty list, has no value, and the value of the profile remains in force.
"""

from __future__ import annotations

import hashlib
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


Withdrawable: TypeAlias = Literal["filter", "sort", "choice"]
WITHDRAWABLE: dict[Withdrawable, str] = {
    "filter": "filter by modification",
    "sort": "sort by modification",
    "choice": "choice by status or merchant",
}
"""What makes polls quicker where a server honours it, and its name in words."""


class Withdrawn(msgspec.Struct, frozen=True):
    """A capability that a server honoured once, and that is not used any more since `at` (seconds since 1970)."""

    capability: Withdrawable
    parameter: str
    why: str
    at: float

    @property
    def words(self) -> str:
        """The capability and its parameter, in words."""
        return f"{WITHDRAWABLE[self.capability]} ({self.parameter})"


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


_GROUPS = {
    "filtering": ("since",),
    "sorting": ("ascending", "descending"),
    "single": ("single_alike",),
    "audit": ("audit_shape",),
    "log_pages": ("log_listing",),
}
"""The findings that depend on what a list contains, each with the values that belong to it."""


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
    withdrawn: tuple[Withdrawn, ...] = ()
    """What the server honoured once and honours no longer, until a probe sees it honoured, or a person accepts it."""
    limited: bool = False
    """True if the token may not read single records or audit logs, so that others may be permitted more."""
    origin: Literal["probe", "gateway", "contradicted"] = "probe"
    """`probe`: found with the token of this account. `gateway`: taken over from another account of the gateway.
    `contradicted`: as `gateway`, but an answer to this account has shown that a part is not true for it."""

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

    def parameter_of(self, capability: Withdrawable) -> str:
        """Return the parameter by which a capability is used; "" if the server does not honour it."""
        if capability == "filter":
            return self.since or ""
        if capability == "sort":
            return " and ".join(self.descending)
        return " and ".join(filter(None, (self.status_parameter, self.merchant_parameter)))

    def following(self, before: Capabilities) -> Capabilities:
        """Return a copy that keeps what was withdrawn `before`, and adds what was honoured then and is not any more."""
        if self.state != "found":
            return msgspec.structs.replace(self, withdrawn=before.withdrawn)
        known = {item.capability: item for item in before.withdrawn}
        whys = {
            "filter": self.filtering.why,
            "sort": self.sorting.why,
            "choice": "the probe did not see it honoured",
        }
        withdrawn = []
        for capability in WITHDRAWABLE:
            if self.parameter_of(capability) or self._does_without(capability):
                continue
            if capability in known:
                withdrawn.append(known[capability])
            elif parameter := before.parameter_of(capability):
                withdrawn.append(Withdrawn(capability, parameter, whys[capability], self.at))
        return msgspec.structs.replace(self, withdrawn=tuple(withdrawn))

    def without(self, capability: Withdrawable, why: str, *, at: float, certain: bool = True) -> Capabilities:
        """Return a copy that does not use a capability; not `certain`: it is unknown whether it works."""
        item = Withdrawn(capability, self.parameter_of(capability), why, at)
        finding = Capability(supported=False if certain else None, why=why)
        others = tuple(each for each in self.withdrawn if each.capability != capability)
        withdrawn = others if self._does_without(capability) else (*others, item)
        left = msgspec.structs.replace(self, at=at, withdrawn=withdrawn)
        if capability == "filter":
            return msgspec.structs.replace(left, since=None, filtering=finding)
        if capability == "sort":
            return msgspec.structs.replace(left, ascending={}, descending={}, sorting=finding)
        return msgspec.structs.replace(left, status_parameter=None, merchant_parameter=None)

    def _does_without(self, capability: Withdrawable) -> bool:
        """True if polls do not need a capability: with a filter, they do not sort."""
        return capability == "sort" and bool(self.since)


def is_shareable(found: Capabilities) -> bool:
    """True if findings say of a gateway all that other accounts need: the list has records and its pages are turned."""
    turns = found.pages.supported is True or bool(found.next_in)
    return found.state == "found" and turns and not found.limited and not found.unfinished


def taken_over(found: Capabilities, known: Capabilities | None) -> Capabilities:
    """Return findings of another account for one of which `known` was found itself: without what is of an account.

    A list may be longer than the one that was probed, so that its end is not reached although that of the other was.
    """
    reach = UNKNOWN if found.reach.supported else found.reach
    totals = known.totals if known is not None else UNKNOWN
    taken = msgspec.structs.replace(
        found, total=None, totals=totals, reach=reach, requests=0, problem="", withdrawn=(), origin="gateway"
    )
    return taken if known is None else taken.following(known)


def joined(before: Capabilities, found: Capabilities) -> Capabilities:
    """Return new findings, with those of before where the list of this account could not show anything."""
    kept: dict[str, object] = {}
    for finding, values in _GROUPS.items():
        if getattr(found, finding).supported is None and getattr(before, finding).supported is not None:
            kept |= {name: getattr(before, name) for name in (finding, *values)}
    return msgspec.structs.replace(found, **kept)


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
        profile = msgspec.structs.replace(profile, prefixes={**profile.prefixes, service: found.prefix})
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
                lists[key] = msgspec.structs.replace(profile.list_of(key), **fields)
    return msgspec.structs.replace(profile, routes={**profile.routes, **routes}, lists=lists)


def fingerprint(profile: ContractProfile) -> str:
    """Return a hash of a profile. Findings are only used with the profile that they were made with."""
    return hashlib.sha256(msgspec.json.encode(profile, order="sorted")).hexdigest()[:16]


def withdrawn_in(raw: bytes | None) -> tuple[Withdrawn, ...]:
    """Return what stored findings say was withdrawn; nothing if they cannot be read, which a worker repairs."""
    try:
        return _decode(raw).withdrawn if raw else ()
    except (msgspec.DecodeError, RecursionError):
        return ()


_decode = msgspec.json.Decoder(Capabilities).decode
