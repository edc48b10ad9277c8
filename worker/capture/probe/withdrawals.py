"""What reads show against the findings of the probe: a filter, sort or total that is not honoured is no longer used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.capture.probe.client import ProbeClient
from worker.capture.probe.incremental import verify_filter, verify_sort
from worker.errors import OrderMeshError
from worker.ordermesh.contract.findings import WITHDRAWABLE, Capabilities, Withdrawable, no

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from worker.capture.failures import Failure
    from worker.capture.probe.findings_store import FindingsStore
    from worker.capture.probe.samples import SampleRecord
    from worker.capture.resources import Resource
    from worker.clock import Clock
    from worker.ordermesh.client import OrderMeshClient


class Withdrawals:
    """Takes capabilities back from the findings of one account, for all of its workers."""

    def __init__(
        self, store: FindingsStore, client: OrderMeshClient, clock: Clock, log: FilteringBoundLogger
    ) -> None:
        self._store, self._client, self._clock, self._log = store, client, clock, log
        self._failed: set[str] = set()

    def record_failure(self, resource: Resource, failure: Failure) -> bool:
        """Record that a read by filter or sort failed where a full scan works; True if they must be disabled.

        A failure that may be temporary disables them when it occurs twice in a row. The count is kept in this process
        only: another worker counts its own failures, and no change is missed meanwhile.
        """
        before = resource.name in self._failed
        self._failed.add(resource.name)
        return before or not failure.may_pass

    @property
    def has_failures(self) -> bool:
        """True if a read by filter or sort has failed, and none has succeeded since."""
        return bool(self._failed)

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
        await self._disable(resource, "filter", why, certain=shown)

    async def disable_sort(self, resource: Resource, why: str, *, shown: bool = True) -> None:
        """Disable the sort by modification time; see `disable_filter`."""
        await self._disable(resource, "sort", why, certain=shown)

    async def disable_choices(self, resource: Resource, why: str) -> None:
        """Disable the parameters that select records by status or merchant."""
        await self._disable(resource, "choice", why)

    async def _disable(
        self, resource: Resource, capability: Withdrawable, why: str, *, certain: bool = True
    ) -> None:
        known = await self._store.of(resource)
        if known is not None and (parameter := known.parameter_of(capability)):
            self._log_one(resource, capability, parameter, why)
            await self._store.contradict(
                known.without(capability, why, at=self._clock.now(), certain=certain)
            )

    async def distrust_total(self, resource: Resource, why: str) -> None:
        """Ignore the total of a list from now on, for all workers: full scans have shown that it is not its length."""
        known = await self._store.of(resource)
        if known is not None:
            self._log.warning(
                "total_not_trusted",
                resource=resource.name,
                reason=why,
                advice="The total probably counts records that this token may not read. It is no longer used. If "
                'records are missing, ask OrderMesh; if not, set total = "untrusted" in the contract file.',
            )
            await self._store.save(msgspec.structs.replace(known, totals=no(why)))

    async def disable_active(self, resource: Resource, why: str) -> None:
        """Disable what fast reads currently use: the filter or, without a filter, the sort."""
        known = await self._store.of(resource)
        if known is not None:
            await (self.disable_filter if known.since else self.disable_sort)(resource, why)

    async def verify_active(self, resource: Resource, witness: SampleRecord, size: int) -> None:
        """Check the filter or sort that fast reads use against a change that a full scan has found.

        A filter or sort that does not return the change is disabled.
        """
        known = await self._store.of(resource)
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

    def log_new(self, resource: Resource, known: Capabilities, result: Capabilities) -> None:
        """Log what a new probe has withdrawn: `result` no longer has it, and `known` had."""
        for item in result.withdrawn:
            if item not in known.withdrawn:
                self._log_one(resource, item.capability, item.parameter, item.why)

    def _log_one(self, resource: Resource, capability: Withdrawable, parameter: str, why: str) -> None:
        self._log.warning(
            "capability_withdrawn",
            resource=resource.name,
            capability=WITHDRAWABLE[capability],
            parameter=parameter,
            reason=why,
            advice="This parameter is no longer used. Run `ordersync contract probe` to test it again.",
        )
