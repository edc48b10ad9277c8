"""Descriptions of the findings of the probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.ordermesh.contract.findings import Capabilities, Capability


def summary(capabilities: Capabilities) -> str:
    """Return capabilities line: the path of the resource, and how it is read."""
    if capabilities.state == "missing":
        return f"no list at {', '.join(capabilities.tried)} ({capabilities.problem.rstrip('.')})"
    if capabilities.state == "forbidden":
        return f"forbidden ({capabilities.problem.rstrip('.')})"
    if capabilities.state == "unreadable":
        return f"no list ({capabilities.problem.rstrip('.')})"
    if capabilities.state == "empty":
        return f"{capabilities.path} returns an empty list; each poll tests it again"
    return ", ".join((capabilities.path, *_layout(capabilities)))


def _layout(capabilities: Capabilities) -> Iterator[str]:
    if capabilities.pages.supported:
        yield f"pages from {capabilities.first_page}"
    if capabilities.largest_page:
        yield f"at most {capabilities.largest_page} records per page"
    elif capabilities.largest_seen:
        yield f"at least {capabilities.largest_seen} records per page"
    yield f"under {capabilities.wrapper!r}" if capabilities.wrapper else "a bare list"
    yield "no total" if capabilities.total is None else f"total {capabilities.total}"
    if capabilities.past_end not in {"", "empty"}:
        yield f"{'repeats the last page' if capabilities.past_end == 'repeats' else capabilities.past_end} past the end"
    if capabilities.since:
        yield f"filter {capabilities.since}"
    if capabilities.ascending:
        yield "sortable"


def stops(capabilities: Capabilities, page_size: int) -> str:
    """Return why a worker that requests pages of `page_size` cannot read the whole list; "" if it can."""
    if capabilities.state in {"forbidden", "missing", "unreadable"}:
        return summary(capabilities)
    if (
        capabilities.state == "found"
        and capabilities.pages.supported is False
        and not _fits(capabilities, page_size)
    ):
        return (
            f"{summary(capabilities)}; the page parameter is ignored ({capabilities.pages.why}), so only the first "
            f"{min(page_size, capabilities.largest_page or page_size)} records can be read"
        )
    if (
        capabilities.state == "found"
        and capabilities.reach.supported is False
        and not _may_seek(capabilities)
    ):
        return f"{summary(capabilities)}; {capabilities.reach.why}, so the rest of the list cannot be read"
    return ""


def _may_seek(capabilities: Capabilities) -> bool:
    """True if a list that the server truncates can be read by ranges of modification time."""
    return bool(capabilities.since and capabilities.ascending)


def _fits(capabilities: Capabilities, page_size: int) -> bool:
    """True if the whole list is known to fit on the first page, which requires a total."""
    return capabilities.total is not None and capabilities.total <= min(capabilities.largest_seen, page_size)


def shortcomings(capabilities: Capabilities) -> Iterator[str]:
    """Yield what is not honoured or unknown, and what the worker does instead."""
    if capabilities.pages.supported is False:
        yield f"the page parameter is ignored: {capabilities.pages.why}; only the first page can be read"
    if capabilities.reach.supported is False and _may_seek(capabilities):
        yield f"{capabilities.reach.why}; full scans read by modification time instead, with the filter and the sort"
    if capabilities.totals.supported is False:
        yield f"the total of the list is not used: {capabilities.totals.why}"
    if capabilities.sizes.supported is False:
        yield f"the page size is not honoured: {capabilities.sizes.why}"
    if capabilities.unfinished:
        yield f"the probe is incomplete ({capabilities.unfinished}); the worker repeats it within the hour"
    elif capabilities.since is None:
        yield f"no filter by modification time ({capabilities.filtering.why}); {_instead_of_filter(capabilities)}"
    yield from withdrawn(capabilities)
    if capabilities.single.supported is False:
        yield f"a single record cannot be read: {capabilities.single.why}"
    if capabilities.audit.supported is False:
        yield f"no audit logs: {capabilities.audit.why}"
    if capabilities.log_pages.supported is False:
        yield (
            f"audit logs are read in part only: {capabilities.log_pages.why}; entries are missing, and completeness "
            "cannot be proven"
        )


def _instead_of_filter(capabilities: Capabilities) -> str:
    """Return what polls read without a filter by modification time."""
    if capabilities.descending:
        return "polls read the newest changes first"
    if capabilities.status_parameter and capabilities.single.supported:
        return (
            f"polls read by {capabilities.status_parameter} what is in no final status "
            "(ORDERSYNC_INTEREST__FINAL_STATUSES), or everything if no status is final"
        )
    return "every poll is a full scan"


def withdrawn(capabilities: Capabilities) -> Iterator[str]:
    """Yield what was honoured once and is not any more, and what to type if that is for good."""
    for item in capabilities.withdrawn:
        yield (
            f"the {item.words} was honoured until {rfc3339(item.at)}; if the gateway has lost it for good: "
            f"ordersync contract probe {capabilities.resource} --accept"
        )


def advice(capabilities: Capabilities, page_size: int) -> str:
    """Return what to do about a resource that cannot be read; "" for nothing."""
    if capabilities.state == "forbidden":
        return (
            "ask an administrator of the merchant to grant this login the permission to read "
            f"{capabilities.resource}"
        )
    if (
        capabilities.pages.supported is False
        and capabilities.total is not None
        and page_size < capabilities.total <= capabilities.largest_seen
    ):
        return (
            f"set ORDERSYNC_API__PAGE_SIZE to {capabilities.total} or more, so that one page contains the whole list, "
            "or set the name of the page parameter in ORDERSYNC_CONTRACT_FILE"
        )
    if capabilities.state == "found" and capabilities.pages.supported and stops(capabilities, page_size):
        return (
            "the rest can only be read with a filter and a sort by modification time; to see why they are not "
            f"used: ordersync contract probe {capabilities.resource}. Ask the vendor to lift the limit, or leave "
            "the resource out of ORDERSYNC_POLL__INTERVALS"
        )
    if capabilities.state in {"missing", "unreadable"} or stops(capabilities, page_size):
        return (
            "import the vendor's OpenAPI document with `ordersync contract import`, or set the path in "
            "ORDERSYNC_CONTRACT_FILE; or leave the resource out of ORDERSYNC_POLL__INTERVALS"
        )
    return ""


def table(capabilities: Capabilities) -> Iterator[tuple[str, str, str]]:
    """Yield table rows: the property, the finding, and the reason."""
    yield "path", capabilities.path or "none", "" if capabilities.path else capabilities.problem
    if capabilities.state not in {"found", "empty"}:
        return
    yield "page numbers", _mark(capabilities.pages), capabilities.pages.why
    if capabilities.next_in:
        yield "next page", capabilities.next_in, capabilities.next_parameter or "an address"
    yield "first page", _or_unknown(capabilities.first_page), ""
    yield "page size", _mark(capabilities.sizes), capabilities.sizes.why
    seen = f"at least {capabilities.largest_seen}" if capabilities.largest_seen else "unknown"
    yield "largest page", str(capabilities.largest_page) if capabilities.largest_page else seen, ""
    yield "wrapper", capabilities.wrapper or "none (a bare list)", ""
    field, totals = capabilities.total_field or "not given", capabilities.totals
    unused = f"{field}; not used: {totals.why}" if totals.supported is False else field
    yield "total", _or_unknown(capabilities.total), unused
    yield "past the last page", capabilities.past_end or "unknown", ""
    yield "end of the list", _mark(capabilities.reach), capabilities.reach.why
    yield (
        "filter by modification",
        capabilities.since or _mark(capabilities.filtering),
        capabilities.filtering.why,
    )
    yield "sort by modification", _mark(capabilities.sorting), capabilities.sorting.why
    yield "choice by status", capabilities.status_parameter or "no", ""
    yield "choice by merchant", capabilities.merchant_parameter or "no", ""
    yield "single record", _mark(capabilities.single), capabilities.single.why
    yield "audit logs", _mark(capabilities.audit), capabilities.audit_shape or capabilities.audit.why
    yield "whole audit logs", _mark(capabilities.log_pages), capabilities.log_pages.why


def _mark(capability: Capability) -> str:
    return {True: "yes", False: "no", None: "unknown"}[capability.supported]


def _or_unknown(value: int | None) -> str:
    return "unknown" if value is None else str(value)
