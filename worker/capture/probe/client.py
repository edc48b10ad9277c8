"""The requests of the probe: pages and single records, with a profile on trial."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from worker.cancellation import plain_errors
from worker.capture.probe import samples as evidence
from worker.capture.probe.samples import ProbeRefusal, SamplePage
from worker.errors import ApiError, OrderMeshError, UnreadableAnswer, api_error_class
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.contract.profile import Route
from worker.ordermesh.http.continuation import next_of
from worker.ordermesh.http.reply import audit_of
from worker.ordermesh.http.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from worker.capture.probe.journal import ProbeJournal
    from worker.capture.resources import Resource
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.contract.profile import ContractProfile, Listing

SAMPLES = (10, 5, 2, 1)
"""Sizes of a sample page; the probe uses the first one that the server accepts."""
TRANSIENT = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses of temporary failures, which say nothing about the contract. A 500 may be the answer to an invalid page."""


async def side_by_side(*calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Return what these calls return, or the errors of OrderMesh that they raise, in their order.

    They are under way at the same time, as far as the account may send so many requests, and all of them end.
    """
    results: list[Any] = [None] * len(calls)

    async def call(place: int) -> None:
        try:
            results[place] = await calls[place]()
        except OrderMeshError as error:
            results[place] = error

    with plain_errors():
        async with anyio.create_task_group() as tasks:
            for place in range(len(calls)):
                tasks.start_soon(call, place)
    return results


class ProbeClient:
    """Sends requests for one resource, with the profile `trial`. `routes` collects the paths that answered."""

    def __init__(
        self,
        client: OrderMeshClient,
        resource: Resource,
        configured: ContractProfile,
        journal: ProbeJournal | None = None,
    ) -> None:
        self._client, self.resource, self._journal = client, resource, journal
        self.configured = self.trial = configured
        self.search = resource.search
        self._path: Mapping[str, str] | None = None
        self.routes: dict[str, str] = {}
        self.usage = Usage()
        self.sample = SAMPLES[0]

    @property
    def listing(self) -> Listing:
        """The parameters with which the list is currently requested."""
        return self.trial.list_of(self.search)

    def use(self, listing: Listing) -> None:
        """Request the list with these parameters from now on."""
        self.trial = msgspec.structs.replace(self.trial, lists={**self.trial.lists, self.search: listing})

    async def page(
        self,
        number: int,
        size: int | None = None,
        narrowed: Mapping[str, str] | None = None,
        *,
        attempts: int | None = None,
    ) -> SamplePage | ProbeRefusal:
        """Return a page of the list, or the refusal.

        Args:
            number: Number of the page, counted as the server does.
            size: Records to request; None for the size of a sample page.
            narrowed: Further query parameters, such as a filter.
            attempts: Attempts of the request; None for the default.

        Raises:
            ApiError: A temporary failure, from which nothing can be concluded.
            GatewayUnreachable: The gateway did not answer, after all retries.
            LoginRejected: The gateway rejected the credentials.

        """
        query = {**(narrowed or {}), self.listing.size_parameter: str(size or self.sample)}
        if self.listing.next_in is None:
            query[self.listing.page_parameter] = str(number)
            return await self._numbered(query, attempts)
        answer = await self.unnumbered(query, attempts=attempts)
        # Pages without numbers are followed from the first one.
        for _ in range(number - self.listing.first_page):
            if not isinstance(answer, SamplePage):
                break
            if not answer.after:
                return SamplePage((), answer.wrapper, answer.total_field, answer.total)
            answer = await self.unnumbered(query, attempts=attempts, after=answer.after)
        return answer

    async def pages(self, *numbers: int, size: int) -> list[SamplePage | ProbeRefusal]:
        """Return several pages, which are requested at the same time; raises as `page`."""
        answers = await side_by_side(*(partial(self.page, number, size) for number in numbers))
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _numbered(self, query: Mapping[str, str], attempts: int | None) -> SamplePage | ProbeRefusal:
        """Return a numbered page from the journal, or from the server."""
        route = self.trial.route(self.search)
        request = f"{route.method} {route.path} {sorted(query.items())}"
        if self._journal is not None and (known := self._journal.next(request)):
            return known
        page = await self.unnumbered(query, attempts=attempts)
        if self._journal is not None:
            await self._journal.add(request, page)
        return page

    async def unnumbered(
        self, query: Mapping[str, str] | None = None, *, attempts: int | None = None, after: str = ""
    ) -> SamplePage | ProbeRefusal:
        """Return what the server gives for a query, or the refusal; raises the same."""
        try:
            reply = await self._client.call(
                self.search,
                path=self._path,
                query=query,
                profile=self.trial,
                usage=self.usage,
                attempts=attempts,
                after=after,
            )
            wrappers = self.trial.wrappers(self.search)
            if OPERATIONS[self.search].is_log:
                page = evidence.sample_log(audit_of(reply, wrappers))
            else:
                page = evidence.sample(self.resource, self.search, reply.raw, wrappers)
            place = self.listing.next_in
            return replace(page, after=next_of(reply, place) if place else "", reply=reply)
        except ApiError as error:
            return _refusal(error)
        except UnreadableAnswer as error:
            return ProbeRefusal(0, error.what)

    def of_log(self, key: str, identifier: str) -> ProbeClient:
        """Return a client for the audit log of one record, which is a list as well; `key` is its operation."""
        client = ProbeClient(self._client, self.resource, self.trial)
        (name,) = OPERATIONS[key].path_parameters
        route = Route(self.trial.route(key).method, self.routes[key])
        client.trial = msgspec.structs.replace(self.trial, routes={**self.trial.routes, key: route})
        client.search, client._path, client.usage = key, {name: identifier}, self.usage
        return client

    def give_up(self, refusal: ProbeRefusal) -> ApiError | UnreadableAnswer:
        """Return the error for a response from which nothing can be concluded."""
        if refusal.status:
            return api_error_class(refusal.status)(self.search, refusal.status, refusal.text)
        return UnreadableAnswer(self.search, refusal.text)

    async def record(self, key: str, identifier: str) -> Any:
        """Return the response of operation `key` for one record, from the first path that answers, or the refusal."""
        operation, configured = OPERATIONS[key], self.trial
        paths = [configured.route(key).path]
        if key not in configured.routes:
            paths += [configured.prefixed(operation.service, path) for path in operation.alternatives]
        refusal = ProbeRefusal(404, "no path takes only the id of the record")
        for path in dict.fromkeys(paths):
            if path.count("{") != 1:
                continue  # the path needs more than the id of the record
            name = path[path.index("{") + 1 : path.index("}")]
            trial = msgspec.structs.replace(
                configured, routes={**configured.routes, key: Route(configured.route(key).method, path)}
            )
            try:
                reply = await self._client.call(key, path={name: identifier}, profile=trial, usage=self.usage)
                value = reply.value
            except ApiError as error:
                refusal = _refusal(error)
            except UnreadableAnswer as error:
                refusal = ProbeRefusal(0, error.what)
            else:
                self.routes[key] = path
                return value
        return refusal


def _refusal(error: ApiError) -> ProbeRefusal:
    if error.status in TRANSIENT:
        raise error
    return ProbeRefusal(error.status, error.text or "empty response")
