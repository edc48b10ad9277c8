"""Responses of list operations and of audit logs, for all services."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from worker.ordermesh.contract.operations import OPERATIONS
from worker.sandbox.answers import Answer, json_answer, refusal
from worker.sandbox.state.lists import as_source, page, select
from worker.sandbox.state.records import TIMES, Source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.sandbox.calls import Call, Sandbox
    from worker.sandbox.data.record import Record
    from worker.sandbox.state.audit import Kind


def answer(
    sandbox: Sandbox,
    call: Call,
    operation_key: str,
    records: Source | Iterable[Record],
    *,
    modified: tuple[str, ...] = TIMES,
    filters: tuple[str, ...] = (),
) -> Answer:
    """Return the response of a list operation: a page, or the whole list if the operation has no pages.

    Args:
        sandbox: The sandbox; its contract defines the layout.
        call: The request, with page, size, filters, times and order in its query.
        operation_key: Key of the operation.
        records: The records in creation order. With a `Source` a page without filters reads only its own rows; other
            iterables are read as a whole.
        modified: Names of the fields with the time of the last change and, last, of the creation.
        filters: Query parameters that filter the list, named after the top-level fields that they compare.

    Raises:
        Refusal: 400, a time in the query is invalid.
    """
    contract = sandbox.contract
    operation = OPERATIONS[operation_key]
    source = as_source(records, modified)
    key = operation.records or "records"
    with source.lock:
        if isinstance(records, Source):
            source = sandbox.indexed(operation_key, records)
        ids, ordered = select(contract, call.query, source, modified, filters)
        if not operation.paged:
            result = source.window(0, len(source)) if ids is None else source.rows(ids)
            return Answer(200, contract.render_whole(result, key))
        requested = contract.read_page(call.query)
        if isinstance(requested, Answer):
            return requested
        total = len(source) if ids is None else len(ids)
        if contract.refuses(*requested, total):
            raise refusal(400, "There are no results after the last page.", "page", requested[0])
        return Answer(200, page(contract, source, *requested, ids, key=key, ordered=ordered))


def audit_answer(sandbox: Sandbox, kind: Kind, record_id: str, created: object = None) -> Answer:
    """Return the response of an audit log operation, in the layout of the contract.

    Args:
        sandbox: The sandbox with the logs.
        kind: The kind of the record.
        record_id: The id of the record.
        created: The time of creation in the record; see `AuditLogs.entries`.
    """
    entries = sandbox.world.audit.entries(kind, record_id, created if isinstance(created, str) else None)
    if sandbox.contract.audit_shape == "wrapped":
        return json_answer({"auditLogs": entries})
    return json_answer(
        [
            {
                "auditId": entry["id"],
                "createdAt": entry["timestamp"],
                "eventType": f"{kind}.{entry['action']}",
                "performedBy": entry["user"],
                "data": msgspec.json.encode(
                    {"resourceId": record_id, "resourceType": kind, "changes": entry["changes"]}
                ).decode(),
            }
            for entry in entries
        ]
    )
