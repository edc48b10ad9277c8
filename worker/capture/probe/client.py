"""How the probe asks: pages and single records, by a profile that is only tried."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from worker.capture.probe import samples as evidence
from worker.capture.probe.samples import ProbeRefusal, SamplePage
from worker.errors import ApiError, UnreadableAnswer, api_error_class
from worker.ordermesh.client import Usage
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.contract.profile import Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.capture.resources import Resource
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.contract.profile import ContractProfile, Listing

SAMPLES = (10, 5, 2, 1)
"""Records in a page that is only looked at: the first number that the server takes."""
TRANSIENT = frozenset({408, 425, 429, 502, 503, 504})
"""They say something of the moment and nothing of the contract. A 500 may be how a bad page number is answered."""


class ProbeClient:
    """Asks about one resource. `trial` is the profile by which it asks; `routes` gets the paths that answered."""

    def __init__(self, client: OrderMeshClient, resource: Resource, configured: ContractProfile) -> None:
        self._client, self.resource = client, resource
        self.configured = self.trial = configured
        self.search = resource.search
        self.routes: dict[str, str] = {}
        self.usage = Usage()
        self.sample = SAMPLES[0]

    @property
    def listing(self) -> Listing:
        """How the list is asked for at the moment."""
        return self.trial.list_of(self.search)

    def use(self, listing: Listing) -> None:
        """Ask for the list like this from now on."""
        self.trial = replace(self.trial, lists={**self.trial.lists, self.search: listing})

    async def page(
        self,
        number: int,
        size: int | None = None,
        narrowed: Mapping[str, str] | None = None,
        *,
        attempts: int | None = None,
    ) -> SamplePage | ProbeRefusal:
        """Page `number`, counted as the server does, of `size` records, else as many as are enough to look at.

        Raises:
            ApiError: With a status of the moment: nothing can be concluded from it.
            GatewayUnreachable: No answer, after all retries.
            LoginRejected: The credentials are refused.

        """
        query = {
            **(narrowed or {}),
            self.listing.page_parameter: str(number),
            self.listing.size_parameter: str(size or self.sample),
        }
        try:
            reply = await self._client.call(
                self.search, query=query, profile=self.trial, usage=self.usage, attempts=attempts
            )
            return evidence.sample(self.resource, self.search, reply.raw, self.trial.wrappers(self.search))
        except ApiError as error:
            return _refusal(error)
        except UnreadableAnswer as error:
            return ProbeRefusal(0, error.what)

    def give_up(self, refusal: ProbeRefusal) -> ApiError | UnreadableAnswer:
        """The error for an answer from which nothing can be concluded."""
        if refusal.status:
            return api_error_class(refusal.status)(self.search, refusal.status, refusal.text)
        return UnreadableAnswer(self.search, refusal.text)

    async def record(self, key: str, identifier: str) -> Any:
        """The answer of operation `key` about one record, at the first path that has one, or a `ProbeRefusal`."""
        operation, configured = OPERATIONS[key], self.trial
        paths = [configured.route(key).path]
        if key not in configured.routes:
            paths += [configured.prefixed(operation.service, path) for path in operation.alternatives]
        refusal = ProbeRefusal(404, "no path takes only the id of the record")
        for path in dict.fromkeys(paths):
            if path.count("{") != 1:
                continue  # it needs more than the id of the record
            name = path[path.index("{") + 1 : path.index("}")]
            trial = replace(
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
