"""Verifies records, a batch at a time: reads their audit logs, and by its id each record whose log is not covered.

A record that was read by its id and has changed is published through the same writer as in a poll, so that nothing is
published twice, whichever is faster.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import msgspec

from worker.cancellation import plain_errors
from worker.capture.reconcile.comparison import Comparison, Window, are_whole_seconds, compare, times_of
from worker.capture.reconcile.progress import ABSENT, CUT, Gap, ReconcileCounts
from worker.capture.records.actions import PUBLISHED, Action
from worker.capture.records.fingerprint import raw_fingerprint
from worker.capture.scan.nested import read_log
from worker.capture.state import refresh_queue as due
from worker.capture.state.record_states import buckets_of, states_of, unpacked
from worker.capture.writer import RecordWriter
from worker.capture.written import Keep
from worker.clock import rfc3339
from worker.errors import ApiError, Forbidden, NotFound, OrderMeshError, RateLimited, UnreadableAnswer
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.http.usage import Usage
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from worker.capture.records.decoding import DecodedRecord
    from worker.capture.records.diff import Change
    from worker.capture.records.fingerprint import RecordState
    from worker.capture.records.raw_records import RawRecord
    from worker.capture.scan.nested import NestedList
    from worker.capture.session import PollSession
    from worker.capture.state.record_states import StoredRecord
    from worker.capture.throttle import Throttle
    from worker.ordermesh.http.reply import AuditEntry, Reply

MAX_LOGGED = 20
"""Gaps of one slice that are logged one by one."""
FEW = 3
"""If none of the logs of a larger batch can be read, the gateway is failing, and not single logs."""


@dataclass(slots=True)
class RecordCheck:
    """The verification of one record.

    Attributes:
        identifier: Its id.
        is_answered: The last request for it has been answered.
        log: Its audit log, if it can be read.
        state: What is known of the record.
        gone: It was published as deleted.
        compared: The comparison of its log with its state.
        observed: The record, where it was read by its id.
        why: Why it is not verified, in a word; "" if it is.
        published: The change that was published, where the record had changed.

    """

    identifier: str
    is_answered: bool = False
    log: NestedList[AuditEntry] | None = None
    state: RecordState | None = None
    gone: bool = False
    compared: Comparison = field(default_factory=Comparison)
    observed: RawRecord | None = None
    why: str = ""
    published: Change | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether its log does not verify it, so that the record is read by its id."""
        return not self.gone and bool(
            self.log is None or self.log.cut or self.compared.uncovered or self.compared.timeless
        )


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What is verified, and by which rules.

    `alike`: a record that is read by its id has the fields that the list shows. `logs`: the name under which its audit
    logs are published, "" where they are not.
    """

    window: Window
    began: float
    alike: bool
    logs: str


class Verifier:
    """Verifies records of one resource. Each batch updates `counts` and `gaps`.

    `checking`: id, version and time of the entry of each record that an earlier slice was reading by its id when it was
    killed.
    """

    def __init__(
        self,
        options: VerifyOptions,
        session: PollSession,
        *,
        throttle: Throttle,
        counts: ReconcileCounts,
        gaps: dict[str, Gap],
        checking: dict[str, tuple[int, int]],
    ) -> None:
        self._options, self._resource, self._run = options, session.options.resource, session.run
        self._redis, self._keys = session.context.redis, session.context.keys
        self._session, self._writer, self._throttle = session, RecordWriter(session), throttle
        self.counts, self.gaps, self.checking = counts, gaps, checking
        self.opened: dict[str, Gap] = {}
        self.closed: list[str] = []
        self._limit = anyio.CapacityLimiter(session.options.window)
        self._failure: OrderMeshError | None = None
        self._logged = 0
        self._with_past = session.context.account.audit_history == "all"
        self._whole_seconds = True  # until a record has a fraction
        self._log = get_logger()

    async def check(self, batch: Sequence[StoredRecord]) -> list[RecordCheck] | None:
        """Read the audit logs of a batch and compare them with what is known. None if the worker is to end.

        Raises:
            OrderMeshError: The gateway is not available, or none of the logs can be read.

        """
        checks = [RecordCheck(record.identifier) for record in batch]
        if not await self._each(checks, self._read_log):
            return None
        failed = [check for check in checks if check.why not in {"", ABSENT}]
        if len(failed) == len(checks) > FEW and self._failure is not None:
            raise self._failure
        cursor = self._keys.cursor(self._resource.name)
        buckets = await buckets_of(self._redis, cursor) or self._session.buckets
        states = await states_of(
            self._redis,
            self._keys.states(self._resource.name),
            buckets,
            [check.identifier for check in checks],
        )
        for check, packed in zip(checks, states, strict=True):
            check.state = unpacked(packed)
            check.gone = check.state is not None and check.state.is_gone
        self._whole_seconds &= are_whole_seconds(check.state.modified for check in checks if check.state)
        for check in checks:
            if check.log is not None:
                check.compared = compare(
                    times_of(check.log.items),
                    check.state.modified if check.state else 0,
                    self._options.window,
                    whole_seconds=self._whole_seconds,
                )
        await self._publish_changed(checks)
        return checks

    async def settle(self, checks: Sequence[RecordCheck]) -> bool:
        """Read the suspects by their id, publish changes, and conclude. False if the worker is to end."""
        suspects = [check for check in checks if check.is_suspect]
        for check in suspects:
            check.why, check.is_answered = "", False
        if not await self._each(suspects, self._read_record):
            return False
        await self._publish([check for check in suspects if check.observed is not None])
        self.opened, self.closed = {}, []
        for check in checks:
            self._judge(check)
        self.checking = {}
        return True

    def suspects(self, checks: Iterable[RecordCheck]) -> dict[str, tuple[int, int]]:
        """Return version and time of the entry of each record to be read by its id, to be stored before it is read."""
        return {
            check.identifier: (check.state.version if check.state else 0, check.compared.uncovered)
            for check in checks
            if check.is_suspect and check.compared.uncovered and check.identifier not in self.checking
        }

    # Requests

    async def _each(
        self, checks: Sequence[RecordCheck], read: Callable[[RecordCheck], Awaitable[None]]
    ) -> bool:
        """Make a request for each, within the budget. False if the worker is to end before all are answered."""

        async def request(check: RecordCheck) -> None:
            async with self._limit:
                if failures or not await self._throttle.wait(self._session.stop):
                    return
                try:
                    await read(check)
                except (ApiError, UnreadableAnswer) as error:
                    if isinstance(error, RateLimited | Forbidden):
                        failures.append(error)
                        return
                    check.why = ABSENT if isinstance(error, NotFound) else error.code
                    self._failure = error
                except OrderMeshError as error:
                    failures.append(error)
                    return
                check.is_answered = True

        failures: list[OrderMeshError] = []
        with plain_errors():
            async with anyio.create_task_group() as requests:
                for check in checks:
                    requests.start_soon(request, check)
        if failures:
            raise failures[0]
        return all(check.is_answered for check in checks)

    async def _call(
        self,
        key: str,
        identifier: str,
        query: Mapping[str, str] | None = None,
        after: str = "",
        *,
        waited: int = 1,
    ) -> Reply:
        """Read something of a record; `waited`: requests that have waited for their turn."""
        (name,) = OPERATIONS[key].path_parameters
        used = Usage(waited=self._run.usage.waited)
        try:
            return await self._session.context.client.call(
                key, path={name: identifier}, query=query, usage=used, after=after
            )
        finally:
            self._throttle.charge(used.requests - waited)
            usage = self._run.usage
            usage.requests, usage.retries = usage.requests + used.requests, usage.retries + used.retries
            usage.bytes += used.bytes
            self.counts.requests += used.requests

    async def _read_log(self, check: RecordCheck) -> None:
        assert self._resource.audit is not None  # noqa: S101 - see `can_be_proven`
        key, profile = self._resource.audit, self._session.context.client.profile
        waited = itertools.chain((1,), itertools.repeat(0))

        async def call(query: Mapping[str, str], after: str) -> Reply:
            return await self._call(key, check.identifier, query, after, waited=next(waited))

        check.log = await read_log(call, key, profile)

    async def _read_record(self, check: RecordCheck) -> None:
        assert self._resource.single is not None  # noqa: S101 - as above
        reply = await self._call(self._resource.single, check.identifier)
        (record,) = self._session.options.observe([msgspec.Raw(reply.record)])
        if record.identifier != check.identifier:
            raise UnreadableAnswer(self._resource.single, f"the response is not record {check.identifier}")
        check.observed = record

    async def _publish_changed(self, checks: Sequence[RecordCheck]) -> None:
        """Make audit logs due that differ from what was published of them, where audit entries are published.

        A log that was never read is one of the past: it is due if the logs of the past are read.
        """
        name = self._options.logs
        if not name:
            return
        with_log = [(check.identifier, check.log) for check in checks if check.log is not None]
        buckets = await buckets_of(self._redis, self._keys.cursor(name)) or self._session.buckets
        states = await states_of(
            self._redis, self._keys.states(name), buckets, [identifier for identifier, _ in with_log]
        )
        pairs = zip(with_log, states, strict=True)
        await due.RefreshQueue(self._redis, self._keys, name).add(
            due.log_of(identifier)
            for (identifier, log), state in pairs
            if state[:8] != raw_fingerprint(log.raw) and (state or (log.items and self._with_past))
        )

    # Publishing

    async def _publish(self, checks: Sequence[RecordCheck]) -> None:
        """Publish the records that have changed, and say in each check what came of it."""
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
        if self._options.alike:
            return Keep.CONFIRM
        # It has other fields than in the list, so only the list can show whether it has changed.
        held = record.held
        may_differ = held is None or not record.modified or record.modified != held.modified
        return Keep.BY_LIST if may_differ else Keep.SKIP

    # Conclusions

    def _judge(self, check: RecordCheck) -> None:
        counts, before = self.counts, self.gaps.pop(check.identifier, None)
        counts.records += 1
        counts.entries += check.compared.entries
        counts.timeless += check.compared.timeless
        if check.log is not None and check.log.cut and not check.why:
            check.why = CUT
        if check.why and not check.gone:
            self._open_gap(check, before)
            return
        if before is not None:
            self.closed.append(check.identifier)
        counts.verified += not check.gone
        at = self._heal_gap(check, before)
        if at:
            counts.heal(at)
            self._log_gap("gap_healed", check, at)

    def _open_gap(self, check: RecordCheck, before: Gap | None) -> None:
        version = before.version if before else check.state.version if check.state else 0
        gap = Gap(check.compared.uncovered, version, check.why, self._options.began)
        self.gaps[check.identifier] = self.opened[check.identifier] = gap
        if gap.is_absent:
            self.counts.absent += 1
            return
        self.counts.found += 1
        self.counts.open += 1
        if before is None or before.is_absent:
            self._log_gap("gap_found", check, gap.at, reason=gap.why)

    def _heal_gap(self, check: RecordCheck, before: Gap | None) -> int:
        """Return when the missed change happened (ms), if one was missed and is published by now; else 0."""
        if check.published is not None:
            at = check.compared.uncovered or check.published.modified
            if at > self._options.window.until:
                return 0  # it changed just now, and a poll would have come to it
            if at:
                self._log_gap("gap_found", check, at, reason="not_published")
            return at
        version, at = self.checking.get(check.identifier, (0, 0))
        if not at and before is not None and not before.is_absent:
            version, at = before.version, before.at
        return at if check.state is not None and check.state.version > version else 0

    def _log_gap(self, event: str, check: RecordCheck, at: int, **more: str) -> None:
        self._logged += 1
        if self._logged <= 2 * MAX_LOGGED:
            time = {"changed_at": rfc3339(at / 1000)} if at else {}
            self._log.warning(event, subject=check.identifier, **time, **more)
