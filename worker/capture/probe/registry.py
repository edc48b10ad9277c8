"""The capabilities of an account's gateway: the configured profile, and the findings of the probe.

Findings are stored in Redis, so that every worker of the account and every command uses the same. The probe is
repeated once a day, when the configured profile has changed, and with each poll while a list is empty, because an
empty list does not show how its pages are numbered.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import msgspec

from worker.cancellation import finish
from worker.capture.probe.client import ProbeClient
from worker.capture.probe.incremental import verify_filter, verify_sort
from worker.capture.probe.journal import ProbeJournal
from worker.capture.probe.probe import Probe
from worker.capture.state.lease import acquire
from worker.errors import ContractMismatch, Forbidden, LeaseHeld, OrderMeshError
from worker.ordermesh.contract.findings import Capabilities, adopt, fingerprint, no
from worker.redis.connections import answer
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from redis.asyncio import Redis

    from worker.capture.failures import Failure
    from worker.capture.probe.samples import SampleRecord
    from worker.capture.resources import Resource
    from worker.capture.state.lease import Lease
    from worker.clock import Clock
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.contract.profile import ContractProfile

PROBE_AGAIN = 86_400.0
"""Seconds after which the probe is repeated."""
TURN_SECONDS = 0.5
"""Between two looks whether a probe that is under way has ended."""
FINISH_AFTER = 900.0
"""Seconds after which the probe is repeated if a finding is unknown, or is doubted."""

_decode = msgspec.json.Decoder(Capabilities).decode


class CapabilityRegistry:
    """Applies the findings to `client.profile`. Any number of workers may do so at the same time."""

    def __init__(
        self, *, redis: Redis, keys: Keys, client: OrderMeshClient, configured: ContractProfile, clock: Clock
    ) -> None:
        self._redis, self._keys, self._client, self._clock = redis, keys, client, clock
        self.configured = configured
        self._fingerprint = fingerprint(configured)
        self._failed: set[str] = set()
        self._log = get_logger(account=keys.account)

    async def load(self) -> dict[str, Capabilities]:
        """Return the stored findings by resource. Findings of another version or another profile are skipped."""
        stored = await answer(self._redis.hgetall(self._keys.contract))
        result = {}
        for name, raw in stored.items():
            try:
                capabilities = _decode(raw)
            except (msgspec.DecodeError, RecursionError):
                continue
            if capabilities.configured == self._fingerprint and capabilities.is_sound:
                result[name.decode()] = capabilities
        self._apply(result)
        return result

    async def ensure(self, resource: Resource, *, again: bool = True, doubted: bool = False) -> Capabilities:
        """Return the capabilities of a resource after applying them. The resource is probed if necessary.

        Args:
            resource: The resource.
            again: Repeat a probe that is too old.
            doubted: The last full scan speaks against the findings, so that they are too old sooner.

        Raises:
            ContractMismatch: The gateway does not have a list of the resource.
            Forbidden: The token may not read the resource.
            LeaseHeld: The resource is being probed by another read or another worker, and no findings are stored.
            OrderMeshError: The probe failed, and no findings are stored.

        """
        known = (await self.load()).get(resource.name)
        if known is None or not known.certain:
            known = await self._probe_in_turn(resource, known)
        elif again and self._is_old(known, doubted=doubted):
            known = await self._probe_again(resource, known)
        if known.state == "forbidden":
            raise Forbidden(resource.search, 403, known.problem)
        if known.state in {"missing", "unreadable"}:
            raise ContractMismatch(resource.search, resource.name, known.tried, known.problem)
        return known

    async def probe(self, resource: Resource) -> Capabilities:
        """Probe a resource, after a probe that is under way; store, apply and return the findings."""
        while True:
            try:
                async with self._turn(resource):
                    return await self._probe_and_save(resource)
            except LeaseHeld:
                await self._clock.sleep(TURN_SECONDS)

    async def _probe_in_turn(self, resource: Resource, before: Capabilities | None) -> Capabilities:
        """Probe a resource whose findings were `before`, unless that has been done meanwhile."""
        async with self._turn(resource):
            known = (await self.load()).get(resource.name)
            if known is not None and known.certain and known != before:
                return known
            return await self._probe_and_save(resource)

    async def _probe_and_save(self, resource: Resource) -> Capabilities:
        result = await self._probe(resource)
        await self._save(result)
        return result

    def _turn(self, resource: Resource) -> AbstractAsyncContextManager[Lease]:
        """Hold the lease on probing a resource: the reads of a list and of its audit logs begin at the same time."""
        return acquire(
            self._redis,
            self._keys.lease(f"probe:{resource.name}"),
            resource=f"the contract of {resource.name}",
            owner=f"probe {uuid.uuid4().hex[:16]}",
            clock=self._clock,
        )

    async def _probe_again(self, resource: Resource, known: Capabilities) -> Capabilities:
        """Repeat the probe; keep the known findings if it finds no records, as the gateway may fail for an hour."""
        try:
            async with self._turn(resource):
                result = await self._probe(resource)
        except (OrderMeshError, LeaseHeld):
            return known
        if result.state not in {"found", known.state}:
            result = msgspec.structs.replace(known, at=result.at - PROBE_AGAIN + FINISH_AFTER)
        await self._save(result)
        return result

    async def _probe(self, resource: Resource) -> Capabilities:
        known = (await self.load()).get(resource.name)
        journal = ProbeJournal(self._redis, self._keys.probe(resource.name), self._fingerprint)
        if answers := await journal.load():
            self._log.info("probe_resumed", resource=resource.name, pages=answers)
        try:
            result = await Probe(self._client, resource, self.configured, self._clock, journal).run()
        except OrderMeshError:
            await journal.drop()  # the next one asks anew what the gateway has answered
            raise
        await journal.drop()
        if known is not None and result.totals.supported is None:
            # What two full scans have shown, a few pages cannot disprove.
            result = msgspec.structs.replace(result, totals=known.totals)
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
        """Record that a read by filter or sort failed where a full scan works; True if they must be disabled.

        A failure that may be temporary disables them when it occurs twice in a row. The count is kept in this process
        only: another worker counts its own failures, and no change is missed meanwhile.
        """
        before = resource.name in self._failed
        self._failed.add(resource.name)
        return before or not failure.may_pass

    def record_success(self, resource: Resource) -> None:
        """Record that a read by filter or sort has succeeded."""
        self._failed.discard(resource.name)

    async def disable_filter(self, resource: Resource, why: str, *, shown: bool = True) -> None:
        """Disable the filter by modification time for all workers.

        Args:
            resource: The resource.
            why: The reason, for the log and the findings.
            shown: The filter is proven to be ignored; otherwise it is suspect, and is probed again soon.

        """
        known = (await self.load()).get(resource.name)
        if known is not None and known.since:
            self._log_disabled(resource, "filter by modification", known.since, why)
            await self._save(known.without_filter(why, at=self._clock.now(), certain=shown))

    async def disable_sort(self, resource: Resource, why: str, *, shown: bool = True) -> None:
        """Disable the sort by modification time; see `disable_filter`."""
        known = (await self.load()).get(resource.name)
        if known is not None and known.descending:
            self._log_disabled(resource, "sort by modification", " and ".join(known.descending), why)
            await self._save(known.without_sort(why, at=self._clock.now(), certain=shown))

    async def disable_choices(self, resource: Resource, why: str) -> None:
        """Disable the parameters that select records by status or merchant."""
        known = (await self.load()).get(resource.name)
        if known is not None and (known.status_parameter or known.merchant_parameter):
            names = filter(None, (known.status_parameter, known.merchant_parameter))
            self._log_disabled(resource, "choice by status or merchant", " and ".join(names), why)
            await self._save(known.without_choices(at=self._clock.now()))

    async def distrust_total(self, resource: Resource, why: str) -> None:
        """Ignore the total of a list from now on, for all workers: full scans have shown that it is not its length."""
        known = (await self.load()).get(resource.name)
        if known is not None:
            self._log.warning(
                "total_not_trusted",
                resource=resource.name,
                reason=why,
                advice="The total probably counts records that this token may not read. It is no longer used. If "
                'records are missing, ask OrderMesh; if not, set total = "untrusted" in the contract file.',
            )
            await self._save(msgspec.structs.replace(known, totals=no(why)))

    async def disable_active(self, resource: Resource, why: str) -> None:
        """Disable what fast reads currently use: the filter or, without a filter, the sort."""
        known = (await self.load()).get(resource.name)
        if known is not None:
            await (self.disable_filter if known.since else self.disable_sort)(resource, why)

    async def verify_active(self, resource: Resource, witness: SampleRecord, size: int) -> None:
        """Check the filter or sort that fast reads use against a change that a full scan has found.

        A filter or sort that does not return the change is disabled.
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
            return  # a failed request proves nothing; the next full scan checks again
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
        """Mark the findings as old, so that the next poll repeats the probe: the list has moved or changed."""
        known = (await self.load()).get(resource.name)
        if known is not None:
            await self._save(msgspec.structs.replace(known, at=0.0))

    async def _save(self, result: Capabilities) -> None:
        text = msgspec.json.encode(result).decode()
        await finish(answer(self._redis.hset(self._keys.contract, result.resource, text)))
        await self.load()

    def _apply(self, result: dict[str, Capabilities]) -> None:
        self._client.adopt(adopt(self.configured, result.values()))

    def _is_old(self, known: Capabilities, *, doubted: bool) -> bool:
        unknown = known.filtering.supported is None or (not known.since and known.sorting.supported is None)
        soon = doubted or known.unfinished or unknown
        return not 0 <= self._clock.now() - known.at < (FINISH_AFTER if soon else PROBE_AGAIN)
