"""What the probe has found of one resource at the live gateway, and how the profile takes it over.

Findings are kept as JSON in Redis, one for each resource. They say what was seen, not what is believed: where
nothing could be seen, as in an empty list, a finding is None and the profile's belief stays in force.
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
"""`found`: records were read. `empty`: the list answers and holds nothing. `forbidden`: the token may not.
`missing`: none of the paths answers. `unreadable`: it answers with something that is no list."""


class Capability(msgspec.Struct, frozen=True):
    """Something that a server may or may not do. `holds` is None where it could not be told; `why` says it."""

    holds: bool | None
    why: str


def yes(why: str) -> Capability:
    """It was shown to hold."""
    return Capability(holds=True, why=why)


def no(why: str) -> Capability:
    """It was shown not to hold."""
    return Capability(holds=False, why=why)


UNTOLD = Capability(None, "not tested, because the list has too few records")


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe has found of the resource that list operation `search` reads.

    `at`: when, seconds since 1970. `believed`: fingerprint of the profile that the probe began with. `path`: where
    the list answers; `tried`: the paths that were asked. `prefix`: the prefix of the service, where it is another
    one than believed. `first_page`, `largest_page`, `wrapper` ("" for a bare list), `total_field`, `total`, as seen;
    `largest_seen`: records in the fullest page that came. `since`, `ascending`, `descending`: the
    parameters of a filter by modification and of sorts that were shown to be honoured; `status_parameter`,
    `merchant_parameter`: likewise those that choose records by status and merchant. `single`, `audit`: whether a
    single record and its audit logs can be read; `single_alike`: it has the same fields there as in the list;
    `audit_shape`: wrapper and fields of an audit entry. `routes`: paths at which operations, by key, were seen to
    answer. `past_end`: what a page beyond the last one is answered with: `empty`, `repeats` (the last page once
    more), or a status. `unfinished`: why filter, sort, single record or audit logs were not looked at. `requests`:
    what the probe has cost.
    """

    resource: str
    search: str
    at: float
    configured: str = msgspec.field(name="believed")
    state: State
    problem: str = ""
    path: str = ""
    tried: tuple[str, ...] = ()
    prefix: str | None = None
    page_parameter: str = ""
    size_parameter: str = ""
    pages: Capability = UNTOLD
    first_page: int | None = None
    sizes: Capability = UNTOLD
    largest_page: int | None = None
    largest_seen: int = 0
    wrapper: str | None = None
    total_field: str | None = None
    total: int | None = None
    filtering: Capability = UNTOLD
    since: str | None = None
    sorting: Capability = UNTOLD
    ascending: dict[str, str] = {}
    descending: dict[str, str] = {}
    single: Capability = UNTOLD
    single_alike: bool | None = None
    audit: Capability = UNTOLD
    audit_shape: str = ""
    routes: dict[str, str] = {}
    status_parameter: str | None = None
    merchant_parameter: str | None = None
    past_end: str = ""
    reach: Capability = UNTOLD
    unfinished: str = ""
    requests: int = 0

    @property
    def certain(self) -> bool:
        """Whether it was seen how the pages are counted. An empty list, or one record, does not say it."""
        return self.state == "found" and self.pages.holds is not None

    @property
    def is_sound(self) -> bool:
        """Whether it can be used: somebody may have written it by hand."""
        return (
            self.search in OPERATIONS
            and all(path.startswith("/") for path in self.routes.values())
            and self.first_page in {None, 0, 1}
            and (self.largest_page is None or self.largest_page > 0)
        )

    def without_filter(self, why: str, *, at: float, shown: bool) -> Capabilities:
        """The same, with the filter by modification withdrawn; `shown`: for certain."""
        filtering = Capability(holds=False if shown else None, why=why)
        return msgspec.structs.replace(self, at=at, since=None, filtering=filtering)

    def without_sort(self, why: str, *, at: float, shown: bool) -> Capabilities:
        """The same, with the sort by modification withdrawn; `shown`: for certain."""
        sorting = Capability(holds=False if shown else None, why=why)
        return msgspec.structs.replace(self, at=at, ascending={}, descending={}, sorting=sorting)

    def without_choices(self, *, at: float) -> Capabilities:
        """The same, without the parameters that choose records by status and merchant."""
        return msgspec.structs.replace(self, at=at, status_parameter=None, merchant_parameter=None)


def adopt(configured: ContractProfile, result: Iterable[Capabilities]) -> ContractProfile:
    """The profile with what was found in the place of what was believed."""
    profile = configured
    for one in result:
        if one.state in {"found", "empty"}:
            profile = _adopt(profile, one)
    return profile


def _adopt(profile: ContractProfile, one: Capabilities) -> ContractProfile:
    service = OPERATIONS[one.search].service
    if one.prefix is not None:
        profile = replace(profile, prefixes={**profile.prefixes, service: one.prefix})
    moved = {
        key: Route(profile.route(key).method, path) for key, path in one.routes.items() if key in OPERATIONS
    }
    listing = profile.list_of(one.search)
    listing = Listing(
        page_parameter=one.page_parameter or listing.page_parameter,
        size_parameter=one.size_parameter or listing.size_parameter,
        first_page=listing.first_page if one.first_page is None else one.first_page,
        largest_page=one.largest_page or listing.largest_page,
        wrapper=one.wrapper or listing.wrapper,
        # Only what was shown is used: a filter that the server ignores would hide what it leaves out.
        since_parameter=one.since,
        ascending=one.ascending,
        descending=one.descending,
        status_parameter=one.status_parameter,
        merchant_parameter=one.merchant_parameter,
        past_end=one.past_end or listing.past_end,
        capped=listing.capped if one.reach.holds is None else not one.reach.holds,
    )
    return replace(profile, routes={**profile.routes, **moved}, lists={**profile.lists, one.search: listing})


def fingerprint(profile: ContractProfile) -> str:
    """Tells one belief from another, so that findings of another one are not used."""
    return hashlib.sha256(msgspec.json.encode(profile, order="sorted")).hexdigest()[:16]
