"""Probe for the pagination of a list.

With a wrong number of the first page, or a page parameter that is ignored, records would be missed silently. So a
verdict is accepted only if two rounds in a row agree, because records are added and removed during the probe.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from worker.capture.probe import samples as evidence
from worker.capture.probe.continuation import find_continuation
from worker.capture.probe.samples import PageBase, ProbeRefusal, SamplePage
from worker.errors import GatewayUnreachable
from worker.ordermesh.contract.findings import UNKNOWN, Capability, no, yes

if TYPE_CHECKING:
    from worker.capture.probe.client import ProbeClient
    from worker.ordermesh.contract.profile import Listing

SIZES = (1000, 500, 250, 100, 50, 25, 20)
"""Page sizes that are tried, until the server accepts one."""
PAGE_NAMES = ("page", "pageNumber", "pageIndex")
SIZE_NAMES = ("pageSize", "size", "limit", "perPage", "per_page")
FAR_BEYOND = 1_000_000
"""A page number beyond the end of any list."""
ROUND = 1000
"""Most servers that limit the length of a list do so at a multiple of it."""
NO_SUCH_PAGE = 404
_ROUNDS = 4


async def find_pages(client: ProbeClient, first: SamplePage) -> tuple[dict[str, Any], SamplePage | None]:
    """Return the findings about page numbers, and the first page, which is None for an empty list.

    Raises:
        OrderMeshError: The server failed, or its responses contradict each other.

    """
    listing = client.listing
    if listing.next_in is not None:  # a person has set it
        return await find_continuation(client), first
    # A list that fits on one page does not show how pages are numbered, unless each page has one record.
    more = _has_more(first, client.sample)
    size = client.sample if len(first.records) > client.sample or more else 1
    alone = len(first.records) == 1 and not more and first.total in {None, 1}
    for name in dict.fromkeys((listing.page_parameter, *(() if alone else PAGE_NAMES))):
        client.use(msgspec.structs.replace(listing, page_parameter=name))
        verdict, why = await _judged_twice(client, size)
        if verdict in {PageBase.FROM_0, PageBase.FROM_1}:
            number = int(verdict is PageBase.FROM_1)
            client.use(msgspec.structs.replace(client.listing, first_page=number))
            page = await client.page(number)
            if isinstance(page, ProbeRefusal):
                raise client.give_up(page)
            return {"first_page": number, "pages": yes(why), "page_parameter": name}, page
        if verdict is PageBase.EMPTY:
            break
    client.use(listing)
    if not first.records:
        return {"state": "empty"}, None
    if found := await find_continuation(client):
        return found, first
    if alone:
        # Page 0 exists, or the rounds would have distinguished it from page 1. Reading from page 0 skips nothing.
        client.use(msgspec.structs.replace(listing, first_page=0))
        return {"pages": UNKNOWN, "first_page": 0}, first
    return {"pages": no("every page contains the same records")}, first


def _has_more(page: SamplePage, size: int) -> bool:
    return len(page.records) >= size and (page.total is None or page.total > len(page.records))


async def _judged_twice(client: ProbeClient, size: int) -> tuple[PageBase, str]:
    """Return the verdict on which two rounds in a row agree."""
    before: PageBase | None = None
    for _ in range(_ROUNDS):
        zero, one, two = await client.pages(0, 1, 2, size=size)
        # Some gateways refuse a page in words, with the status 200: that counts where page 1 has records.
        in_words = isinstance(zero, ProbeRefusal) and not zero.status and evidence.has_records(one)
        if isinstance(zero, ProbeRefusal) and zero.status not in evidence.BAD_PAGE and not in_words:
            raise client.give_up(zero)
        verdict, why = evidence.judge_pages(zero, one, two)
        if verdict is before:
            return verdict, why
        before = verdict
    raise client.give_up(ProbeRefusal(0, "the list changes too fast to tell its pages apart"))


async def find_sizes(
    client: ProbeClient, first: SamplePage, *, turned: bool
) -> tuple[dict[str, Any], SamplePage]:
    """Return the findings about page sizes and pages past the end, and the largest page that was returned.

    Args:
        client: The client.
        first: The first page.
        turned: The page parameter is honoured.

    Raises:
        UnreadableAnswer: Although `turned` is set, a page far past the end returned the records of the first page:
            the list changed during the probe, and an ignored page parameter seemed to be honoured.

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
    # Half of the records of one page: the last page of this size cannot equal the first, however the list changes.
    half = max(1, len(page.records) // 2)
    if client.listing.next_in is not None:
        return result, page
    beyond = await client.page(FAR_BEYOND, half)
    past_end = evidence.past_end(beyond)
    if turned and isinstance(beyond, SamplePage) and len(page.records) > 1 and len(beyond.records) <= half:
        start = replace(page, records=page.records[:half])
        if evidence.same_page(start, beyond):
            # Either that is how the list ends, or it moved while its pages were judged, and no page is turned.
            verdict, _ = await _judged_twice(client, half)
            if verdict not in {PageBase.FROM_0, PageBase.FROM_1}:
                raise client.give_up(
                    ProbeRefusal(0, "a page far beyond the end returns the records of the first page")
                )
            past_end = "restarts"
    if turned or past_end != "repeats":
        # If the page parameter is ignored, a repeated page does not mean the end of the list.
        result["past_end"] = past_end
    return result, page


async def find_reach(client: ProbeClient, page: SamplePage) -> dict[str, Any]:
    """Return the findings about the end of a list, from its total: a server may return only the first records."""
    size, total = len(page.records), page.total
    if client.listing.next_in is not None or total is None or not size:
        why = "the list does not report its total" if size else "the first page was empty"
        return {
            "reach": Capability(None, why if client.listing.next_in is None else "its pages have no numbers")
        }
    if total <= size:
        return {"reach": yes("the whole list fits on one page")}
    last = math.ceil(total / size) - 1
    answer = await client.page(client.listing.first_page + last, size)
    what = f"the page with the last of {total} records"
    if isinstance(answer, ProbeRefusal):
        why = f"{what} was refused ({answer.why})"
        if answer.status != NO_SUCH_PAGE:
            return {"reach": Capability(None, why) if answer.status >= 500 else no(why)}
    elif answer.records and not evidence.same_page(page, answer):
        # A server that answers with its last page whatever is asked for shows another number of records.
        exact = len(answer.records) == total - last * size
        return {"reach": yes(f"{what} can be read")} | ({"totals": yes("it is reached")} if exact else {})
    elif answer.total is not None and answer.total <= last * size:
        return {"reach": yes(f"{what} is gone since the list became shorter")}
    else:
        why = f"{what} returns the records of the first page" if answer.records else f"{what} is empty"
    found = await _find_end(client, page, last)
    ends = Capability(None, f"the list ends after {found} records, although its total is {total}")
    return {"reach": ends, "totals": ends} if found % ROUND else {"reach": no(why)}


async def _find_end(client: ProbeClient, page: SamplePage, last: int) -> int:
    """Return the number of records of a list that ends before page `last`, counted from 0: by halves."""
    size, full = len(page.records), page
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) // 2
        answer = await client.page(client.listing.first_page + middle, size)
        if isinstance(answer, SamplePage) and answer.records and not evidence.same_page(full, answer):
            low, page = middle, answer
        else:
            high = middle
    return low * size + len(page.records)


async def find_accepted_size(client: ProbeClient) -> dict[str, Any]:
    """Return the finding about the largest page of an empty list, so that the next poll requests an accepted size."""
    for size in SIZES:
        if isinstance(await client.page(client.listing.first_page, size), SamplePage):
            return {} if size == SIZES[0] else {"largest_page": size}
    return {}


async def _find_size_name(
    client: ProbeClient, first: SamplePage, listing: Listing, result: dict[str, Any]
) -> SamplePage:
    """Return the first page with the first page size parameter that is honoured; `first` if none is."""
    for name in SIZE_NAMES:
        client.use(msgspec.structs.replace(listing, size_parameter=name))
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
            continue  # too large for a response in time
        if isinstance(page, SamplePage):
            # However few records there are: larger sizes were refused, and would be refused in the next poll.
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
