"""How a resource is read in a run, and its pages as they come: fetched, split, and held against what is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import redis.exceptions

from worker.capture.failures import classify, may_be_of_one_page
from worker.capture.records.raw_records import older_than, times_of
from worker.capture.state.buckets import buckets_for
from worker.capture.state.known_table import identity_of
from worker.capture.writer import AT_ONCE
from worker.clock import rfc3339
from worker.errors import (
    ApiError,
    ChoiceBroken,
    ContinuationRefused,
    FilterBroken,
    OrderMeshError,
    SortBroken,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyio.abc import TaskGroup
    from msgspec import Raw

    from worker.capture.records.decoding import DecodedRecord
    from worker.capture.records.raw_records import RawRecord
    from worker.capture.scan.paginators import Paginator
    from worker.capture.scan.strategy import PageRequest, ScanStep
    from worker.capture.session import PollSession
    from worker.capture.state.known_bytes import KnownRecords
    from worker.capture.writer import Prepared, RecordWriter

REFUSED = frozenset({400, 404, 405, 410, 414, 422, 501})
"""Answers to a filter, or a continuation, that is not taken any more."""


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A page that waits for its turn: its records, and those among them whose bytes differ.

    `known`: how many more records it shows, whose bytes this process knows. `identities`: those of all its records, in
    their order (see `identity_of`). `prepared`: what becomes of it, if that does not depend on the pages before.
    """

    observed: list[RawRecord]
    total: int | None
    decoded: list[DecodedRecord]
    times: list[int]
    after: str = ""
    known: int = 0
    identities: Sequence[bytes] = ()
    prepared: Prepared | None = None

    @property
    def count(self) -> int:
        """Records on it."""
        return len(self.observed) + self.known


class PageFetcher:
    """The pages of one part of a run.

    `statuses`: those of the records, where the part learns or chooses them; `shown`: the open ones among them.
    `known`: what is known of the records; None to look up each of them in Redis.
    """

    known: KnownRecords | None = None

    def __init__(self, session: PollSession, step: ScanStep, writer: RecordWriter) -> None:
        self._session, self._options, self._step = session, session.options, step
        self._writer, self._client = writer, session.context.client
        self.statuses: set[str] = set()
        self.shown: set[str] = set()

    async def fetch(self, ask: PageRequest, size: int = 0) -> FetchedPage:
        """Fetch a page and look it up. Pages are prepared side by side; what is found is checked at commit.

        `size`: records to request, if not as many as the step says.

        Raises:
            ContinuationRefused: The list has to be read from its beginning.
            ChoiceBroken: It holds records of another status than was asked for, or the choice is refused.
            FilterBroken: It holds records that the filter should have left out, or the filter is refused.
            SortBroken: The sort is refused.
            OrderMeshError: It cannot be had or read.

        """
        resource, step, search = self._options.resource, self._step, self._options.resource.search
        profile, since = self._client.profile, step.since if ask.since is None else ask.since
        query = dict(step.query)
        if step.since_parameter and since is not None:
            query[step.since_parameter] = rfc3339(since / 1000)
        listing = profile.list_of(search)
        body, after = await self._request(ask, query, size or step.page_size)
        if body is None:
            return FetchedPage([], None, [], [])
        # A request that waits for the place of this one is sent before the page is worked on.
        await anyio.lowlevel.checkpoint()
        share = self._session.context.loop_share
        await share.wait()
        with share.measured():
            page = self._client.split(search, body, ask.page)
            # A record that cannot be read is counted each time, so it is looked at, known or not.
            is_valid = self.known is not None and not page.may_be_invalid
            served = self._options.fingerprints(page.records) if is_valid else None
            observed: list[RawRecord] | None = None
            if not served or self._wants_statuses:
                # Before the first full scan has ended nearly all records are new, and will be decoded.
                are_new = not self._session.cursor.baseline
                observed = self._options.observe(page.records, contents=are_new)
        total = page.total if listing.total == "trusted" else None
        self._session.buckets = self._session.buckets or buckets_for(total)
        if total is not None and total >= max(len(page.records), 1):
            self._session.run.total = total
            if self.known and not step.is_fast:
                self.known.expect(total)
        times = times_of(resource, page.records) if step.wants_times else []
        if step.since_parameter and since is not None and (older := older_than(times, since)):
            count = "an older record" if older == 1 else f"{older} older records"
            raise FilterBroken(search, f"{step.since_parameter} returned {count}")
        if observed is not None and self._wants_statuses:
            self._check_statuses(observed)
        observed, decoded, identities = await self._compared(page.records, served, observed)
        if step.of_merchant:
            self._check_merchant(decoded)
        prepared = await self._writer.prepare(decoded) if self.known else None
        known = len(page.records) - len(observed)
        return FetchedPage(observed, total, decoded, times, after, known, identities, prepared)

    @property
    def _wants_statuses(self) -> bool:
        return self._step.learns or self._step.chosen is not None

    async def _compared(
        self, records: Sequence[Raw], served: list[bytes] | None, observed: list[RawRecord] | None
    ) -> tuple[list[RawRecord], list[DecodedRecord], list[bytes]]:
        """Compare the records of a page with what is known.

        Return those whose bytes are not known, those among them that differ, and the identities of all.

        `served`: the fingerprints of their bytes, if they can be compared here; `observed`: the records as observed, if
        they had to be.
        """
        found = await self.known.find(served) if self.known and served else None
        if found is None or served is None:
            observed = self._options.observe(records) if observed is None else observed
            identities = [identity_of(record.key) for record in observed]
            return observed, await self._writer.look_up(observed), identities
        places = [int.from_bytes(entry[:3], "big") for entry in found if entry]
        if not self._step.is_fast:
            await self._session.store.scan_marks.add(places)
        identities = [entry[3:] if entry else b"" for entry in found]
        others = [index for index, entry in enumerate(found) if entry is None] if None in found else []
        if observed is not None:
            observed = [observed[index] for index in others]
        else:
            observed = await self._read(
                [records[index] for index in others], [served[index] for index in others]
            )
        # Nearly all records that are not known before the first full scan has ended are new.
        are_new = not self._session.cursor.baseline
        decoded = await self._writer.look_up(observed, are_new=are_new) if observed else []
        for index, record in zip(others, observed, strict=True):
            identities[index] = identity_of(record.key)
        return observed, decoded, identities

    async def _read(self, records: Sequence[Raw], raws: Sequence[bytes]) -> list[RawRecord]:
        """Return records with their contents; `raws`: their fingerprints. Other tasks have their turn in between."""
        observed: list[RawRecord] = []
        for start in range(0, len(records), AT_ONCE):
            if start:
                await anyio.lowlevel.checkpoint()
            part = slice(start, start + AT_ONCE)
            observed += self._options.observe(records[part], contents=True, raws=raws[part])
        return observed

    async def _request(
        self, ask: PageRequest, query: Mapping[str, str], size: int
    ) -> tuple[bytes | None, str]:
        """Return the body of a page, None for one after the last, and the continuation to the next page."""
        step, search, usage = self._step, self._options.resource.search, self._session.run.usage
        listing = self._client.profile.list_of(search)
        try:
            if listing.next_in:
                return await self._client.read_continued(
                    search, size, usage, query, after=ask.after, page=ask.page
                )
            return await self._client.read_page(search, ask.page, size, usage, query), ""
        except ApiError as error:
            if ask.after and error.status in REFUSED:
                raise ContinuationRefused(search, str(error)) from None
            if ask.page and str(error.status) == listing.past_end:
                return None, ""
            if step.chosen is not None and error.status in REFUSED:
                raise ChoiceBroken(search, f"the filter by status was refused: {error}") from None
            if step.is_fast and error.status in REFUSED:
                raise _refused(search, step, error) from None
            raise

    def _check_merchant(self, decoded: Sequence[DecodedRecord]) -> None:
        others = self._options.scope.others_among(one.observed.record for one in decoded)
        if others:
            what = f"records of {len(others)} other merchants were returned"
            raise ChoiceBroken(self._options.resource.search, what)

    def _check_statuses(self, observed: list[RawRecord]) -> None:
        scope, chosen = self._options.scope, self._step.chosen
        statuses = scope.statuses_of(one.record for one in observed)
        self.statuses.update(status for status in statuses if status is not None)
        if chosen is not None and (others := self.statuses - {chosen}):
            what = f"records with status {min(others)} were returned where {chosen} was requested"
            raise ChoiceBroken(self._options.resource.search, what)
        self.shown.update(
            one.identifier
            for one, status in zip(observed, statuses, strict=True)
            if one.identifier and scope.is_open(status)
        )


class PageQueue:
    """Fetches the pages of a step in parallel, and returns them in the order of their requests."""

    def __init__(self, fetcher: PageFetcher, paginator: Paginator, tasks: TaskGroup) -> None:
        self._fetcher, self._paginator, self._tasks = fetcher, paginator, tasks
        self._ready: dict[int, FetchedPage | OrderMeshError] = {}
        self._broken: Exception | None = None
        self._awaited: anyio.Event | None = None

    async def next(self) -> FetchedPage:
        """Send the requests that the paginator issues, and return the page that it accepts next.

        Raises:
            OrderMeshError: This page cannot be fetched or read, or no page can.

        """
        for step in self._paginator.issue():
            self._tasks.start_soon(self._fetch, step, self._paginator.ask(step))
        while self._paginator.next_step not in self._ready:
            if self._broken is not None:
                raise self._broken
            self._awaited = anyio.Event()
            await self._awaited.wait()
        page = self._ready.pop(self._paginator.next_step)
        if isinstance(page, OrderMeshError):
            raise page
        return page

    async def _fetch(self, step: int, ask: PageRequest) -> None:
        """Fetch one page. It does not raise: an error must not interrupt a commit."""
        try:
            self._ready[step] = await self._fetcher.fetch(ask)
        except (OrderMeshError, redis.exceptions.RedisError, OSError) as error:
            if isinstance(error, OrderMeshError) and (
                classify(error).is_of_one_request or may_be_of_one_page(error)
            ):
                self._ready[step] = error
            else:
                self._broken = self._broken or error
        if self._awaited is not None:
            self._awaited.set()


def _refused(search: str, step: ScanStep, error: ApiError) -> FilterBroken | SortBroken:
    """The answer to a parameter that is not taken any more: the last one that was found is doubted first."""
    if step.wants_order:
        return SortBroken(search, f"{' and '.join(step.query)} was refused: {error}")
    return FilterBroken(search, f"{step.since_parameter} was refused: {error}")
