"""Reads one record of a resource by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.errors import UnreadableAnswer
from worker.ordermesh.contract.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.capture.records.raw_records import RawRecord
    from worker.capture.session import PollSession
    from worker.ordermesh.http.reply import Reply


async def call(
    session: PollSession,
    operation: str,
    path: Sequence[str],
    query: Mapping[str, str] | None = None,
    after: str = "",
) -> Reply:
    """Return the answer of an operation whose path takes these ids, in their order.

    `after`: the continuation to the page that is wanted, where it is a list; "" for the first page.

    Raises:
        UnreadableAnswer: The path takes another number of ids.
        OrderMeshError: The request failed.

    """
    names = OPERATIONS[operation].path_parameters
    if len(names) != len(path):
        raise UnreadableAnswer(operation, f"the path takes {len(names)} ids, and {len(path)} were given")
    values = dict(zip(names, path, strict=True))
    client, usage = session.context.client, session.run.usage
    return await client.call(operation, path=values, query=query, usage=usage, after=after)


async def read_record(session: PollSession, operation: str, *path: str) -> RawRecord:
    """Return the record whose id is `path`, as `operation` serves it.

    Raises:
        NotFound: OrderMesh answers that it does not exist.
        UnreadableAnswer: The answer is another record, or none.
        OrderMeshError: The request failed.

    """
    response = await call(session, operation, path)
    (record,) = session.options.observe([msgspec.Raw(response.record)])
    if record.identifier != path[0]:
        raise UnreadableAnswer(operation, f"the response is not record {path[0]}")
    return record
