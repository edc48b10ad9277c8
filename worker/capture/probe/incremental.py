"""Probe for a filter and a sort by modification time.

A filter is used only if it returned two records that other kinds of filters omit: one that was changed after its
creation, and the newest record that was never changed. The requested time is just before each modification, so that
a filter by whole days, or in another time zone, fails as well.
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
    """Return the findings about a parameter that filters by a minimum modification time."""
    if not reference.times:
        return {}
    names = _candidates(client)
    size = min(client.sample, len(reference.records))
    # One request for all names is enough if the server ignores all of them.
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
    untested = [verdict for _, verdict in reasons if verdict.supported is None]
    if untested:
        return {"filtering": untested[0]}
    return {"filtering": no("; ".join(f"{name}: {verdict.why}" for name, verdict in reasons))}


def _candidates(client: ProbeClient) -> tuple[str, ...]:
    likely = [
        name
        for name in OPERATIONS[client.search].query
        if name.lower().startswith(("updatedfrom", "lastmodified"))
    ]
    return tuple(dict.fromkeys(filter(None, (client.listing.since_parameter, *likely, *SINCE))))


async def _newest(client: ProbeClient, reference: SamplePage) -> tuple[SampleRecord, ...]:
    """Return the records of the last page: the newest ones, if the list is sorted by creation."""
    is_numbered = client.listing.next_in is None
    if not is_numbered or reference.total is None or reference.total <= len(reference.records):
        return ()
    number = math.ceil(reference.total / client.sample) - 1
    last = await client.page(client.listing.first_page + number)
    return last.records if isinstance(last, SamplePage) else ()


async def _judge(client: ProbeClient, name: str, known: list[SampleRecord], size: int) -> Capability:
    """Return whether `name` is a filter by modification time, and why."""
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
    """Return why `name` is not a filter by modification time; None if it returns the witness.

    Args:
        client: The client.
        name: The parameter.
        witness: A record that a filter for a time just before its modification must return.
        size: Records to request per page.

    """
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
    """Return the findings about parameters that sort by modification time, in both directions.

    A sort is used only if it returned two records at positions where other kinds of sorts do not: one that was changed
    after its creation, and the newest record that was never changed.
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
            continue  # the server sorts within each page only
        verdict = await _judge_sort(client, down, reference)
        if verdict.supported:
            return {"ascending": up, "descending": down, "sorting": verdict}
        if verdict.supported is None:
            return {"sorting": verdict}
    return {"sorting": no("no known parameter sorts by modification time")}


async def _judge_sort(client: ProbeClient, down: dict[str, str], reference: SamplePage) -> Capability:
    """Return whether `down` sorts by modification time, newest first, and why."""
    label = " and ".join(f"{name}={value}" for name, value in down.items())
    known = [*reference.records, *await _newest(client, reference)]
    changed, unchanged = evidence.last_changed(known), evidence.last_unchanged(known)
    size = len(reference.records)
    for witness, what in ((changed, "was changed after its creation"), (unchanged, "was never changed")):
        if witness is None:
            return Capability(None, f"{label}: not tested, because no record was found that {what}")
        check = await verify_sort(client, down, witness, size)
        if check.problem is not None:
            return no(f"{label}: {check.problem}")
        if not check.shown:
            return Capability(
                None,
                f"{label}: not tested, because the first {MAX_PAGES_FOR_ONE} pages contain no record that {what}",
            )
    return yes(f"{label} returns the newest change first")


@dataclass(frozen=True, slots=True)
class SortCheck:
    """The result of checking a sort with one record: the problem, if any, and whether the record was returned."""

    problem: str | None
    shown: bool = False


async def verify_sort(
    client: ProbeClient, down: Mapping[str, str], witness: SampleRecord, size: int
) -> SortCheck:
    """Check that the sort `down`, newest change first, returns the witness before records modified earlier."""
    first = client.listing.first_page
    for number in range(first, first + MAX_PAGES_FOR_ONE):
        answer = await client.page(number, size, down)
        if isinstance(answer, ProbeRefusal):
            # The server may refuse later pages because of their depth.
            return SortCheck(f"refused ({answer.why})" if number == first else None)
        if not evidence.is_sorted(answer, descending=True):
            return SortCheck("a page is not in that order")
        if witness.id in answer.ids:
            return SortCheck(None, shown=True)
        if not answer.records or answer.times[-1] < (witness.modified or 0):
            top = await client.page(first, size, down)  # the witness may have moved to the top meanwhile
            if isinstance(top, SamplePage) and witness.id in top.ids:
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
