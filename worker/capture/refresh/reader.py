"""Reads the records and audit logs that are due by id.

A batch is fetched in parallel, and committed together with its removal from the refresh queue. A read that fails
alone is retried later; a failure of the gateway ends the poll, and the whole batch stays due.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from ordersync_consumer.redaction import words_of
from worker.backoff import Backoff
from worker.cancellation import plain_errors
from worker.capture import by_id
from worker.capture.gate import COMPLETE, ReadResult
from worker.capture.records import audit
from worker.capture.records.fingerprint import pack_id
from worker.capture.resources import AuditLog, Resource
from worker.capture.scan.nested import read_children, read_log
from worker.capture.state import refresh_queue as due
from worker.capture.state.commit import Checkpoint, RefreshResult
from worker.capture.state.refresh_queue import CONFIRMATIONS, RefreshBatch
from worker.capture.writer import RecordWriter
from worker.capture.written import Keep, Written
from worker.errors import (
    ApiError,
    Forbidden,
    NotFound,
    OrderMeshError,
    RateLimited,
    ServerError,
    UnreadableAnswer,
)
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.capture.records.decoding import DecodedRecord
    from worker.capture.records.raw_records import RawRecord
    from worker.capture.refresh.backlog import AuditBacklog
    from worker.capture.session import PollSession
    from worker.capture.state.cursor import CursorUpdate
    from worker.capture.state.refresh_queue import RefreshKey
    from worker.capture.throttle import Throttle
    from worker.ordermesh.contract.findings import Capabilities

BATCH = 50
"""Reads that are committed together."""
MAX_WAIT_SECONDS = 3600.0
"""Until a read that failed is tried again, at most."""
BACKOFF = Backoff(first=5.0, most=MAX_WAIT_SECONDS)
"""Until a record that cannot be read is read again."""
UNKNOWN_BACKOFF = Backoff(first=5.0, factor=4.0, most=MAX_WAIT_SECONDS)
"""Until a record that does not exist yet is read again."""
STALE_SECONDS = 5.0
"""Until a record is read again that is older than what was published, though nothing has shown it so before."""
CUT_SECONDS = 900.0
"""Until an audit log is read again of which only a part can be read."""
MAX_REFUSED = 5
"""Audit logs of one batch that all fail with a 5xx: as many show that the gateway is failing, and not a log."""
MAX_UNKNOWN = 5
"""Answers of 404 after which a record that was never read, or its log, is not requested again."""


@dataclass(slots=True)
class _Batch:
    """The results of the reads of one batch.

    Attributes:
        observed: Records that were read.
        listed: Keys of those among them that were read with the other records of their parent.
        logs: Audit logs, with the bytes and the entries of each.
        cut: Why a part of such a log cannot be read, "" for a log that was read to its end.
        done: Members of the refresh queue that were read.
        later: Members to be read again, and in how many seconds.
        found: Ids of records that were read by their id.
        gone: Ids of records that are deleted for certain.
        absent: Ids, and how often OrderMesh has answered that the record does not exist.
        refused: Members whose reads failed, each alone.
        failure: An error that concerns the gateway, and ends the poll.

    """

    observed: list[RawRecord] = field(default_factory=list)
    listed: set[bytes] = field(default_factory=set)
    logs: list[tuple[RefreshKey, bytes, Sequence[Any]]] = field(default_factory=list)
    cut: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    later: dict[str, float] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    absent: dict[str, int] = field(default_factory=dict)
    refused: list[tuple[str, OrderMeshError]] = field(default_factory=list)
    failure: OrderMeshError | None = None


class RecordRefresher:
    """Reads what is due of one resource, or of one kind of audit log, for so many `seconds` at most.

    `refusal`: why the last read that failed alone, and is due again later, has failed; "" if none has.
    """

    def __init__(self, session: PollSession, capabilities: Capabilities, seconds: float) -> None:
        self._session, self._options, self._run = session, session.options, session.run
        self._client, self._capabilities = session.context.client, capabilities
        self._queue, self._writer = session.refresh_queue, RecordWriter(session)
        self._deadline = session.clock.monotonic() + seconds
        self._limit = anyio.CapacityLimiter(max(1, session.options.window))
        self._wants_full_scan = False
        self._at = ""
        self.refusal = ""
        self._log = get_logger(
            account=self._run.account, resource=self._run.resource, run_id=self._run.run_id
        )

    async def read(self) -> ReadResult:
        """Read until nothing is due, or the gate stops the read after a batch.

        Raises:
            OrderMeshError: The gateway is not available. The batches before are committed.
            LeaseLost: Another worker has taken over.

        """
        while True:
            self._session.lease.check()
            if stop := await self._session.gate.check(self._run.published, self._deadline):
                return ReadResult(stop)
            due_now = await self._session.fetch_due(BATCH, max(MAX_WAIT_SECONDS, self._options.confirm_after))
            self._at = due_now.at
            if not due_now.members:
                return COMPLETE
            await self._read_batch(due_now, {})

    async def read_backlog(self, backlog: AuditBacklog, throttle: Throttle) -> ReadResult:
        """Read the audit logs of a backlog until it is done, or the gate stops the read.

        Logs that become due meanwhile are read first.

        Raises: as `read`.

        """
        position = self._session.cursor.backlog
        while True:
            result = await self.read()
            if not result.is_complete:
                return result
            batch = await backlog.next(position)
            position = batch.position
            if not batch.members:
                await self._session.update({"backlog": position})
                return COMPLETE
            await self._read_batch(RefreshBatch(self._at, batch.members), {"backlog": position}, throttle)

    async def _read_batch(
        self, due_now: RefreshBatch, moved: CursorUpdate, throttle: Throttle | None = None
    ) -> None:
        batch = await self._fetch_all(due_now, throttle)
        await self._commit(due_now, batch, moved if batch.failure is None else {})
        if batch.failure is not None:
            raise batch.failure

    async def _fetch_all(self, due_now: RefreshBatch, throttle: Throttle | None) -> _Batch:
        batch = _Batch()
        with plain_errors():
            async with anyio.create_task_group() as fetching:
                for text in due_now.members:
                    member = due.RefreshKey.parse(text)
                    if member is None:
                        batch.done.append(text)  # not written by this program
                    else:
                        fetching.start_soon(self._fetch, text, member, batch, throttle)
        await self._judge(batch)
        return batch

    async def _judge(self, batch: _Batch) -> None:
        """Retry each failed read later, unless all audit logs fail alike: then the poll fails.

        They may be forbidden, or the gateway is failing.
        """
        if isinstance(self._session.source, AuditLog) and not batch.logs and batch.failure is None:
            errors = [error for _, error in batch.refused]
            if errors and all(isinstance(error, Forbidden) for error in errors):
                batch.failure = errors[0]
                return
            if len(errors) >= MAX_REFUSED and all(isinstance(error, ServerError) for error in errors):
                batch.failure = errors[0]
        for text, error in batch.refused:
            self.refusal = words_of(error)
            await self._postpone(text, batch, error)

    async def _fetch(self, text: str, member: RefreshKey, batch: _Batch, throttle: Throttle | None) -> None:
        """Read one member. It does not raise: an error must not cancel the other reads."""
        async with self._limit:
            if throttle is not None and not await throttle.wait(self._session.stop):
                batch.later[text] = 0.0
                return
            if batch.failure is not None:
                return  # it stays due
            try:
                result = await self._request(member, batch)
                if result:
                    batch.done.append(text)
                elif result is False:
                    batch.later[text] = BACKOFF.first
            except NotFound:
                await self._not_found(text, member, batch)
            except RateLimited as error:
                batch.failure = error
            except (ApiError, UnreadableAnswer) as error:
                batch.refused.append((text, error))
            except OrderMeshError as error:
                batch.failure = error

    async def _request(self, member: RefreshKey, batch: _Batch) -> bool | None:
        """Read one member; None for an audit log that is cut, which is read again later.

        False if it has to wait until the full scan that is under way has ended.
        """
        source = self._session.source
        if isinstance(source, AuditLog):
            key = source.operation
            log = await read_log(
                partial(by_id.call, self._session, key, member.path), key, self._client.profile
            )
            batch.logs.append((member, log.raw, log.items))
            batch.cut[str(member)] = log.cut
            if log.cut:
                batch.later[str(member)] = CUT_SECONDS
                return None
        elif member.of:
            if source.by_parent is not None:
                key = source.by_parent
                listed = await read_children(
                    partial(by_id.call, self._session, key, member.path), key, self._client.profile
                )
                records = self._session.options.observe(listed.items)
                self._wants_full_scan |= bool(listed.cut)
                batch.observed += records
                batch.listed |= {record.key for record in records}
        elif self._readable and source.single is not None:
            record = await by_id.read_record(self._session, source.single, *member.path)
            batch.observed.append(record)
            batch.found.append(record.identifier)
        else:
            # The pages that the scan has read may have shown the record as it was before.
            self._wants_full_scan = not self._session.cursor.scan.started
            return self._wants_full_scan
        return True

    @property
    def _readable(self) -> bool:
        """Whether a single record can be read by its id."""
        return self._capabilities.single.supported is not False

    async def _not_found(self, text: str, member: RefreshKey, batch: _Batch) -> None:
        """Decide what follows from an answer that the record does not exist, at least at the moment."""
        source, identifier = self._session.source, member.path[0]
        if isinstance(source, Resource) and member.of:
            batch.done.append(text)  # a valid answer for an order without shipments
            return
        if isinstance(source, Resource):
            times = (await self._session.store.absent([identifier])).get(identifier)
            if times is not None and self._capabilities.single.supported is True:
                early = self._options.confirm_after - self._session.clock.steady_for()
                if times and early > 0:
                    batch.later[text] = early  # the clock has jumped ahead: its time was not up yet
                elif times + 1 >= CONFIRMATIONS and self._session.cursor.held_back:
                    # So many are gone that a person has to accept it.
                    batch.later[text] = self._options.confirm_after
                elif times + 1 >= CONFIRMATIONS:
                    batch.gone.append(identifier)
                    batch.done.append(text)
                else:
                    batch.later[text] = self._options.confirm_after
                    batch.absent[identifier] = times + 1
                return
            if await self._session.store.state_of(identifier, self._session.buckets):
                batch.done.append(text)  # it is known: first a full scan must not find it
                return
        # It may not exist yet, or the gateway does not serve this path.
        times = await self._queue.failed(text)
        if times >= MAX_UNKNOWN:
            batch.done.append(text)
            self._log.debug("follow_up_dropped", member=text, reason="not found")
        else:
            batch.later[text] = UNKNOWN_BACKOFF.ceiling(times)

    async def _postpone(self, text: str, batch: _Batch, error: OrderMeshError) -> None:
        failures = await self._queue.failed(text)
        wait = BACKOFF.ceiling(failures)
        batch.later[text] = wait
        self._log.warning(
            "follow_up_failed", member=text, failures=failures, error=str(error), error_code=error.code,
            retry_in_s=wait,
        )  # fmt: skip

    async def _commit(self, due_now: RefreshBatch, batch: _Batch, moved: CursorUpdate) -> None:
        if isinstance(self._session.source, AuditLog):
            await self._commit_logs(due_now, batch, moved)
        else:
            await self._commit_records(due_now, batch)

    async def _commit_records(self, due_now: RefreshBatch, batch: _Batch) -> None:
        # A record that was read with those of its parent need not be read by its id as well.
        read = [record.identifier for record in batch.observed]
        done = [*batch.done, *(due.record(identifier) for identifier in read if identifier)]
        absent = await self._session.store.absent(batch.found + read)

        def checkpoint(written: Written) -> Checkpoint:
            self._wants_full_scan |= bool(written.skipped[Keep.BY_LIST])
            by_id = [due.record(record.observed.identifier) for record in written.skipped[Keep.BY_ID]]
            undecided = {record.observed.identifier for record in written.skipped[Keep.BY_LIST]}
            return self._checkpoint(
                RefreshResult(
                    at=due_now.at,
                    done=done,
                    later={**batch.later, **dict.fromkeys(by_id, 0.0)},
                    absent=batch.absent,
                    present=[*absent, *batch.gone],
                    stale_in=STALE_SECONDS,
                    settled=[pack_id(item) for item in batch.found if item not in undecided],
                )
            )

        written = await self._writer.write(
            batch.observed,
            where=self._where,
            checkpoint=checkpoint,
            keep=lambda record: self._keep(record, listed=record.observed.key in batch.listed),
            gone=batch.gone,
        )
        await self._queue.succeeded(done)
        self._run.drift += len(absent)
        self._run.follow_ups += len(batch.done)
        self._run.count_page(len(batch.observed), written.changes)

    def _keep(self, record: DecodedRecord, *, listed: bool) -> Keep:
        """Return whether a record is published as it was read, or is to be read in another way.

        `listed`: it came with the other records of its parent.
        """
        if record.content is None:
            return Keep.PUBLISH
        if listed:
            if self._is_alike(record):
                return Keep.PUBLISH
            single = self._session.options.resource.single
            return Keep.BY_ID if self._readable and single is not None else Keep.BY_LIST
        if self._capabilities.single_alike is False:
            # The list serves other fields. Published, the record would look changed; but it may have changed.
            held = record.held
            may_differ = held is None or not record.modified or record.modified != held.modified
            return Keep.BY_LIST if may_differ else Keep.SKIP
        return Keep.CONFIRM

    def _is_alike(self, decoded: DecodedRecord) -> bool:
        """Whether a record that came with its parent has the fields that the list shows."""
        held, content = decoded.held, decoded.content
        if held is None or content is None or held.is_gone:
            return False
        known = self._writer.fields.held(held.fields)
        return {name for name in known if name not in content.ignored} == frozenset(content.visible)

    async def _commit_logs(self, due_now: RefreshBatch, batch: _Batch, moved: CursorUpdate) -> None:
        recorded = await self._writer.write_logs(
            [(audit.subject_of(member.path), raw, entries) for member, raw, entries in batch.logs],
            where=self._where,
            checkpoint=Checkpoint(
                moved, refresh=RefreshResult(at=due_now.at, done=batch.done, later=batch.later)
            ),
        )
        await self._queue.note_cut(batch.cut)
        await self._queue.succeeded(batch.done)
        self._run.follow_ups += len(batch.done)
        self._run.pages += len(batch.logs)
        self._run.records += sum(len(entries) for _, _, entries in batch.logs)
        self._run.recorded += sum(len(delta.entries) for delta in recorded)

    @property
    def _where(self) -> str:
        return f"{self._session.source.name} by id"

    def _checkpoint(self, refresh: RefreshResult) -> Checkpoint:
        moved: CursorUpdate = {}
        if self._wants_full_scan:
            moved = {"swept_at": 0.0, "due_at": self._session.clock.now()}
        return Checkpoint(moved, refresh=refresh)
