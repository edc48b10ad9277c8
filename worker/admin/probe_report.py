"""What the probe has found, in words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.ordermesh.contract.findings import Capabilities, Capability


def summary(one: Capabilities) -> str:
    """One line: where the resource is, and how it is read."""
    if one.state == "missing":
        return f"no list at {', '.join(one.tried)} ({one.problem.rstrip('.')})"
    if one.state == "forbidden":
        return f"forbidden ({one.problem.rstrip('.')})"
    if one.state == "unreadable":
        return f"no list ({one.problem.rstrip('.')})"
    if one.state == "empty":
        return f"{one.path} returns an empty list; each poll tests it again"
    return ", ".join((one.path, *_layout(one)))


def _layout(one: Capabilities) -> Iterator[str]:
    if one.pages.supported:
        yield f"pages from {one.first_page}"
    if one.largest_page:
        yield f"at most {one.largest_page} records per page"
    elif one.largest_seen:
        yield f"at least {one.largest_seen} records per page"
    yield f"under {one.wrapper!r}" if one.wrapper else "a bare list"
    yield "no total" if one.total is None else f"total {one.total}"
    if one.past_end not in {"", "empty"}:
        yield f"{'repeats the last page' if one.past_end == 'repeats' else one.past_end} past the end"
    if one.since:
        yield f"filter {one.since}"
    if one.ascending:
        yield "sortable"


def stops(one: Capabilities, page_size: int) -> str:
    """Why a worker that asks for pages of `page_size` cannot read all of it, where it cannot."""
    if one.state in {"forbidden", "missing", "unreadable"}:
        return summary(one)
    if one.state == "found" and one.pages.supported is False and not _fits(one, page_size):
        return (
            f"{summary(one)}; the page parameter is ignored ({one.pages.why}), so only the first "
            f"{min(page_size, one.largest_page or page_size)} records can be read"
        )
    if one.state == "found" and one.reach.supported is False and not _may_seek(one):
        return f"{summary(one)}; {one.reach.why}, so the rest of the list cannot be read"
    return ""


def _may_seek(one: Capabilities) -> bool:
    """Whether a list that the server cuts off can be read from time to time."""
    return bool(one.since and one.ascending)


def _fits(one: Capabilities, page_size: int) -> bool:
    """Whether all of it is known to stand in the first page. Without a total nothing says so."""
    return one.total is not None and one.total <= min(one.largest_seen, page_size)


def shortcomings(one: Capabilities) -> Iterator[str]:
    """What does not hold or could not be told, and what the worker does about it."""
    if one.pages.supported is False:
        yield f"the page parameter is ignored: {one.pages.why}; only the first page can be read"
    if one.reach.supported is False and _may_seek(one):
        yield f"{one.reach.why}; full scans read by modification time instead, with the filter and the sort"
    if one.sizes.supported is False:
        yield f"the page size is not honoured: {one.sizes.why}"
    if one.unfinished:
        yield f"the probe is incomplete ({one.unfinished}); the worker repeats it within the hour"
    elif one.since is None:
        instead = "polls read the newest changes first" if one.descending else "every poll is a full scan"
        yield f"no filter by modification time ({one.filtering.why}); {instead}"
    if one.single.supported is False:
        yield f"a single record cannot be read: {one.single.why}"
    if one.audit.supported is False:
        yield f"no audit logs: {one.audit.why}"


def advice(one: Capabilities, page_size: int) -> str:
    """What to do about a resource that cannot be read."""
    if one.state == "forbidden":
        return (
            f"ask an administrator of the merchant to grant this login the permission to read {one.resource}"
        )
    if one.pages.supported is False and one.total is not None and page_size < one.total <= one.largest_seen:
        return (
            f"set ORDERSYNC_API__PAGE_SIZE to {one.total} or more, so that one page contains the whole list, or "
            "set the name of the page parameter in ORDERSYNC_CONTRACT_FILE"
        )
    if one.state == "found" and one.pages.supported and stops(one, page_size):
        return (
            "the rest can only be read with a filter and a sort by modification time; to see why they are not "
            f"used: ordersync contract probe {one.resource}. Ask the vendor to lift the limit, or leave the "
            "resource out of ORDERSYNC_POLL__INTERVALS"
        )
    if one.state in {"missing", "unreadable"} or stops(one, page_size):
        return (
            "import the vendor's OpenAPI document with `ordersync contract import`, or set the path in "
            "ORDERSYNC_CONTRACT_FILE; or leave the resource out of ORDERSYNC_POLL__INTERVALS"
        )
    return ""


def table(one: Capabilities) -> Iterator[tuple[str, str, str]]:
    """Rows for people: what was asked, the answer, and why."""
    yield "path", one.path or "none", "" if one.path else one.problem
    if one.state not in {"found", "empty"}:
        return
    yield "page numbers", _mark(one.pages), one.pages.why
    yield "first page", _or_unknown(one.first_page), ""
    yield "page size", _mark(one.sizes), one.sizes.why
    seen = f"at least {one.largest_seen}" if one.largest_seen else "unknown"
    yield "largest page", str(one.largest_page) if one.largest_page else seen, ""
    yield "wrapper", one.wrapper or "none (a bare list)", ""
    yield "total", _or_unknown(one.total), one.total_field or "not given"
    yield "past the last page", one.past_end or "unknown", ""
    yield "end of the list", _mark(one.reach), one.reach.why
    yield "filter by modification", one.since or _mark(one.filtering), one.filtering.why
    yield "sort by modification", _mark(one.sorting), one.sorting.why
    yield "choice by status", one.status_parameter or "no", ""
    yield "choice by merchant", one.merchant_parameter or "no", ""
    yield "single record", _mark(one.single), one.single.why
    yield "audit logs", _mark(one.audit), one.audit_shape or one.audit.why


def _mark(capability: Capability) -> str:
    return {True: "yes", False: "no", None: "unknown"}[capability.supported]


def _or_unknown(value: int | None) -> str:
    return "unknown" if value is None else str(value)
