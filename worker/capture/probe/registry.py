"""The capabilities of an account's gateway: the configured profile, and the findings of the probe.

Every worker of the account and every command uses the same findings (see `findings_store.py`). Accounts of the same
gateway take them over from each other (see `gateway.py`): one of them probes, at one time, and the others wait for it.
The probe is repeated once a day, when the configured profile has changed, and with each poll while a list is empty and
no other account has found out more, because an empty list does not show how its pages are numbered.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import msgspec

from ordersync_consumer.servers.topology import SlotUnavailable
from worker.capture.probe.findings_store import FindingsStore
from worker.capture.probe.journal import ProbeJournal
from worker.capture.probe.probe import Probe
from worker.capture.probe.withdrawals import Withdrawals
from worker.capture.state.lease import acquire
from worker.errors import ContractMismatch, Forbidden, LeaseHeld, OrderMeshError
from worker.ordermesh.contract.findings import (
    Capabilities,
    taken_over,
)
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from redis.asyncio import Redis

    from worker.capture.probe.gateway import GatewayFindings
    from worker.capture.resources import Resource
    from worker.capture.state.lease import Lease
    from worker.clock import Clock
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.contract.profile import ContractProfile

PROBE_AGAIN = 86_400.0
"""Seconds after which the probe is repeated."""
TURN_SECONDS = 0.25
"""Between two looks whether a probe that is under way has ended."""
WAIT_SECONDS = 3.0
"""Seconds that a read waits for the probe of another account. After that it gives its place to other reads."""
FINISH_AFTER = 900.0
"""Seconds after which the probe is repeated if a finding is unknown, or is doubted."""


class CapabilityRegistry:
    """What the gateway of one account can do. Any number of workers may ask and probe at the same time.

    Attributes:
        store: The findings of this account.
        gateway: The findings that all accounts of the gateway share.
        withdrawals: What reads take back from the findings.

    """

    def __init__(
        self,
        *,
        redis: Redis,
        keys: Keys,
        client: OrderMeshClient,
        configured: ContractProfile,
        clock: Clock,
        gateway: GatewayFindings,
    ) -> None:
        self._redis, self._keys, self._client, self._clock = redis, keys, client, clock
        self.gateway, self._log = gateway, get_logger(account=keys.account)
        self.store = FindingsStore(redis, keys, client, configured, gateway)
        self.withdrawals = Withdrawals(self.store, client, clock, self._log)

    async def load(self, stored: Mapping[bytes, bytes] | None = None) -> dict[str, Capabilities]:
        """Return the stored findings by resource; see `FindingsStore.load`."""
        return await self.store.load(stored)

    async def ensure(
        self,
        resource: Resource,
        *,
        again: bool = True,
        doubted: bool = False,
        stored: Mapping[bytes, bytes] | None = None,
    ) -> Capabilities:
        """Return the capabilities of a resource after applying them. The resource is probed if necessary.

        Args:
            resource: The resource.
            again: Repeat a probe that is too old.
            doubted: The last full scan speaks against the findings, so that they are too old sooner.
            stored: What is stored of the findings, if it was loaded just now.

        Raises:
            ContractMismatch: The gateway does not have a list of the resource.
            Forbidden: The token may not read the resource.
            LeaseHeld: The resource is being probed by another read or another worker, and no findings are stored.
            OrderMeshError: The probe failed, and no findings are stored.

        """
        known = (await self.load(stored)).get(resource.name)
        if known is None or not known.certain:
            known = await self._learn(resource, known)
        elif again:
            known = await self._renew(resource, known, doubted=doubted)
        if known.state == "forbidden":
            raise Forbidden(resource.search, 403, known.problem)
        if known.state in {"missing", "unreadable"}:
            raise ContractMismatch(resource.search, resource.name, known.tried, known.problem)
        return known

    async def probe(self, resource: Resource, *, accept: bool = False) -> Capabilities:
        """Probe a resource, after a probe that is under way; store, apply and return the findings.

        `accept`: what the gateway honours no longer is its contract from now on, and is not reported any more.
        """
        known = await self.store.of(resource)
        for_all = known is None or known.origin != "contradicted"
        while True:
            try:
                async with self._turn(resource, for_all=for_all):
                    return await self._probe_and_save(resource, for_all=for_all, accept=accept)
            except LeaseHeld:
                await self._clock.sleep(TURN_SECONDS)
            except SlotUnavailable:
                if not for_all:
                    raise
                for_all = False

    async def accept(self, resource: Resource) -> None:
        """Take what the gateway honours no longer for its contract, as another account has found and accepted it."""
        known, shared = await self.store.of(resource), await self._of_gateway(resource)
        if known is not None and known.origin != "contradicted" and self.gateway.is_usable(shared):
            known = taken_over(shared, known)
        if known is not None:
            await self.store.save(msgspec.structs.replace(known, withdrawn=()))

    async def _learn(self, resource: Resource, before: Capabilities | None) -> Capabilities:
        """Take findings over, or probe a resource of which `before` was known, which is not enough to read its list.

        A list that was empty, or could not be read, when the first account probed it, may be so for many accounts: each
        of them looks for itself then, and does not wait for the others.
        """
        known, ends = await self._of_gateway(resource), self._clock.monotonic() + WAIT_SECONDS
        for_all = before is None and (known is None or known.state == "found")
        while True:
            if self.gateway.is_usable(known):
                return await self._take_over(resource, known, before)
            try:
                async with self._turn(resource, for_all=for_all):
                    found = await self.store.of(resource)
                    if found is not None and found.certain and found != before:
                        return found
                    if self.gateway.is_usable(known := await self._of_gateway(resource)):
                        return await self._take_over(resource, known, before)
                    return await self._probe_and_save(resource, for_all=for_all)
            except LeaseHeld:
                if not for_all or self._clock.monotonic() >= ends:
                    raise
                await self._clock.sleep(TURN_SECONDS)
            except SlotUnavailable:  # if it is the node of the gateway's keys, the account probes for itself
                if not for_all:
                    raise
                for_all = False
            known = await self._of_gateway(resource)

    async def _renew(self, resource: Resource, known: Capabilities, *, doubted: bool) -> Capabilities:
        """Return known findings, or newer ones if they are too old, or are doubted by another account."""
        is_old, alone = self._is_old(known, doubted=doubted), doubted or known.origin == "contradicted"
        if not alone and (is_old or known.origin == "gateway"):
            shared = await self._of_gateway(resource)
            if not self.gateway.is_usable(shared):
                is_old = True
            elif shared.at > known.at:
                return await self._take_over(resource, shared, known)
        return await self._probe_again(resource, known, for_all=not alone) if is_old else known

    async def _of_gateway(self, resource: Resource) -> Capabilities | None:
        return await self.gateway.get(resource.name, fingerprint=self.store.fingerprint)

    async def _take_over(
        self, resource: Resource, shared: Capabilities, known: Capabilities | None
    ) -> Capabilities:
        result = taken_over(shared, known)
        if known is not None:
            self.withdrawals.log_new(resource, known, result)
        await self.store.save(result)
        self._log.debug("contract_taken_over", resource=result.resource, state=result.state, path=result.path)
        return result

    async def _probe_and_save(
        self, resource: Resource, *, for_all: bool, accept: bool = False
    ) -> Capabilities:
        result = await self._probe(resource)
        if accept:
            result = msgspec.structs.replace(result, withdrawn=())
        await self.store.save(result)
        await self.gateway.publish(result, agreed=for_all)
        return result

    def _turn(self, resource: Resource, *, for_all: bool) -> AbstractAsyncContextManager[Lease]:
        """Hold the lease on probing a resource: of the gateway, or of this account only."""
        key = self._keys.lease(f"probe:{resource.name}")
        return acquire(
            self.gateway.redis if for_all else self._redis,
            self.gateway.keys.lease(resource.name) if for_all else key,
            resource=f"the contract of {resource.name}",
            owner=f"probe of {self._keys.account} {uuid.uuid4().hex[:16]}",
            clock=self._clock,
        )

    async def _probe_again(self, resource: Resource, known: Capabilities, *, for_all: bool) -> Capabilities:
        """Repeat the probe; keep the known findings if it finds no records, as the gateway may fail for an hour."""
        try:
            async with self._turn(resource, for_all=for_all):
                result = await self._probe(resource)
        except (OrderMeshError, LeaseHeld, SlotUnavailable):
            return known
        if result.state not in {"found", known.state}:
            result = msgspec.structs.replace(known, at=result.at - PROBE_AGAIN + FINISH_AFTER)
        else:
            await self.gateway.publish(result, agreed=for_all)
        await self.store.save(result)
        return result

    async def record_forbidden(self, resource: Resource, error: Forbidden) -> None:
        """Record that this account may not read a list that another account of the gateway may."""
        known = await self.store.of(resource)
        if known is not None and known.origin != "probe" and error.operation == resource.search:
            await self.store.save(msgspec.structs.replace(known, state="forbidden", problem=error.text))

    async def _probe(self, resource: Resource) -> Capabilities:
        known = await self.store.of(resource)
        journal = ProbeJournal(self._redis, self._keys.probe(resource.name), self.store.fingerprint)
        if answers := await journal.load():
            self._log.info("probe_resumed", resource=resource.name, pages=answers)
        try:
            result = await Probe(self._client, resource, self.store.configured, self._clock, journal).run()
        except OrderMeshError:
            await journal.drop()  # the next one asks anew what the gateway has answered
            raise
        await journal.drop()
        if known is not None and result.totals.supported is None:
            # What two full scans have shown, a few pages cannot disprove.
            result = msgspec.structs.replace(result, totals=known.totals)
        if known is not None:
            result = result.following(known)
            self.withdrawals.log_new(resource, known, result)
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

    async def mark_stale(self, resource: Resource) -> None:
        """Mark the findings as old, so that the next poll repeats the probe: the list has moved or changed."""
        known = await self.store.of(resource)
        if known is not None:
            await self.store.contradict(msgspec.structs.replace(known, at=0.0))

    def _is_old(self, known: Capabilities, *, doubted: bool) -> bool:
        unknown = known.filtering.supported is None or (not known.since and known.sorting.supported is None)
        soon = doubted or known.unfinished or unknown
        return not 0 <= self._clock.now() - known.at < (FINISH_AFTER if soon else PROBE_AGAIN)
