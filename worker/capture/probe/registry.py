"""What is known of an account's gateway: the profile that is believed, and what the probe has found.

Findings live in Redis, so that every worker of the account and every command sees the same. They are asked
for anew once a day, when the profile that they began with has changed, and with each poll as long as a list is
empty, since an empty list does not say how its pages are counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.cancellation import finish
from worker.capture.probe.client import ProbeClient
from worker.capture.probe.incremental import verify_filter, verify_sort
from worker.capture.probe.probe import Probe
from worker.errors import ContractMismatch, Forbidden, OrderMeshError
from worker.ordermesh.contract.findings import Capabilities, adopt, fingerprint
from worker.redis.connections import answer
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.capture.failures import Failure
    from worker.capture.probe.samples import SampleRecord
    from worker.capture.resources import Resource
    from worker.clock import Clock
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.contract.profile import ContractProfile

PROBE_AGAIN = 86_400.0
"""Seconds after which what was found is looked at again."""
FINISH_AFTER = 900.0
"""Seconds after which it is, where something could not be told for the moment."""

_decode = msgspec.json.Decoder(Capabilities).decode


class CapabilityRegistry:
    """Keeps `client.profile` in step with what has been found. Any number of workers may do it at a time."""

    def __init__(
        self, *, redis: Redis, keys: Keys, client: OrderMeshClient, configured: ContractProfile, clock: Clock
    ) -> None:
        self._redis, self._keys, self._client, self._clock = redis, keys, client, clock
        self.configured = configured
        self._fingerprint = fingerprint(configured)
        self._failed: set[str] = set()
        self._log = get_logger(account=keys.account)

    async def load(self) -> dict[str, Capabilities]:
        """What was found, by resource. What another version or another profile has left is passed over."""
        kept = await answer(self._redis.hgetall(self._keys.contract))
        result = {}
        for name, raw in kept.items():
            try:
                one = _decode(raw)
            except (msgspec.DecodeError, RecursionError):
                continue
            if one.configured == self._fingerprint and one.is_sound:
                result[name.decode()] = one
        self._apply(result)
        return result

    async def ensure(self, resource: Resource, *, again: bool = True) -> Capabilities:
        """What is known of a resource, probed if need be, and in force. `again`: what is old may be replaced.

        Raises:
            ContractMismatch: No list of it can be found at the gateway.
            Forbidden: The token may not read it.
            OrderMeshError: The gateway cannot be asked, and nothing is known.

        """
        known = (await self.load()).get(resource.name)
        if known is None or not known.certain:
            known = await self.probe(resource)
        elif again and self._is_old(known):
            known = await self._probe_again(resource, known)
        if known.state == "forbidden":
            raise Forbidden(resource.search, 403, known.problem)
        if known.state in {"missing", "unreadable"}:
            raise ContractMismatch(resource.search, resource.name, known.tried, known.problem)
        return known

    async def probe(self, resource: Resource) -> Capabilities:
        """Ask the gateway now, keep what it says, and put it in force."""
        result = await self._probe(resource)
        await self._save(result)
        return result

    async def _probe_again(self, resource: Resource, known: Capabilities) -> Capabilities:
        """What is found now, or, where that is no list, what was: a gateway may be ill for an hour."""
        try:
            result = await self._probe(resource)
        except OrderMeshError:
            return known
        if result.state not in {"found", "empty"}:
            result = msgspec.structs.replace(known, at=result.at - PROBE_AGAIN + FINISH_AFTER)
        await self._save(result)
        return result

    async def _probe(self, resource: Resource) -> Capabilities:
        result = await Probe(self._client, resource, self.configured, self._clock).run()
        self._log.info(
            "contract_probed",
            resource=resource.name,
            state=result.state,
            path=result.path,
            first_page=result.first_page,
            largest_page=result.largest_page,
            since=result.since,
            requests=result.requests,
        )
        return result

    def record_failure(self, resource: Resource, failure: Failure) -> bool:
        """Note that a read by filter or sort has failed where a complete one works; whether they are to be withdrawn.

        A gateway may be ill for a moment, and well again when everything is read: a failure that may be one of the
        moment counts when it comes twice in a row. That is kept in this process alone: another worker finds it out
        for itself, and nothing is missed meanwhile.
        """
        before = resource.name in self._failed
        self._failed.add(resource.name)
        return before or not failure.may_pass

    def record_success(self, resource: Resource) -> None:
        """Note that a read by filter or sort has come to its end."""
        self._failed.discard(resource.name)

    async def disable_filter(self, resource: Resource, why: str, *, shown: bool = True) -> None:
        """The filter by modification has stopped to hold: nobody uses it from here on.

        `shown`: it is certain; otherwise it is only suspected, and looked at again before long.
        """
        known = (await self.load()).get(resource.name)
        if known is not None and known.since:
            self._log_disabled(resource, "filter by modification", known.since, why)
            await self._save(known.without_filter(why, at=self._clock.now(), certain=shown))

    async def disable_sort(self, resource: Resource, why: str, *, shown: bool = True) -> None:
        """The sort by modification has stopped to hold, likewise."""
        known = (await self.load()).get(resource.name)
        if known is not None and known.descending:
            self._log_disabled(resource, "sort by modification", " and ".join(known.descending), why)
            await self._save(known.without_sort(why, at=self._clock.now(), certain=shown))

    async def disable_choices(self, resource: Resource, why: str) -> None:
        """The parameters that choose records by status or merchant have stopped to hold, likewise."""
        known = (await self.load()).get(resource.name)
        if known is not None and (known.status_parameter or known.merchant_parameter):
            names = filter(None, (known.status_parameter, known.merchant_parameter))
            self._log_disabled(resource, "choice by status or merchant", " and ".join(names), why)
            await self._save(known.without_choices(at=self._clock.now()))

    async def disable_active(self, resource: Resource, why: str) -> None:
        """What fast reads go by at present, the filter or, without one, the sort, has stopped to hold."""
        known = (await self.load()).get(resource.name)
        if known is not None:
            await (self.disable_filter if known.since else self.disable_sort)(resource, why)

    async def verify_active(self, resource: Resource, witness: SampleRecord, size: int) -> None:
        """Hold what fast reads go by against a change that a complete read has found.

        They must show it, or are used no more.
        """
        known = (await self.load()).get(resource.name)
        client = ProbeClient(self._client, resource, self._client.profile)
        try:
            if known is not None and known.since:
                why = await verify_filter(client, known.since, witness, size)
            elif known is not None and known.descending:
                why = (await verify_sort(client, known.descending, witness, size)).problem
            else:
                return
        except OrderMeshError:
            return  # it says nothing of the gateway's word; the next complete read tries again
        if why is not None:
            await self.disable_active(
                resource, f"{why}: it did not return a change that a full scan has found"
            )

    def _log_disabled(self, resource: Resource, capability: str, parameter: str, why: str) -> None:
        self._log.warning(
            "capability_withdrawn",
            resource=resource.name,
            capability=capability,
            parameter=parameter,
            reason=why,
            advice="This parameter is no longer used. Run `ordersync contract probe` to test it again.",
        )

    async def mark_stale(self, resource: Resource) -> None:
        """Its list is not where it was, or not served as it was: the next poll looks again."""
        known = (await self.load()).get(resource.name)
        if known is not None:
            await self._save(msgspec.structs.replace(known, at=0.0))

    async def _save(self, result: Capabilities) -> None:
        text = msgspec.json.encode(result).decode()
        await finish(answer(self._redis.hset(self._keys.contract, result.resource, text)))
        await self.load()

    def _apply(self, result: dict[str, Capabilities]) -> None:
        self._client.adopt(adopt(self.configured, result.values()))

    def _is_old(self, known: Capabilities) -> bool:
        unknown = known.filtering.supported is None or (not known.since and known.sorting.supported is None)
        open_still = known.unfinished or unknown
        return not 0 <= self._clock.now() - known.at < (FINISH_AFTER if open_still else PROBE_AGAIN)
