"""Reads what a resync requests: a page of the list, or records by any kind of id.

Each page is compared with the page before and with what is known: a gateway that ignores the page parameter, or answers
with an empty page for a moment, must neither end a resync nor keep it from ending.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from worker.cancellation import plain_errors
from worker.capture.records.fingerprint import RecordState
from worker.capture.records.raw_records import RawRecord, times_of
from worker.capture.scan.pages import REFUSED
from worker.clock import rfc3339
from worker.errors import (
    ApiError,
    ContinuationRefused,
    Forbidden,
    NotFound,
    OrderMeshError,
    RateLimited,
    UnreadableAnswer,
)
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.http.pages import Page
from worker.surrogates import value_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.capture.resources import Resource
    from worker.capture.resync.requests import Resync
    from worker.capture.session import PollSession
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.contract.findings import Capabilities

BATCH, BATCH_OF_LIST, BATCH_OF_REST = 20, 500, 200
"""Ids that are committed together: where each is read by its id, where the whole list is read for them, and where
they are what the list has not shown."""
BELIEVED_AFTER = 3
"""Attempts in a row after which an empty page is the end of the list, though more records were expected."""
GIVEN_UP_AFTER, ALL_GIVEN_UP_AFTER = 5, 20
"""Attempts after which an id that cannot be read counts as not found: where others can be read, and where none can."""
_NAMES = ("shortId", "safeId", "externalId")
_NO_ID = frozenset({400, 405, 422})
"""Answers to a read of one record where the id is of another kind."""


@dataclass(slots=True)
class ResyncPage:
    """What one step of a resync has read. `page`: keys of all records of the page, also of those not requested.

    `by_id`: records that no page has shown; `passed_over`: those that cannot be read by id; `places`: of all of them.
    `size`: records asked for in it. `unlike`: records that only another answer than the list's has shown. `after`: the
    continuation to the next page, where pages have no numbers; `restarts`: the gateway has refused the last one, so the
    list is read from its beginning.
    """

    observed: list[RawRecord] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    page: list[bytes] = field(default_factory=list)
    total: int | None = None
    size: int = 0
    read: int = 0
    unlike: int = 0
    after: str = ""
    by_id: int = 0
    passed_over: int = 0
    places: list[int] = field(default_factory=list)
    is_last: bool = False
    restarts: bool = False


class ResyncReader:
    """Reads for the resyncs of one account."""

    def __init__(self, client: OrderMeshClient) -> None:
        self._client = client

    async def read(
        self, session: PollSession, resync: Resync, capabilities: Capabilities, *, tracked: int
    ) -> ResyncPage:
        """Read the next step of a resync. `tracked`: records that are known.

        Raises:
            OrderMeshError: It cannot be read, or is suspect, and is to be retried.

        """
        if resync.request.ids:
            if session.options.resource.single is None:
                return await self._read_through(session, resync, tracked)
            return await self._read_requested(session, resync, capabilities)
        if resync.rest:
            return await self._read_rest(session, resync, capabilities)
        return await self._read_page(session, resync, tracked)

    async def total(self, session: PollSession) -> int | None:
        """Return how many records there are, if the list gives a total."""
        search = session.options.resource.search
        body = await self._client.read_page(search, 0, 1, session.run.usage)
        return self._client.split(search, body).total

    # Pages

    async def _read_page(self, session: PollSession, resync: Resync, tracked: int) -> ResyncPage:
        options, resource, request = session.options, session.options.resource, resync.request
        search, listing = resource.search, self._client.profile.list_of(resource.search)
        # Larger pages than it began with would begin within one that was committed long ago.
        sizes = (options.page_size, listing.largest_page, resync.size)
        size = min(item for item in sizes if item)
        if resync.size and size != resync.size:
            # Never behind what was committed; what comes again is of the last page, whose records are known.
            resync.position = resync.position * resync.width // size
        number = resync.position
        since, until = request.window
        query = {}
        if since and listing.since_parameter:
            query = {listing.since_parameter: rfc3339(since / 1000)}
        try:
            page, after = await self._page(session, number, size, query, after=resync.after)
        except ContinuationRefused:
            return ResyncPage(restarts=True)
        times = times_of(resource, page.records)
        requested = [
            record
            for record, time in zip(page.records, times, strict=True)
            # One that does not say when it was modified is in every window.
            if request.all or not time or since <= time <= until
        ]
        keys = [one.key for one in session.options.observe(page.records)]
        width = max(resync.width if size == resync.size else 0, len(keys))
        total = page.total if page.total and page.total >= len(keys) else None
        covered = total is not None and number * width + len(keys) >= total
        if after is not None:
            if after and keys and (after == resync.after or set(keys) == set(resync.page)):
                raise UnreadableAnswer(search, "the continuation leads to the same page again", page=number)
            observed = session.options.observe(requested)
            return ResyncPage(
                observed, [], keys, total, size, len(keys), after=after, is_last=after in {"", resync.after}
            )
        if not keys:
            self._check_end(resync, search, number, total or resync.total, known=0 if query else tracked)
        elif number and listing.past_end == "restarts" and set(keys) == set(resync.first):
            self._check_end(resync, search, number, total or resync.total, known=0 if query else tracked)
            return ResyncPage(page=keys, total=total, size=size, is_last=True)
        elif number and set(keys) == set(resync.page):
            if not covered and (total is not None or len(keys) == size) and listing.past_end != "repeats":
                raise UnreadableAnswer(
                    search,
                    "the server returned the records of the previous page again: it does not honour the page "
                    "parameter, so the rest cannot be read",
                    page=number,
                )
            return ResyncPage(page=keys, total=total, size=size, is_last=True)
        is_last = not keys or (covered and len(keys) < size)
        return ResyncPage(
            session.options.observe(requested), [], keys, total, size, len(keys), is_last=is_last
        )

    async def _page(
        self,
        session: PollSession,
        number: int,
        size: int,
        query: Mapping[str, str] | None = None,
        *,
        after: str = "",
    ) -> tuple[Page, str | None]:
        """Read a page of the list, an empty one where the server answers an error after the last page.

        Return it with the continuation to the next page, "" for the last one, None where pages have numbers.

        Raises:
            ContinuationRefused: The server no longer takes the continuation `after`.

        """
        search, profile, usage = session.options.resource.search, self._client.profile, session.run.usage
        listing, following = profile.list_of(search), None
        try:
            if listing.next_in:
                body, following = await self._client.read_continued(
                    search, size, usage, query, after=after, page=number
                )
            else:
                body = await self._client.read_page(search, number, size, usage, query)
        except ApiError as error:
            if after and error.status in REFUSED:
                raise ContinuationRefused(search, str(error)) from None
            if number and str(error.status) == listing.past_end:
                return Page([], None), None
            raise
        share = session.context.loop_share
        await share.wait()
        with share.measured():
            page = self._client.split(search, body, number)
        return (page if listing.total == "trusted" else Page(page.records, None)), following

    def _check_end(self, resync: Resync, search: str, number: int, total: int, *, known: int) -> None:
        """Raise if an empty page is not plausibly the end. After some attempts it is taken for the end."""
        expected = total or (0 if number else known)
        if number * resync.width < expected and resync.failures < BELIEVED_AFTER:
            raise UnreadableAnswer(
                search, f"the page is empty, but the list should contain {expected} records", page=number
            )

    # Ids

    async def _read_requested(
        self, session: PollSession, resync: Resync, capabilities: Capabilities
    ) -> ResyncPage:
        batch = resync.request.ids[resync.position : resync.position + BATCH]
        result = await self._read_ids(session, resync, capabilities, batch)
        result.is_last = resync.position + BATCH >= len(resync.request.ids)
        return result

    async def _read_rest(
        self, session: PollSession, resync: Resync, capabilities: Capabilities
    ) -> ResyncPage:
        """Read known records by their ids that no page has shown: they have moved, or are deleted."""
        store, shown_in = session.store, session.context.keys.resync_shown(resync.id)
        unseen = await store.missing(session.buckets, BATCH_OF_REST, shown_in=shown_in)
        if not unseen.identifiers:
            return ResyncPage(is_last=True)
        if session.options.resource.single is None or capabilities.single.supported is False:
            return ResyncPage(passed_over=unseen.count, is_last=True)
        result = await self._read_ids(session, resync, capabilities, unseen.identifiers)
        result.by_id = len(unseen.identifiers) - len(result.missing)
        for identifier in unseen.identifiers:
            state = RecordState.unpack(await store.state_of(identifier, session.buckets))
            result.places.append(state.place)
        return result

    async def _read_ids(
        self, session: PollSession, resync: Resync, capabilities: Capabilities, batch: Sequence[str]
    ) -> ResyncPage:
        result, failures = ResyncPage(read=len(batch)), list[OrderMeshError]()
        refused: dict[str, ApiError] = {}
        limit = anyio.CapacityLimiter(max(1, session.options.window))

        async def one(requested: str) -> None:
            async with limit:
                if failures:
                    return
                try:
                    await self._look_up(session, requested, result, capabilities)
                except RateLimited as error:
                    failures.append(error)
                except ApiError as error:
                    refused[requested] = error
                except OrderMeshError as error:
                    failures.append(error)

        with plain_errors():
            async with anyio.create_task_group() as tasks:
                for wanted in batch:
                    tasks.start_soon(one, wanted)
        if refused and not failures:
            tries = GIVEN_UP_AFTER if len(refused) < len(batch) else ALL_GIVEN_UP_AFTER
            if resync.failures >= tries:
                result.missing += refused
            else:
                failures += refused.values()
        if failures:
            raise failures[0]
        return result

    async def _read_through(self, session: PollSession, resync: Resync, tracked: int) -> ResyncPage:
        """Read the list until all requested ids were found, for a resource whose records cannot be read by id."""
        options, resource = session.options, session.options.resource
        batch = resync.request.ids[resync.position : resync.position + BATCH_OF_LIST]
        open_ids = {requested.strip(): requested for requested in batch}
        largest = self._client.profile.list_of(resource.search).largest_page
        size = min(options.page_size, largest or options.page_size)
        result, before, seen, number, expected = ResyncPage(read=len(batch)), set[bytes](), 0, 0, tracked
        after: str | None = None
        while open_ids and after != "":
            page, after = await self._page(session, number, size, after=after or "")
            shown = session.options.observe(page.records)
            keys = {one.key for one in shown}
            expected = max(expected, page.total or 0)
            if keys <= before:  # empty, or the page before once more
                if seen < expected and resync.failures < BELIEVED_AFTER:
                    problem = f"the list ends after {seen} records, but should contain {expected}"
                    raise UnreadableAnswer(resource.search, problem, page=number)
                break
            for one in shown:
                names = {one.identifier, *(_value(one.record, name) for name in _NAMES)}
                if called := names & open_ids.keys():
                    result.observed.append(one)
                    for name in called:
                        del open_ids[name]
            before, seen, number = keys, seen + len(shown), number + 1
        result.missing = list(open_ids.values())
        result.is_last = resync.position + len(batch) >= len(resync.request.ids)
        return result

    async def _look_up(
        self, session: PollSession, requested: str, result: ResyncPage, capabilities: Capabilities
    ) -> None:
        """Look for the record of which this is the id, or one of the other ids."""
        resource = session.options.resource
        refused: Forbidden | None = None
        try:
            record = await self._by_id(resource, requested.strip(), session)
        except Forbidden as error:  # the list may be readable
            record, refused = None, error
        if record is None or capabilities.single_alike is False:
            # Other fields than the list's, published, would be a change that is none.
            listed = await self._listed(resource, requested.strip(), record, session)
            if record is not None and listed is None:
                result.unlike += 1
                return
            record = listed
        if record is not None:
            result.observed += session.options.observe([record])
        elif refused is not None:
            raise refused
        else:
            result.missing.append(requested)

    async def _by_id(self, resource: Resource, requested: str, session: PollSession) -> msgspec.Raw | None:
        """Return the record with this id, or this safe id; None if it does not exist."""
        for key, name in ((resource.single, resource.id_field), (resource.by_safe_id, "safeId")):
            if key is not None:
                record = await self._single(key, requested, session)
                if record is not None and _value(record, name) == requested:
                    return record
        return None

    async def _listed(
        self, resource: Resource, requested: str, known: msgspec.Raw | None, session: PollSession
    ) -> msgspec.Raw | None:
        """Return the record as the list shows it. `known`: the same record as it was read by its id."""
        for name in (*_NAMES, resource.id_field):
            if name in OPERATIONS[resource.search].query:
                called = requested if known is None else _value(known, name)
                record = await self._search(resource, name, called, session) if called else None
                same = record is not None and (
                    known is None or _value(record, resource.id_field) == _value(known, resource.id_field)
                )
                if same:
                    return record
        return None

    async def _single(self, key: str, requested: str, session: PollSession) -> msgspec.Raw | None:
        (name,) = OPERATIONS[key].path_parameters
        try:
            reply = await self._client.call(key, path={name: requested}, usage=session.run.usage)
            return msgspec.Raw(reply.record)
        except (NotFound, UnreadableAnswer):
            return None
        except ApiError as error:
            if error.status in _NO_ID:
                return None
            raise

    async def _search(
        self, resource: Resource, name: str, requested: str, session: PollSession
    ) -> msgspec.Raw | None:
        """Return the record whose field `name` is `requested`. A server may ignore the filter and return others."""
        query = {name: requested}
        try:
            body = await self._client.read_page(resource.search, 0, 10, session.run.usage, query)
            page = self._client.split(resource.search, body)
        except UnreadableAnswer:
            return None
        except ApiError as error:
            if isinstance(error, RateLimited) or error.status >= 500:
                raise
            return None
        return next((item for item in page.records if _value(item, name) == requested), None)


def _value(record: msgspec.Raw, name: str) -> str:
    try:
        fields: Mapping[str, Any] = value_of(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return str(fields.get(name, "")) if isinstance(fields, dict) else ""
