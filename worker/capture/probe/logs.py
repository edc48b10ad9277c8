"""Probe for the pagination of audit logs, which are lists as well: is the whole of a log served, and on which pages?

A log with a single entry shows nothing, so the logs of several records are tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.capture.probe import samples as evidence
from worker.capture.probe.pagination import PAGE_NAMES, SIZES, find_pages, find_reach, find_sizes
from worker.capture.probe.samples import SamplePage
from worker.ordermesh.contract.findings import UNKNOWN, LogPages, no, yes
from worker.ordermesh.http.continuation import names_next

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.capture.probe.client import ProbeClient

MAX_LOGS = 5
"""Logs that are requested to find one with several entries."""
CAPS = frozenset({50, 100, 200, 250, 500, 1000})
"""Numbers of entries at which a server may cut a log without saying so."""
MIN_SEEN = 10
"""A page of fewer entries says nothing of the page size, unless another page follows it: most logs are short."""


async def find_log_pages(client: ProbeClient, key: str, identifiers: Sequence[str]) -> dict[str, Any]:
    """Return the findings about the pages of audit logs.

    Args:
        client: The client that has found the path of the logs.
        key: The operation that reads one.
        identifiers: Ids of records.

    Raises:
        OrderMeshError: The server failed, or its responses contradict each other.

    """
    for identifier in identifiers[:MAX_LOGS]:
        log = client.of_log(key, identifier)
        first = await log.unnumbered()
        if isinstance(first, SamplePage) and len(first.records) > 1:
            return await _judge(log, first)
    return {}


async def _is_turned(log: ProbeClient, first: SamplePage) -> bool:
    """Return whether the second page, which has the number 1 or 2, differs from the first."""
    names = dict.fromkeys((log.listing.page_parameter, *PAGE_NAMES))
    for number in ("1", "2"):
        page = await log.unnumbered(dict.fromkeys(names, number))  # one request for all names
        if not isinstance(page, SamplePage) or not evidence.same_page(first, page):
            return True
    return False


async def _judge(log: ProbeClient, first: SamplePage) -> dict[str, Any]:
    count = len(first.records)
    has_more = first.total is not None and first.total > count
    may_continue = log.listing.next_in is not None or (first.reply is not None and names_next(first.reply))
    if not has_more and not may_continue and count not in CAPS and not await _is_turned(log, first):
        why = f"all {count} entries of a log were returned, whatever page was requested"
        return {"log_pages": yes(why), "log_listing": LogPages(whole=True, largest_page=count)}
    found, page = await find_pages(log, first)
    if page is None or not found["pages"].supported:
        if not has_more and not may_continue:
            return {}
        of = f" of {first.total}" if has_more else ""
        return {"log_pages": no(f"{count}{of} entries of a log were returned, on every page")}
    sizes, largest = await find_sizes(log, page, turned=True)
    reach = (await find_reach(log, largest))["reach"]
    if reach.supported is False:
        return {"log_pages": no(f"of a log, {reach.why}")}
    listing = LogPages(
        page_parameter=log.listing.page_parameter,
        size_parameter=sizes.get("size_parameter", log.listing.size_parameter),
        first_page=found.get("first_page", log.listing.first_page),
        next_in=found.get("next_in"),
        next_parameter=found.get("next_parameter") or None,
        largest_page=_page_size(len(largest.records), sizes),
        past_end=sizes.get("past_end") or "empty",
    )
    return {"log_pages": yes(found["pages"].why), "log_listing": listing}


def _page_size(seen: int, sizes: Mapping[str, Any]) -> int | None:
    """Return the page size to request, from the findings about sizes and the largest page seen; None if unknown."""
    if seen < MIN_SEEN:
        # A log with this many entries would be taken for whole: that another page follows must not be forgotten.
        return seen if sizes.get("largest_page") == seen else None
    return min(seen, SIZES[0]) if sizes.get("sizes", UNKNOWN).supported else None
