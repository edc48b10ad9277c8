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


def audit_answer(sandbox: Sandbox, call: Call, kind: Kind, record_id: str, created: object = None) -> Answer:
    """Return the response of an audit log operation, in the layout of the contract: the log, or a page of it.

    Args:
        sandbox: The sandbox with the logs.
        call: The request, with page and size in its query if logs have pages.
        kind: The kind of the record.
        record_id: The id of the record.
        created: The time of creation in the record; see `AuditLogs.entries`.
    """
    contract = sandbox.contract
    entries = sandbox.world.audit.entries(kind, record_id, created if isinstance(created, str) else None)
    frame: dict[str, int] = {}
    if contract.audit_page_size is not None:
        requested = contract.read_page(call.query)
        if isinstance(requested, Answer):
            return requested
        number, size = requested[0], min(requested[1], contract.audit_page_size)
        if contract.paging:
            frame = {"page": number, "pageSize": size}
        if contract.total is not None:
            frame[contract.total] = len(entries)
        first = (number - contract.page_base) * size
        entries = entries[first : first + size]
    if contract.audit_shape == "wrapped":
        return json_answer({"auditLogs": entries, **frame})
    return json_answer([_bare_entry(kind, record_id, entry) for entry in entries])


def _bare_entry(kind: Kind, record_id: str, entry: Record) -> Record:
    data = {"resourceId": record_id, "resourceType": kind, "changes": entry["changes"]}
    return {
        "auditId": entry["id"],
        "createdAt": entry["timestamp"],
        "eventType": f"{kind}.{entry['action']}",
        "performedBy": entry["user"],
        "data": msgspec.json.encode(data).decode(),
    }
