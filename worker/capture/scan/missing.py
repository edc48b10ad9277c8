"""Asks by id for known records that a full scan did not show, before anything is concluded of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from worker.cancellation import plain_errors
from worker.capture.by_id import read_record
from worker.capture.records.raw_records import RawRecord
from worker.capture.state.commit import Checkpoint, RefreshResult
from worker.capture.writer import RecordWriter
from worker.capture.written import Keep
from worker.errors import ApiError, NotFound, OrderMeshError, RateLimited, UnreadableAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.capture.gate import Stop
    from worker.capture.records.decoding import DecodedRecord
    from worker.capture.session import PollSession

BATCH = 50
"""Records that are asked for together, and committed together."""


@dataclass(slots=True)
class Answers:
    """What OrderMesh has answered about records, by their ids.

    Attributes:
        found: They are there: the list has moved while it was read, or leaves them out.
        gone: They do not exist, for the first time.
        refused: The request was refused, or the answer is not the record.
        stop: The read must end here; the others were not asked for.

    """

    found: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    stop: Stop | None = None


async def ask(session: PollSession, identifiers: Sequence[str], *, scan: float, deadline: float) -> Answers:
    """Read records by their ids, publish what has changed, and note what does not exist; in batches, each committed.

    The full scan has seen what was found, so that one which is resumed does not ask again.

    Args:
        session: The session of the full scan.
        identifiers: The ids of the records.
        scan: When the full scan began (seconds since 1970).
        deadline: When the time of the scan is over, by the monotonic clock.

    Raises:
        OrderMeshError: The gateway is not available. The batches before are committed.
        LeaseLost: Another worker has taken over.

    """
    result, drift = Answers(), session.cursor.scan.drift
    for start in range(0, len(identifiers), BATCH):
        session.lease.check()
        if stop := await session.gate.check(session.run.published, deadline):
            result.stop = stop
            return result
        gone, observed = await _read(session, identifiers[start : start + BATCH], result)
        drift += len(observed)
        noted = RefreshResult(
            absent=dict.fromkeys(gone, 1),
            present=[record.identifier for record in observed],
            scan=scan,
        )
        await _commit(session, observed, noted, drift)
        result.found += [record.identifier for record in observed]
        result.gone += gone
    return result


async def _read(
    session: PollSession, identifiers: Sequence[str], result: Answers
) -> tuple[list[str], list[RawRecord]]:
    gone, observed, failures = list[str](), list[RawRecord](), list[OrderMeshError]()
    limit, operation = (
        anyio.CapacityLimiter(max(1, session.options.window)),
        session.options.resource.single or "",
    )

    async def one(identifier: str) -> None:
        async with limit:
            if failures:
                return
            try:
                observed.append(await read_record(session, operation, identifier))
            except NotFound:
                gone.append(identifier)
            except RateLimited as error:
                failures.append(error)
            except (ApiError, UnreadableAnswer):
                result.refused.append(identifier)
            except OrderMeshError as error:
                failures.append(error)

    with plain_errors():
        async with anyio.create_task_group() as tasks:
            for identifier in identifiers:
                tasks.start_soon(one, identifier)
    if failures:
        raise failures[0]
    return gone, observed


async def _commit(
    session: PollSession, observed: Sequence[RawRecord], noted: RefreshResult, drift: int
) -> None:
    def keep(_: DecodedRecord) -> Keep:
        # Where a read by id has other fields than the list, the next full scan has to publish the change.
        return Keep.CONFIRM if session.options.single_alike else Keep.SKIP

    written = await RecordWriter(session, scan=noted.scan).write(
        observed,
        where=f"{session.source.name} by id",
        checkpoint=lambda _: Checkpoint({"sweep_drift": drift}, refresh=noted),
        keep=keep,
    )
    session.run.count(written.changes)
    session.run.drift += len(observed)
