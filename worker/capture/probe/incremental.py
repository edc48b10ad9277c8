"""The part of the probe that looks for a filter and a sort by modification.

A filter counts only when it was seen to give two records that filters of another kind leave out: one that was
changed after it was made, and the newest one that never was. It was asked for a time just before each, so that
one that knows whole days or another time zone fails as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.capture.probe import samples as evidence
from worker.capture.probe.samples import ProbeRefusal, SamplePage, SampleRecord
from worker.clock import rfc3339
from worker.ordermesh.contract.findings import UNKNOWN, Capability, no, yes
from worker.ordermesh.contract.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.capture.probe.client import ProbeClient

SINCE = (
    "updatedFrom",
    "lastModifiedDateFrom",
    "updatedSince",
    "modifiedSince",
    "updatedAfter",
    "updatedAtFrom",
)
MAX_PAGES_FOR_ONE = 5
JUST_BEFORE_MS = 30_000


async def find_filter(client: ProbeClient, reference: SamplePage) -> dict[str, Any]:
    """Findings about a parameter that leaves out what was modified before a time."""
    if not reference.times:
        return {}
    names = _candidates(client)
    size = min(client.sample, len(reference.records))
    # One request instead of many, for a server that ignores all of them.
    future = await client.page(client.listing.first_page, size, dict.fromkeys(names, evidence.FUTURE))
    if evidence.why_not_future(future) == "ignored":
        return {"filtering": no(f"ignored: {', '.join(names)}")}
    known = [*reference.records, *await _newest(client, reference)]
    reasons: list[tuple[str, Capability]] = []
    for name in names:
        verdict = await _judge(client, name, known, max(len(reference.records), client.sample))
        if verdict.supported:
            return {"since": name, "filtering": verdict}
        reasons.append((name, verdict))
    untold = [verdict for _, verdict in reasons if verdict.supported is None]
    if untold:
        return {"filtering": untold[0]}
    return {"filtering": no("; ".join(f"{name}: {verdict.why}" for name, verdict in reasons))}


def _candidates(client: ProbeClient) -> tuple[str, ...]:
    likely = [
        name
        for name in OPERATIONS[client.search].query
        if name.lower().startswith(("updatedfrom", "lastmodified"))
    ]
    return tuple(dict.fromkeys(filter(None, (client.listing.since_parameter, *likely, *SINCE))))


async def _newest(client: ProbeClient, reference: SamplePage) -> tuple[SampleRecord, ...]:
    """The records of the last page: where a list begins with the oldest, these were made last."""
    if reference.total is None or reference.total <= len(reference.records):
        return ()
    number = math.ceil(reference.total / client.sample) - 1
    last = await client.page(client.listing.first_page + number)
    return last.records if isinstance(last, SamplePage) else ()


async def _judge(client: ProbeClient, name: str, known: list[SampleRecord], size: int) -> Capability:
    """Whether `name` is a filter by modification."""
    why = evidence.why_not_future(
        await client.page(client.listing.first_page, client.sample, {name: evidence.FUTURE})
    )
    if why is not None:
        return no(why)
    changed, unchanged = evidence.last_changed(known), evidence.last_unchanged(known)
    if changed is None:
        return Capability(
            None, f"{name}: not tested, because no record was found that was changed after its creation"
        )
    if unchanged is None:
        return Capability(None, f"{name}: not tested, because no record was found that was never changed")
    for witness, what in ((changed, "were changed"), (unchanged, "were never changed")):
        if why := await verify_filter(client, name, witness, size):
            return no(f"{why} that {what}" if why == "omits records" else why)
    return yes(f"{name} returns newer records and nothing else")


async def verify_filter(client: ProbeClient, name: str, witness: SampleRecord, size: int) -> str | None:
    """Why filter `name` is none, by what it gives for a time just before that of a record; None if it shows it."""
    since = evidence.just_before(witness, JUST_BEFORE_MS)
    first = client.listing.first_page
    for number in range(first, first + MAX_PAGES_FOR_ONE):
        answer = await client.page(number, size, {name: rfc3339(since / 1000)})
        if isinstance(answer, ProbeRefusal):
            return f"refused ({answer.why})"
        if evidence.older(answer, since):
            return "returns older records as well"
        if answer.total is not None and number == first and len(answer.records) < min(size, answer.total):
            return "does not reduce the total, or is applied after the list is cut into pages"
        if witness.id in answer.ids:
            return None
        if not answer.records:
            break
    return "omits records"


async def find_sort(client: ProbeClient, reference: SamplePage) -> dict[str, Any]:
    """Findings about parameters that sort by modification, in both directions.

    A sort counts only when it was seen to put two records where sorts of another kind do not: one that was changed
    after it was made, and the newest one that never was.
    """
    if not evidence.can_show_order(reference):
        return {"sorting": UNKNOWN}
    number = client.listing.first_page
    size = min(50, len(reference.records))
    for up, down in _sorts(client):
        rising = await client.page(number, size, up)
        if not isinstance(rising, SamplePage) or not evidence.is_sorted(rising, descending=False):
            continue
        falling = await client.page(number, size, down)
        if not isinstance(falling, SamplePage) or not evidence.shows_both_orders(rising, falling):
            continue
        if evidence.same_page(rising, falling) and len(reference.records) > 2 * size:
            continue  # each page is sorted for itself
        verdict = await _judge_sort(client, down, reference)
        if verdict.supported:
            return {"ascending": up, "descending": down, "sorting": verdict}
        if verdict.supported is None:
            return {"sorting": verdict}
    return {"sorting": no("no known parameter sorts by modification time")}


async def _judge_sort(client: ProbeClient, down: dict[str, str], reference: SamplePage) -> Capability:
    """Whether `down` puts the newest change first."""
    words = " and ".join(f"{name}={value}" for name, value in down.items())
    known = [*reference.records, *await _newest(client, reference)]
    changed, unchanged = evidence.last_changed(known), evidence.last_unchanged(known)
    size = len(reference.records)
    for witness, what in ((changed, "was changed after its creation"), (unchanged, "was never changed")):
        if witness is None:
            return Capability(None, f"{words}: not tested, because no record was found that {what}")
        placed = await verify_sort(client, down, witness, size)
        if placed.problem is not None:
            return no(f"{words}: {placed.problem}")
        if not placed.shown:
            return Capability(
                None,
                f"{words}: not tested, because the first {MAX_PAGES_FOR_ONE} pages contain no record that {what}",
            )
    return yes(f"{words} returns the newest change first")


@dataclass(frozen=True, slots=True)
class SortCheck:
    """Where a sort puts a record: the complaint about it, None for none, and whether it was shown at all."""

    problem: str | None
    shown: bool = False


async def verify_sort(
    client: ProbeClient, down: Mapping[str, str], witness: SampleRecord, size: int
) -> SortCheck:
    """Whether sort `down`, the newest change first, shows a record before those that were modified before it."""
    first = client.listing.first_page
    for number in range(first, first + MAX_PAGES_FOR_ONE):
        answer = await client.page(number, size, down)
        if isinstance(answer, ProbeRefusal):
            # A page behind the first may be refused because it is so deep.
            return SortCheck(f"refused ({answer.why})" if number == first else None)
        if not evidence.is_sorted(answer, descending=True):
            return SortCheck("a page is not in that order")
        if witness.id in answer.ids:
            return SortCheck(None, shown=True)
        if not answer.records or answer.times[-1] < (witness.modified or 0):
            again = await client.page(first, size, down)  # it may have moved to the top meanwhile
            if isinstance(again, SamplePage) and witness.id in again.ids:
                return SortCheck(None, shown=True)
            return SortCheck("omits records")
    return SortCheck(None)


def _sorts(client: ProbeClient) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    listing = client.listing
    if listing.ascending and listing.descending:
        yield dict(listing.ascending), dict(listing.descending)
    field = client.resource.modified_fields[0]
    yield {"sortBy": field, "sortDirection": "asc"}, {"sortBy": field, "sortDirection": "desc"}
    yield {"sort": field}, {"sort": f"-{field}"}
    yield {"orderBy": f"{field} asc"}, {"orderBy": f"{field} desc"}
