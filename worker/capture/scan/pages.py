"""How a resource is read in a run, and its pages as they come: fetched, split, and held against what is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import redis.exceptions

from worker.capture.failures import classify, may_be_of_one_page
from worker.capture.records.diff import older_than, times_of
from worker.capture.state.buckets import buckets_for
from worker.clock import rfc3339
from worker.errors import (
    ApiError,
    ChoiceBroken,
    ContinuationRefused,
    FilterBroken,
    OrderMeshError,
    SortBroken,
)
from worker.ordermesh.http.pages import split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyio.abc import TaskGroup

    from worker.capture.context import PollSession
    from worker.capture.records.diff import DecodedRecord, RawRecord
    from worker.capture.scan.paginators import Paginator
    from worker.capture.scan.strategy import PageRequest, ScanStep
    from worker.capture.writer import RecordWriter

REFUSED = frozenset({400, 404, 405, 410, 414, 422, 501})
"""Answers to a filter, or a continuation, that is not taken any more."""


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A page that waits for its turn: its records, and those among them whose bytes differ."""

    observed: list[RawRecord]
    total: int | None
    decoded: list[DecodedRecord]
    times: list[int]
    after: str = ""


class PageFetcher:
    """The pages of one part of a run.

    `statuses`: those of the records, where the part learns or chooses them; `shown`: the open ones among them.
    """

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
        page = split(search, body, profile.wrappers(search), page=ask.page)
        total = page.total if listing.total == "trusted" else None
        self._session.buckets = self._session.buckets or buckets_for(total)
        if total is not None and total >= max(len(page.records), 1):
            self._session.run.total = total
        times = times_of(resource, page.records) if step.wants_times else []
        if step.since_parameter and since is not None and (older := older_than(times, since)):
            count = "an older record" if older == 1 else f"{older} older records"
            raise FilterBroken(search, f"{step.since_parameter} returned {count}")
        observed = self._session.observe(page.records)
        if step.learns or step.chosen is not None:
            self._check_statuses(observed)
        decoded = await self._writer.look_up(observed)
        if step.of_merchant:
            self._check_merchant(decoded)
        return FetchedPage(observed, total, decoded, times, after)

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
        self._arrived = anyio.Event()

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
            await self._arrived.wait()
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
        self._arrived.set()
        self._arrived = anyio.Event()


def _refused(search: str, step: ScanStep, error: ApiError) -> FilterBroken | SortBroken:
    """The answer to a parameter that is not taken any more: the last one that was found is doubted first."""
    if step.wants_order:
        return SortBroken(search, f"{' and '.join(step.query)} was refused: {error}")
    return FilterBroken(search, f"{step.since_parameter} was refused: {error}")
