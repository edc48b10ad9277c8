"""Probe for lists whose pages have no numbers: each response has a token, or the address of the next page.

Names of such fields, headers and parameters are guessed. A pair is used only if it led twice to a page with other
records than the first one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from worker.capture.probe import samples as evidence
from worker.capture.probe.samples import SamplePage
from worker.ordermesh.contract.findings import yes
from worker.ordermesh.contract.names import HEADER, TOKEN_PARAMETERS
from worker.ordermesh.http.continuation import next_of, places_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.capture.probe.client import ProbeClient
    from worker.ordermesh.http.reply import Reply


async def find_continuation(client: ProbeClient) -> dict[str, Any]:
    """Return the findings about how the list continues after its first page; none if nothing shows that it does."""
    configured = client.listing
    first = await client.unnumbered(_size(client))
    if not isinstance(first, SamplePage) or not first.records or first.reply is None:
        return {}
    for place, parameter in _candidates(configured, first.reply):
        client.use(msgspec.structs.replace(configured, next_in=place, next_parameter=parameter))
        if await _leads_on(client, first) and await _leads_on(client, first):
            how = f"the next page is found by {place.removeprefix(HEADER)}"
            return {"pages": yes(how), "next_in": place, "next_parameter": parameter or ""}
    client.use(configured)
    return {}


def _size(client: ProbeClient) -> dict[str, str]:
    return {client.listing.size_parameter: str(client.sample)}


async def _leads_on(client: ProbeClient, first: SamplePage) -> bool:
    """Whether the continuation of the first page leads to another page."""
    start = await client.unnumbered(_size(client))
    if not isinstance(start, SamplePage) or not start.after:
        return False
    following = await client.unnumbered(_size(client), after=start.after)
    return (
        isinstance(following, SamplePage)
        and bool(following.records)
        and following.after != start.after
        and not evidence.same_page(start, following)
        and not evidence.same_page(first, following)
    )


def _candidates(configured: Any, reply: Reply) -> Iterator[tuple[str, str | None]]:
    """Yield pairs of a place that has a continuation in this response, and of the parameter that may take it."""
    if configured.next_in is not None:
        yield configured.next_in, configured.next_parameter
        return
    for place in places_of(reply):
        value = next_of(reply, place)
        if value.startswith(("/", "?", "http://", "https://")):
            yield place, None
            continue
        name = place.removeprefix(HEADER).rpartition(".")[2]
        if place.startswith(HEADER):
            yield place, place
        for parameter in dict.fromkeys((name, *TOKEN_PARAMETERS)):
            yield place, parameter
