"""The part of the probe that finds out how a list is paged.

A wrong number of the first page, or a page that is not turned, would hide records without a sign. So every
verdict is reached twice in a row before it counts: records come and go while it is asked.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from worker.capture.probe import samples as evidence
from worker.capture.probe.samples import PageBase, ProbeRefusal, SamplePage
from worker.errors import GatewayUnreachable
from worker.ordermesh.contract.findings import UNKNOWN, Capability, no, yes

if TYPE_CHECKING:
    from worker.capture.probe.client import ProbeClient
    from worker.ordermesh.contract.profile import Listing

SIZES = (1000, 500, 250, 100, 50, 25, 20)
"""Page sizes that are tried, until one is not refused."""
PAGE_NAMES = ("page", "pageNumber", "pageIndex")
SIZE_NAMES = ("pageSize", "size", "limit", "perPage", "per_page")
FAR_BEYOND = 1_000_000
"""The number of a page that no list has."""
_ROUNDS = 4


async def find_pages(client: ProbeClient, first: SamplePage) -> tuple[dict[str, Any], SamplePage | None]:
    """Findings about page numbers, and the first page; None for a list that is empty.

    Raises:
        OrderMeshError: The server failed, or its answers contradict each other.

    """
    listing = client.listing
    # A list that fits into one page does not say how it is paged, unless it is asked for record by record.
    more = _has_more(first, client.sample)
    size = client.sample if len(first.records) > client.sample or more else 1
    alone = len(first.records) == 1 and not more and first.total in {None, 1}
    for name in dict.fromkeys((listing.page_parameter, *(() if alone else PAGE_NAMES))):
        client.use(replace(listing, page_parameter=name))
        verdict, why = await _judged_twice(client, size)
        if verdict in {PageBase.FROM_0, PageBase.FROM_1}:
            number = int(verdict is PageBase.FROM_1)
            client.use(replace(client.listing, first_page=number))
            page = await client.page(number)
            if isinstance(page, ProbeRefusal):
                raise client.give_up(page)
            return {"first_page": number, "pages": yes(why), "page_parameter": name}, page
        if verdict is PageBase.EMPTY:
            break
    client.use(listing)
    if not first.records:
        return {"state": "empty"}, None
    if alone:
        # Page 0 answers, or it would have been told from page 1. Reading from there skips nothing.
        client.use(replace(listing, first_page=0))
        return {"pages": UNKNOWN, "first_page": 0}, first
    return {"pages": no("every page contains the same records")}, first


def _has_more(page: SamplePage, size: int) -> bool:
    return len(page.records) >= size and (page.total is None or page.total > len(page.records))


async def _judged_twice(client: ProbeClient, size: int) -> tuple[PageBase, str]:
    """The verdict that two rounds in a row have come to."""
    before: PageBase | None = None
    for _ in range(_ROUNDS):
        zero, one, two = await client.page(0, size), await client.page(1, size), await client.page(2, size)
        if isinstance(zero, ProbeRefusal) and zero.status not in evidence.BAD_PAGE:
            raise client.give_up(zero)
        verdict, why = evidence.judge_pages(zero, one, two)
        if verdict is before:
            return verdict, why
        before = verdict
    raise client.give_up(ProbeRefusal(0, "the list changes too fast to tell its pages apart"))


async def find_sizes(
    client: ProbeClient, first: SamplePage, *, turned: bool
) -> tuple[dict[str, Any], SamplePage]:
    """Findings about the size of pages and what lies beyond the last one, and the largest page that was seen.

    Raises:
        UnreadableAnswer: Pages are said to be `turned`, and a page far behind the last one shows the first one: the
            list moved while it was asked, and a parameter that the server ignores seemed to turn it.

    """
    result: dict[str, Any] = {}
    listing = client.listing
    if len(first.records) > client.sample:
        first = await _find_size_name(client, first, listing, result)
    page = first
    if len(first.records) > client.sample:
        result["sizes"] = no(f"{client.sample} records were requested and {len(first.records)} returned")
        result["largest_page"] = len(first.records)
    else:
        page = await _find_largest(client, first, result)
    result["largest_seen"] = len(page.records)
    # Half of what one page held: the last page of such a size cannot be the first, however the list moves.
    half = max(1, len(page.records) // 2)
    beyond = await client.page(FAR_BEYOND, half)
    if turned and isinstance(beyond, SamplePage) and len(page.records) > 1 and len(beyond.records) <= half:
        start = replace(page, records=page.records[:half])
        if evidence.same_page(start, beyond):
            raise client.give_up(
                ProbeRefusal(0, "a page far beyond the end returns the records of the first page")
            )
    past_end = evidence.past_end(beyond)
    if turned or past_end != "repeats":
        # Where no page is turned there is no last page to be repeated, and one that comes again is no end.
        result["past_end"] = past_end
    return result, page


async def find_reach(client: ProbeClient, page: SamplePage) -> dict[str, Any]:
    """The finding about the end of a list, by its total: a server may show no more than its beginning."""
    size, total = len(page.records), page.total
    if total is None or not size:
        return {
            "reach": Capability(
                None, "the list does not report its total" if size else "the first page was empty"
            )
        }
    if total <= size:
        return {"reach": yes("the whole list fits on one page")}
    before = (math.ceil(total / size) - 1) * size
    answer = await client.page(client.listing.first_page + before // size, size)
    what = f"the page with the last of {total} records"
    if isinstance(answer, ProbeRefusal):
        told = f"{what} was refused ({answer.why})"
        return {"reach": Capability(None, told) if answer.status >= 500 else no(told)}
    if not answer.records and (answer.total is None or answer.total > before):
        return {"reach": no(f"{what} is empty")}
    return {"reach": yes(f"{what} can be read")}


async def find_accepted_size(client: ProbeClient) -> dict[str, Any]:
    """The finding about the largest page of a list that is empty: the next poll must not be refused for its size."""
    for size in SIZES:
        if isinstance(await client.page(client.listing.first_page, size), SamplePage):
            return {} if size == SIZES[0] else {"largest_page": size}
    return {}


async def _find_size_name(
    client: ProbeClient, first: SamplePage, listing: Listing, result: dict[str, Any]
) -> SamplePage:
    """The first page under a name of the page size that is honoured, if there is one."""
    for name in SIZE_NAMES:
        client.use(replace(listing, size_parameter=name))
        answer = await client.page(listing.first_page)
        if isinstance(answer, SamplePage) and 0 < len(answer.records) <= client.sample:
            result["size_parameter"] = name
            return answer
    client.use(listing)
    return first


async def _find_largest(client: ProbeClient, first: SamplePage, result: dict[str, Any]) -> SamplePage:
    number = client.listing.first_page
    for size in SIZES:
        try:
            page = await client.page(number, size, attempts=1)
        except GatewayUnreachable:
            continue  # too large to be answered in time
        if isinstance(page, SamplePage):
            # However few records there are: what is larger was refused just now, and would be by the next poll.
            result |= {"largest_page": None if size == SIZES[0] else size} | await _judge_size(
                client, page, size
            )
            return page
    result["sizes"] = yes(f"{client.sample} records were returned as requested; larger pages are refused")
    result["largest_page"] = client.sample
    return first


async def _judge_size(client: ProbeClient, page: SamplePage, size: int) -> dict[str, Any]:
    count = len(page.records)
    if count >= size:
        return {
            "sizes": yes(f"{size} records were returned as requested"),
            "largest_page": None if size == SIZES[0] else size,
        }
    following = await client.page(client.listing.first_page + 1, size)
    if isinstance(following, SamplePage) and following.records and not evidence.same_page(page, following):
        return {
            "sizes": yes(f"{size} records were requested, and a page contains {count}"),
            "largest_page": count,
        }
    return {"sizes": yes(f"all {count} records were returned on one page")} if count > client.sample else {}
