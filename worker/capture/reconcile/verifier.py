"""Proves records, a batch at a time: reads their audit logs, and those by their id whose log is not covered.

What is read by id and differs from what is known is published, through the same comparison and the same commit as a
poll. So nothing is published twice, whoever is faster.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import msgspec

from worker.cancellation import plain_errors
from worker.capture.reconcile.comparison import Comparison, Window, are_whole_seconds, compare, times_of
from worker.capture.reconcile.progress import ABSENT, Gap, ReconcileCounts
from worker.capture.records.diff import PUBLISHED, Action, observe
from worker.capture.records.fingerprint import raw_fingerprint
from worker.capture.state import refresh_queue as due
from worker.capture.state.record_states import buckets_of, states_of, unpacked
from worker.capture.writer import Keep, RecordWriter
from worker.clock import rfc3339
from worker.errors import ApiError, Forbidden, NotFound, OrderMeshError, RateLimited, UnreadableAnswer
from worker.ordermesh.client import Usage
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.http.reply import AuditReply, Reply, audit_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from worker.capture.context import PollSession
    from worker.capture.reconcile.throttle import Throttle
    from worker.capture.records.diff import Change, DecodedRecord, RawRecord
    from worker.capture.records.fingerprint import RecordState
    from worker.capture.state.record_states import StoredRecord

MAX_TOLD = 20
"""Gaps of one slice that have a line of their own in the log."""
FEW = 3
"""If all logs of a batch larger than this cannot be read, it is the gateway's fault and not that of the records."""


@dataclass(slots=True)
class RecordCheck:
    """One record: its audit log, what of it is not covered, and what reading the record itself has shown.

    `why`: a word for what keeps it from being proven, "" if nothing does. `published`: an event was, for what was read.
    """

    identifier: str
    requested_at: bool = False
    log: AuditReply | None = None
    state: RecordState | None = None
    gone: bool = False
    compared: Comparison = field(default_factory=Comparison)
    observed: RawRecord | None = None
    why: str = ""
    published: Change | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether its log does not prove it, so that the record itself is read."""
        return not self.gone and bool(self.log is None or self.compared.uncovered or self.compared.timeless)


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What a prover works on, and under which rules; as for a poll of the same resource.

    `alike`: a record that is read by its id has the fields that the list shows. `logs`: the name under which its audit
    logs are published, "" where they are not.
    """

    window: Window
    began: float
    alike: bool
    logs: str


class Verifier:
    """Proves records of one resource. `counts` and `gaps` are brought up to date with each batch.

    `checking`: id, version and time of entry of those that were being read by id when an earlier one was killed.
    """

    def __init__(
        self,
        work: VerifyOptions,
        session: PollSession,
        *,
        pace: Throttle,
        counts: ReconcileCounts,
        gaps: dict[str, Gap],
        checking: dict[str, tuple[int, int]],
    ) -> None:
        self._work, self._resource, self._run = work, session.options.resource, session.run
        self._redis, self._keys = session.context.redis, session.context.keys
        self._session, self._writer, self._pace = session, RecordWriter(session), pace
        self.counts, self.gaps, self.checking = counts, gaps, checking
        self.opened: dict[str, Gap] = {}
        self.closed: list[str] = []
        self._limit = anyio.CapacityLimiter(session.options.window)
        self._failure: OrderMeshError | None = None
        self._told = 0
        self._whole_seconds = True  # until a record tells a fraction
        self._log = get_logger()

    async def check(self, batch: Sequence[StoredRecord]) -> list[RecordCheck] | None:
        """Read the audit logs of a batch and hold them against what is known. None if it was stopped half way.

        Raises:
            OrderMeshError: The gateway cannot be asked, or nothing of it.

        """
        checks = [RecordCheck(met.identifier) for met in batch]
        if not await self._each(checks, self._read_log):
            return None
        failed = [look for look in checks if look.why not in {"", ABSENT}]
        if len(failed) == len(checks) > FEW and self._failure is not None:
            raise self._failure
        cursor = self._keys.cursor(self._resource.name)
        buckets = await buckets_of(self._redis, cursor) or self._session.buckets
        states = await states_of(
            self._redis, self._keys.states(self._resource.name), buckets, [look.identifier for look in checks]
        )
        for look, packed in zip(checks, states, strict=True):
            look.state = unpacked(packed)
            look.gone = look.state is not None and look.state.is_gone
        self._whole_seconds &= are_whole_seconds(look.state.modified for look in checks if look.state)
        for look in checks:
            if look.log is not None:
                look.compared = compare(
                    times_of(look.log.entries),
                    look.state.modified if look.state else 0,
                    self._work.window,
                    whole_seconds=self._whole_seconds,
                )
        await self._publish_changed(checks)
        return checks

    async def settle(self, checks: Sequence[RecordCheck]) -> bool:
        """Read the suspects among them by id, publish what differs, and judge all. False if it was stopped half way."""
        suspects = [look for look in checks if look.is_suspect]
        for look in suspects:
            look.why, look.requested_at = "", False
        if not await self._each(suspects, self._read_record):
            return False
        await self._publish([look for look in suspects if look.observed is not None])
        self.opened, self.closed = {}, []
        for look in checks:
            self._judge(look)
        self.checking = {}
        return True

    def suspects(self, checks: Iterable[RecordCheck]) -> dict[str, tuple[int, int]]:
        """Version and time of entry of those that are about to be read by id, to be noted before."""
        return {
            look.identifier: (look.state.version if look.state else 0, look.compared.uncovered)
            for look in checks
            if look.is_suspect and look.compared.uncovered and look.identifier not in self.checking
        }

    # Asking

    async def _each(
        self, checks: Sequence[RecordCheck], ask: Callable[[RecordCheck], Awaitable[None]]
    ) -> bool:
        """Ask something of each, within the pace. False if it was stopped before all were asked."""

        async def one(look: RecordCheck) -> None:
            async with self._limit:
                if failures or not await self._pace.wait(self._session.stop):
                    return
                try:
                    await ask(look)
                except (ApiError, UnreadableAnswer) as error:
                    if isinstance(error, RateLimited | Forbidden):
                        failures.append(error)
                        return
                    look.why = ABSENT if isinstance(error, NotFound) else error.code
                    self._failure = error
                except OrderMeshError as error:
                    failures.append(error)
                    return
                look.requested_at = True

        failures: list[OrderMeshError] = []
        with plain_errors():
            async with anyio.create_task_group() as asking:
                for look in checks:
                    asking.start_soon(one, look)
        if failures:
            raise failures[0]
        return all(look.requested_at for look in checks)

    async def _call(self, key: str, identifier: str) -> Reply:
        (name,) = OPERATIONS[key].path_parameters
        used = Usage()
        try:
            return await self._session.context.client.call(key, path={name: identifier}, usage=used)
        finally:
            self._pace.charge(used.requests - 1)
            usage = self._run.usage
            usage.requests, usage.retries = usage.requests + used.requests, usage.retries + used.retries
            usage.budget_wait, usage.bytes = usage.budget_wait + used.budget_wait, usage.bytes + used.bytes
            self.counts.requests += used.requests

    async def _read_log(self, look: RecordCheck) -> None:
        assert self._resource.audit is not None  # noqa: S101 - see `proof.can_be_proven`
        look.log = audit_of(await self._call(self._resource.audit, look.identifier))

    async def _read_record(self, look: RecordCheck) -> None:
        assert self._resource.single is not None  # noqa: S101 - as above
        reply = await self._call(self._resource.single, look.identifier)
        (one,) = observe(self._resource, [msgspec.Raw(reply.record)], self._session.options.scope)
        if one.identifier != look.identifier:
            raise UnreadableAnswer(self._resource.single, f"the response is not record {look.identifier}")
        look.observed = one

    async def _publish_changed(self, checks: Sequence[RecordCheck]) -> None:
        """Logs that are not the ones that were published last are due, where audit entries are published."""
        name = self._work.logs
        if not name:
            return
        with_log = [(look.identifier, look.log) for look in checks if look.log is not None]
        buckets = await buckets_of(self._redis, self._keys.cursor(name)) or self._session.buckets
        states = await states_of(
            self._redis, self._keys.states(name), buckets, [identifier for identifier, _ in with_log]
        )
        pairs = zip(with_log, states, strict=True)
        await due.RefreshQueue(self._redis, self._keys, name).add(
            due.log_of(identifier)
            for (identifier, log), state in pairs
            if state[:8] != raw_fingerprint(log.raw) and (state or log.entries)
        )

    # Publishing

    async def _publish(self, checks: Sequence[RecordCheck]) -> None:
        """Commit what differs from what is known; says for each record what came of it."""
        read = {check.observed.key: check for check in checks if check.observed is not None}
        written = await self._writer.write(
            [check.observed for check in checks if check.observed is not None],
            where=str(self._resource.single),
            checkpoint=lambda _: None,
            keep=self._keep,
        )
        for check in checks:
            check.why = ""
        for record in written.skipped[Keep.SKIP]:
            if record.content is None:
                read[record.observed.key].why = "unreadable"
        for record in written.skipped[Keep.BY_LIST]:
            read[record.observed.key].why = "list"
        for change in written.changes:
            check = read[change.observed.key]
            check.published = change if change.action in PUBLISHED else None
            check.why = "stale" if change.action is Action.STALE else ""
        self._run.count(written.changes)
        if later := written.skipped[Keep.BY_LIST]:
            await self._session.refresh_queue.add(due.record(record.observed.identifier) for record in later)

    def _keep(self, record: DecodedRecord) -> Keep:
        """Return whether a record is published as it was read by its id."""
        if record.content is None:
            return Keep.SKIP
        if self._work.alike:
            return Keep.PUBLISH
        # It has other fields than in the list, so only the list can show whether it has changed.
        held = record.held
        is_newer = held is None or not record.modified or record.modified > held.modified
        return Keep.BY_LIST if is_newer else Keep.SKIP

    # Judging

    def _judge(self, look: RecordCheck) -> None:
        counts, before = self.counts, self.gaps.pop(look.identifier, None)
        counts.records += 1
        counts.entries += look.compared.entries
        counts.timeless += look.compared.timeless
        if look.why and not look.gone:
            self._open_gap(look, before)
            return
        if before is not None:
            self.closed.append(look.identifier)
        counts.verified += not look.gone
        at = self._heal_gap(look, before)
        if at:
            counts.heal(at)
            self._log_gap("gap_healed", look, at)

    def _open_gap(self, look: RecordCheck, before: Gap | None) -> None:
        version = before.version if before else look.state.version if look.state else 0
        gap = Gap(look.compared.uncovered, version, look.why, self._work.began)
        self.gaps[look.identifier] = self.opened[look.identifier] = gap
        if gap.is_absent:
            self.counts.absent += 1
            return
        self.counts.found += 1
        self.counts.open += 1
        if before is None or before.is_absent:
            self._log_gap("gap_found", look, gap.at, reason=gap.why)

    def _heal_gap(self, look: RecordCheck, before: Gap | None) -> int:
        """When what was missing had happened (ms), if something was and has been published by now; else 0."""
        if look.published is not None:
            at = look.compared.uncovered or look.published.modified
            if at > self._work.window.until:
                return 0  # it changed just now, and a poll would have come to it
            if at:
                self._log_gap("gap_found", look, at, reason="not_published")
            return at
        version, at = self.checking.get(look.identifier, (0, 0))
        if not at and before is not None and not before.is_absent:
            version, at = before.version, before.at
        return at if look.state is not None and look.state.version > version else 0

    def _log_gap(self, event: str, look: RecordCheck, at: int, **more: str) -> None:
        self._told += 1
        if self._told <= 2 * MAX_TOLD:
            time = {"changed_at": rfc3339(at / 1000)} if at else {}
            self._log.warning(event, subject=look.identifier, **time, **more)
