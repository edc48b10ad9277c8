"""Answers of list operations and of audit logs, the same for every service."""

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
    """The answer of a list operation: a page, or the whole list where the operation knows no pages.

    Args:
        sandbox: Whose contract lays it out.
        call: The request; page, size, filters, times and order are read from its query.
        operation_key: Key of the operation.
        records: What there is, in creation order. A `Records` or the orders' `StateStore` costs a plain page no
            more than its own rows; anything else is gone through as a whole.
        modified: Fields of the last change and, last, of the creation, as the records have them.
        filters: Query parameters that narrow the list, named after the top-level fields they compare.

    Raises:
        Refusal: 400, a time is asked for that is none.
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
        asked = contract.read_page(call.query)
        if isinstance(asked, Answer):
            return asked
        total = len(source) if ids is None else len(ids)
        if contract.refuses(*asked, total):
            raise refusal(400, "There are no results after the last page.", "page", asked[0])
        return Answer(200, page(contract, source, *asked, ids, key=key, ordered=ordered))


def audit_answer(sandbox: Sandbox, kind: Kind, record_id: str, created: object = None) -> Answer:
    """The answer of an operation that gives audit logs, in the shape of the contract.

    Args:
        sandbox: Where the logs are kept.
        kind: What the record is.
        record_id: Its id.
        created: Its time of creation as it stands in it, see `AuditLogs.entries`.
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
