"""The probe: tests with read requests which parts of the contract the live API honours for one resource.

It uses 15 to 35 requests per resource, which the request budget limits like any other. A parameter that the server
merely accepts is not used; see `pagination.py` and `incremental.py` for what is required.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from ordersync_consumer.redaction import words_of
from worker.capture.probe.client import SAMPLES, ProbeClient, side_by_side
from worker.capture.probe.continuation import find_continuation
from worker.capture.probe.filters import find_choices
from worker.capture.probe.incremental import find_filter, find_sort
from worker.capture.probe.logs import find_log_pages
from worker.capture.probe.pagination import find_accepted_size, find_pages, find_reach, find_sizes
from worker.capture.probe.samples import ProbeRefusal, SamplePage, shape
from worker.errors import ApiError, ContractMismatch, GatewayUnreachable
from worker.ordermesh.contract.findings import UNKNOWN, Capabilities, fingerprint, no, yes
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.contract.profile import Route, is_segment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from worker.capture.probe.journal import ProbeJournal
    from worker.capture.resources import Resource
    from worker.clock import Clock
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.contract.profile import ContractProfile


class Probe:
    """One probe of one resource, starting from the configured profile."""

    def __init__(
        self,
        client: OrderMeshClient,
        resource: Resource,
        configured: ContractProfile,
        clock: Clock,
        journal: ProbeJournal,
    ) -> None:
        self._client = ProbeClient(client, resource, configured, journal)
        self._resource, self._clock = resource, clock
        self._configured, self._search = configured, resource.search
        self._findings: dict[str, Any] = {}

    async def run(self) -> Capabilities:
        """Run the probe and return its findings.

        The path, page numbers and page sizes, which every read needs, are probed first. If the server fails or limits
        the rate after that, the other findings stay unknown, and `unfinished` says why.

        Raises:
            ContractMismatch: The contract file sets a method that does not only read.
            GatewayUnreachable: The gateway did not answer, after all retries.
            LoginRejected: The gateway rejected the credentials.
            ApiError: The server failed or limited the rate, after all retries.
            UnreadableAnswer: The responses contradict each other.

        """
        first = await self._find_path()
        if first is not None:
            self._record_layout(first)
            result, first = await find_pages(self._client, first)
            self._findings |= result
            if first is None:
                self._findings |= await find_accepted_size(self._client)
        if first is not None:
            self._record_layout(first)
            turned = bool(self._findings.get("pages", UNKNOWN).supported)
            result, reference = await find_sizes(self._client, first, turned=turned)
            self._findings |= result
            await self._find_others(reference, turned=turned)
        return Capabilities(
            resource=self._resource.name,
            search=self._search,
            at=self._clock.now(),
            configured=fingerprint(self._configured),
            requests=self._client.usage.requests,
            routes=self._routes(),
            **self._findings,
        )

    def _routes(self) -> dict[str, str]:
        """Return the paths that have answered, in the same order whichever has answered first."""
        resource, routes = self._resource, self._client.routes
        keys = (self._search, resource.single, resource.by_parent, resource.audit)
        return {key: routes[key] for key in keys if key and key in routes}

    async def _find_others(self, reference: SamplePage, *, turned: bool) -> None:
        """Find out at the same time what does not depend on each other; of what follows a failure, nothing is known."""
        client = self._client
        calls: list[Callable[[], Awaitable[dict[str, Any] | None]]] = [
            partial(self._find_single, reference),
            partial(self._find_by_parent, reference),
            partial(self._find_audit, reference),
        ]
        if turned:
            calls.insert(0, partial(find_reach, client, reference))
        if self._findings.get("pages", UNKNOWN).supported is not None:  # otherwise the probe is repeated soon
            calls += [partial(find, client, reference) for find in (find_filter, find_sort, find_choices)]
        for place, result in enumerate(await side_by_side(*calls)):
            is_needed = turned and place == 0
            if isinstance(result, (ApiError, GatewayUnreachable)) and not is_needed:
                self._findings["unfinished"] = words_of(result)
                break
            if isinstance(result, Exception):
                raise result
            self._findings |= result or {}

    async def _find_path(self) -> SamplePage | None:
        """Find the path that returns a list; return its first page, or None if no path does."""
        self._check_method()
        tried: list[str] = []
        refusals: list[tuple[str, ProbeRefusal]] = []
        failure: ApiError | None = None
        client, number = self._client, self._configured.list_of(self._search).first_page
        for prefix, path in self._paths():
            tried.append(path)
            client.trial = self._with_path(path, prefix)
            try:
                answer = await client.page(number)
                if isinstance(answer, ProbeRefusal) and answer.status in {400, 422}:
                    answer = await self._try_other_pages(number) or answer
            except ApiError as error:
                if error.status == 429:
                    raise
                failure = failure or error
                continue
            if isinstance(answer, SamplePage):
                self._findings |= {"state": "found", "path": path, "tried": tuple(tried), "prefix": prefix}
                client.routes[self._search] = path
                return answer
            if answer.status >= 500 and answer.status != 501:
                failure = failure or _as_api_error(client, answer)
            refusals.append((path, answer))
        if failure is not None:
            raise failure
        self._record_refusal(tuple(tried), refusals)
        return None

    async def _try_other_pages(self, number: int) -> SamplePage | None:
        """Return a page with another first page number or a smaller size; None if all are refused."""
        client = self._client
        other = 0 if number else 1
        for size, first in [(SAMPLES[0], other), *itertools.product(SAMPLES[1:], (number, other))]:
            client.sample = size
            answer = await client.page(first)
            if isinstance(answer, SamplePage):
                return answer
        client.sample = SAMPLES[0]
        # The parameter may be refused, whatever page it names.
        answer = await client.unnumbered({client.listing.size_parameter: str(client.sample)})
        return answer if isinstance(answer, SamplePage) and await find_continuation(client) else None

    def _record_refusal(self, tried: tuple[str, ...], refusals: list[tuple[str, ProbeRefusal]]) -> None:
        """Record the most informative refusal: a forbidden path exists, and an unreadable response may be the list."""
        for status, state in ((403, "forbidden"), (0, "unreadable")):
            for path, refusal in refusals:
                if refusal.status == status:
                    # The state already says that it is forbidden, and the resulting error contains the status.
                    problem = f"{path}: {refusal.text if status == 403 else refusal.why}"
                    self._findings |= {"state": state, "tried": tried, "problem": problem}
                    return
        self._findings |= {"state": "missing", "tried": tried, "problem": refusals[0][1].why}

    def _check_method(self) -> None:
        """Raise `ContractMismatch` if the contract file sets a method that does not only read."""
        resource = self._resource
        for key in (self._search, resource.single, resource.by_parent, resource.audit):
            if key and self._configured.route(key).method not in {"GET", OPERATIONS[key].method}:
                problem = f"{key} is set to {self._configured.route(key).method}, which does not only read"
                raise ContractMismatch(
                    self._search, self._resource.name, (self._configured.route(key).path,), problem
                )

    def _paths(self) -> Iterator[tuple[str | None, str]]:
        """Yield the paths to try, with the prefix of each, None for the configured one. A configured path is final."""
        configured = self._configured
        yield None, configured.route(self._search).path
        if self._search in configured.routes:
            return
        operation = OPERATIONS[self._search]
        service = f"/{operation.service}"
        current = configured.prefixes.get(operation.service, service)
        seen = {configured.route(self._search).path}
        for path in (operation.path, *operation.alternatives):
            for prefix in dict.fromkeys((current, service, "")):
                candidate = prefix + path.removeprefix(service)
                if candidate not in seen:
                    seen.add(candidate)
                    yield (None if prefix == current else prefix), candidate

    def _with_path(self, path: str, prefix: str | None) -> ContractProfile:
        profile = self._configured
        if prefix is not None:
            service = OPERATIONS[self._search].service
            profile = msgspec.structs.replace(profile, prefixes={**profile.prefixes, service: prefix})
        route = Route(profile.route(self._search).method, path)
        return msgspec.structs.replace(profile, routes={**profile.routes, self._search: route})

    def _record_layout(self, page: SamplePage) -> None:
        self._findings |= {"wrapper": page.wrapper, "total_field": page.total_field, "total": page.total}

    async def _find_single(self, reference: SamplePage) -> None:
        """Find out whether one record can be read by its id. One that is not found may have been deleted meanwhile."""
        key = self._resource.single
        known = [record for record in reference.records if is_segment(record.id)]
        if key is None:
            self._findings["single"] = no("the API does not have this operation")
            return
        for sample in dict.fromkeys(known[place] for place in (0, len(known) // 2, -1) if known):
            answer = await self._client.record(key, sample.id)
            if isinstance(answer, ProbeRefusal):
                self._findings["single"] = no(answer.why)
                self._record_limit(answer)
                if answer.status in {404, 410}:
                    continue
            elif _identifier(answer, OPERATIONS[key].record, self._resource.id_field) == sample.id:
                alike = _record(answer, OPERATIONS[key].record).keys() == sample.names
                other = "" if alike else ", with fields that differ from the list"
                self._findings |= {
                    "single": yes(f"returns the requested record{other}"),
                    "single_alike": alike,
                }
            else:
                self._findings["single"] = no("the response is not the requested record")
            return

    def _record_limit(self, refusal: ProbeRefusal) -> None:
        if refusal.status in {401, 403}:
            self._findings["limited"] = True

    async def _find_by_parent(self, reference: SamplePage) -> None:
        """Find the path that lists the records of one parent."""
        key = self._resource.by_parent
        sample = next((record for record in reference.records if is_segment(record.parent)), None)
        if key is not None and sample is not None:
            await self._client.record(key, sample.parent)

    async def _find_audit(self, reference: SamplePage) -> None:
        """Find out whether the audit logs of one record can be read, and their layout."""
        key = self._resource.audit
        if key is None:
            self._findings["audit"] = no("the API does not have this operation")
            return
        samples = [record for record in reference.records if is_segment(record.id)]
        for sample in samples[:1]:
            answer = await self._client.record(key, sample.id)
            if isinstance(answer, ProbeRefusal):
                self._findings["audit"] = no(answer.why)
                self._record_limit(answer)
                return
            self._findings |= {"audit": yes("answers"), "audit_shape": shape(answer)}
        if samples:
            self._findings |= await find_log_pages(self._client, key, [sample.id for sample in samples])


def _identifier(answer: Any, wrapper: str | None, field: str) -> str | None:
    record = _record(answer, wrapper)
    return str(record.get(field)) if record else None


def _record(answer: Any, wrapper: str | None) -> dict[str, Any]:
    record = answer.get(wrapper, answer) if isinstance(answer, dict) and wrapper else answer
    return record if isinstance(record, dict) else {}


def _as_api_error(client: ProbeClient, refusal: ProbeRefusal) -> ApiError | None:
    error = client.give_up(refusal)
    return error if isinstance(error, ApiError) else None
