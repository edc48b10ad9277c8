"""Reads what is due by id: the refresh plan, and the audit logs.

A batch is fetched in parallel, and committed together with its removal from the refresh queue. A read that fails
alone is retried later; a failure of the gateway ends the poll, and the whole batch stays due.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from worker.backoff import Backoff
from worker.cancellation import plain_errors
from worker.capture.gate import COMPLETE, ReadResult
from worker.capture.records import audit
from worker.capture.records.diff import observe
from worker.capture.resources import AuditLog, Resource
from worker.capture.state import refresh_queue as due
from worker.capture.state.commit import Checkpoint, RefreshResult
from worker.capture.state.refresh_queue import CONFIRM_SECONDS, CONFIRMATIONS
from worker.capture.writer import Keep, RecordWriter, Written
from worker.errors import (
    ApiError,
    Forbidden,
    NotFound,
    OrderMeshError,
    RateLimited,
    ServerError,
    UnreadableAnswer,
)
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.http.reply import audit_of, list_of
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.capture.context import PollSession
    from worker.capture.records.diff import DecodedRecord, RawRecord
    from worker.capture.state.cursor import CursorUpdate
    from worker.capture.state.refresh_queue import RefreshBatch, RefreshKey
    from worker.ordermesh.contract.findings import Capabilities

BATCH = 50
"""Members that are read and committed together."""
BACKOFF = Backoff(first=5.0, most=3600.0)
"""Until a record that cannot be read is read again."""
UNKNOWN_BACKOFF = Backoff(first=5.0, factor=4.0, most=3600.0)
"""Until a record that does not exist yet is read again."""
MAX_REFUSED = 5
"""Reads of logs that fail together, and none succeeds, by which the gateway is ill and not a log."""
MAX_UNKNOWN = 5
"""Answers that there is no such record, after which one that was never seen, or its log, is not asked for again."""


@dataclass(slots=True)
class _Batch:
    """What came of the reads of one batch, to be committed."""

    observed: list[RawRecord] = field(default_factory=list)
    listed: set[bytes] = field(default_factory=set)
    logs: list[tuple[RefreshKey, bytes, Sequence[Any]]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    later: dict[str, float] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    absent: dict[str, int] = field(default_factory=dict)
    refused: list[tuple[str, OrderMeshError]] = field(default_factory=list)
    failure: OrderMeshError | None = None


class RecordRefresher:
    """Reads what is due of one resource, or of one kind of audit log, under its lease."""

    def __init__(self, session: PollSession, capabilities: Capabilities, seconds: float) -> None:
        self._session, self._options, self._run = session, session.options, session.run
        self._client, self._capabilities = session.context.client, capabilities
        self._queue, self._writer = session.refresh_queue, RecordWriter(session)
        self._deadline = session.clock.monotonic() + seconds
        self._limit = anyio.CapacityLimiter(max(1, session.options.window))
        self._wants_full_scan = False
        self._log = get_logger(
            account=self._run.account, resource=self._run.resource, run_id=self._run.run_id
        )

    async def read(self) -> ReadResult:
        """Read until nothing is due, or the gate stops the read after a batch.

        Raises:
            OrderMeshError: The gateway cannot be asked. What was read before is committed.
            LeaseLost: Another worker has taken over.

        """
        while True:
            self._session.lease.check()
            if stop := await self._session.gate.check(self._run.published, self._deadline):
                return ReadResult(stop)
            taken = await self._queue.fetch(BATCH)
            if not taken.members:
                return COMPLETE
            batch = await self._fetch_all(taken)
            await self._commit(taken, batch)
            if batch.failure is not None:
                raise batch.failure

    async def _fetch_all(self, taken: RefreshBatch) -> _Batch:
        batch = _Batch()
        with plain_errors():
            async with anyio.create_task_group() as fetching:
                for text in taken.members:
                    member = due.RefreshKey.parse(text)
                    if member is None:
                        batch.done.append(text)  # of another hand
                    else:
                        fetching.start_soon(self._fetch, text, member, batch)
        await self._judge(batch)
        return batch

    async def _judge(self, batch: _Batch) -> None:
        """What was refused is tried again later, each for itself.

        A kind of log of which nothing can be read, since it is forbidden or the gateway is ill, fails the poll.
        """
        if isinstance(self._session.source, AuditLog) and not batch.logs and batch.failure is None:
            errors = [error for _, error in batch.refused]
            if errors and all(isinstance(error, Forbidden) for error in errors):
                batch.failure = errors[0]
                return
            if len(errors) >= MAX_REFUSED and all(isinstance(error, ServerError) for error in errors):
                batch.failure = errors[0]
        for text, error in batch.refused:
            await self._postpone(text, batch, error)

    async def _fetch(self, text: str, member: RefreshKey, batch: _Batch) -> None:
        """One read. It does not raise: an error must not cut the others short."""
        async with self._limit:
            if batch.failure is not None:
                return  # it stays due
            try:
                if await self._request(member, batch):
                    batch.done.append(text)
                else:
                    batch.later[text] = BACKOFF.first
            except NotFound:
                await self._not_found(text, member, batch)
            except RateLimited as error:
                batch.failure = error
            except (ApiError, UnreadableAnswer) as error:
                batch.refused.append((text, error))
            except OrderMeshError as error:
                batch.failure = error

    async def _request(self, member: RefreshKey, batch: _Batch) -> bool:
        """Read it. False if it has to wait until the complete read that is under way has ended."""
        captured = self._session.source
        if isinstance(captured, AuditLog):
            reply = audit_of(await self._call(captured.operation, member.path))
            batch.logs.append((member, reply.raw, reply.entries))
        elif member.of:
            if captured.by_parent is not None:
                reply_ = await self._call(captured.by_parent, member.path)
                wrappers = self._client.profile.wrappers(captured.by_parent)
                seen = observe(captured, list_of(reply_, wrappers).records, self._options.scope)
                batch.observed += seen
                batch.listed |= {one.key for one in seen}
        elif self._readable and captured.single is not None:
            reply_ = await self._call(captured.single, member.path)
            (one,) = observe(captured, [msgspec.Raw(reply_.record)], self._options.scope)
            if one.identifier != member.path[0]:
                raise UnreadableAnswer(captured.single, f"the response is not record {member.path[0]}")
            batch.observed.append(one)
            batch.found.append(one.identifier)
        else:
            # The pages that are behind it may have shown it as it was before.
            self._wants_full_scan = not self._session.cursor.scan.started
            return self._wants_full_scan
        return True

    @property
    def _readable(self) -> bool:
        """Whether a single record can be read by its id."""
        return self._capabilities.single.supported is not False

    async def _call(self, key: str, path: Sequence[str]) -> Any:
        names = OPERATIONS[key].path_parameters
        if len(names) != len(path):
            raise UnreadableAnswer(key, f"the path takes {len(names)} ids, and {len(path)} were given")
        return await self._client.call(key, path=dict(zip(names, path, strict=True)), usage=self._run.usage)

    async def _not_found(self, text: str, member: RefreshKey, batch: _Batch) -> None:
        """There is no such record, at least at the moment."""
        captured, identifier = self._session.source, member.path[0]
        if isinstance(captured, Resource) and member.of:
            batch.done.append(text)  # how an order without shipments may be answered
            return
        if isinstance(captured, Resource):
            times = (await self._session.store.absent([identifier])).get(identifier)
            if times is not None and self._capabilities.single.supported is True:
                if times + 1 >= CONFIRMATIONS:
                    batch.gone.append(identifier)
                    batch.done.append(text)
                else:
                    batch.later[text] = CONFIRM_SECONDS
                    batch.absent[identifier] = times + 1
                return
            if await self._session.store.state_of(identifier, self._session.buckets):
                batch.done.append(text)  # a complete read has to miss it first
                return
        # It may not be there yet, or nobody answers at this path.
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

    async def _commit(self, taken: RefreshBatch, batch: _Batch) -> None:
        if isinstance(self._session.source, AuditLog):
            await self._commit_logs(taken, batch)
        else:
            await self._commit_records(taken, batch)

    async def _commit_records(self, taken: RefreshBatch, batch: _Batch) -> None:
        # A record that was read with those of its parent need not be read by its id as well.
        shown = [due.record(one.identifier) for one in batch.observed if one.identifier]
        absent = await self._session.store.absent(batch.found + [one.identifier for one in batch.observed])

        def checkpoint(written: Written) -> Checkpoint:
            self._wants_full_scan |= bool(written.skipped[Keep.BY_LIST])
            by_id = [due.record(one.observed.identifier) for one in written.skipped[Keep.BY_ID]]
            return self._checkpoint(
                RefreshResult(
                    at=taken.at,
                    done=[*batch.done, *shown],
                    later={**batch.later, **dict.fromkeys(by_id, 0.0)},
                    absent=batch.absent,
                    present=[*absent, *batch.gone],
                )
            )

        written = await self._writer.write(
            batch.observed,
            where=self._where,
            checkpoint=checkpoint,
            keep=lambda record: self._keep(record, listed=record.observed.key in batch.listed),
            gone=batch.gone,
        )
        await self._queue.succeeded([*batch.done, *shown])
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
            is_newer = held is None or not record.modified or record.modified > held.modified
            return Keep.BY_LIST if is_newer else Keep.SKIP
        return Keep.PUBLISH

    def _is_alike(self, decoded: DecodedRecord) -> bool:
        """Whether a record that came with its parent has the fields that the list shows."""
        held, content = decoded.held, decoded.content
        if held is None or content is None or held.is_gone:
            return False
        return self._writer.fields.held(held.fields) == frozenset(content.names)

    async def _commit_logs(self, taken: RefreshBatch, batch: _Batch) -> None:
        recorded = await self._writer.write_logs(
            [(audit.subject_of(member.path), raw, entries) for member, raw, entries in batch.logs],
            where=self._where,
            checkpoint=self._checkpoint(RefreshResult(at=taken.at, done=batch.done, later=batch.later)),
        )
        await self._queue.succeeded(batch.done)
        self._run.follow_ups += len(batch.done)
        self._run.pages += len(batch.logs)
        self._run.records += sum(len(entries) for _, _, entries in batch.logs)
        self._run.recorded += sum(len(one.entries) for one in recorded)

    @property
    def _where(self) -> str:
        return f"{self._session.source.name} by id"

    def _checkpoint(self, refresh: RefreshResult) -> Checkpoint:
        moved: CursorUpdate = {}
        if self._wants_full_scan:
            moved = {"swept_at": 0.0, "due_at": self._session.clock.now()}
        return Checkpoint(moved, refresh=refresh)
