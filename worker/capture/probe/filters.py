"""Probe for parameters that select records by status or by merchant.

A parameter is used only if it returned only records with the requested value, among them a record known to have that
value, and no records for a value that no record has.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from worker.capture.probe.samples import ProbeRefusal, SamplePage
from worker.ordermesh.contract.operations import OPERATIONS

if TYPE_CHECKING:
    from worker.capture.probe.client import ProbeClient
    from worker.capture.probe.samples import SampleRecord

NO_VALUE = "ordersync-asks-whether-this-is-honoured"
"""A value that no record has. A refusal is accepted as well as an empty list."""
MAX_PAGES_FOR_ONE = 3


async def find_choices(client: ProbeClient, reference: SamplePage) -> dict[str, Any]:
    """Return the findings about parameters with the names of the status and merchant fields."""
    resource, known, result = client.resource, OPERATIONS[client.search].query, dict[str, Any]()
    for name, field in (("status", resource.status_field), ("merchant", resource.merchant_field)):
        values = {
            record.id: getattr(record, name)
            for record in reference.records
            if record.id and getattr(record, name)
        }
        if (
            field in known
            and len(values) == len(reference.records)
            and await _is_honoured(client, field, name, values)
        ):
            result[f"{name}_parameter"] = field
    return result


async def _is_honoured(client: ProbeClient, parameter: str, name: str, values: dict[str, str]) -> bool:
    """True if `parameter` selects records by the field `name` of `SampleRecord`."""
    if not values:
        return False
    first, size = client.listing.first_page, len(values)
    # A sample page is enough: the server that ignores the parameter returns records on it, or a total.
    nothing = await client.page(first, min(client.sample, size), {parameter: NO_VALUE})
    if isinstance(nothing, SamplePage) and (nothing.records or nothing.total):
        return False
    # With the rarest value, a known record is found within the fewest pages.
    requested = min(Counter(values.values()).items(), key=lambda item: item[1])[0]
    witnesses = {identifier for identifier, value in values.items() if value == requested}
    for number in range(first, first + MAX_PAGES_FOR_ONE):
        answer = await client.page(number, size, {parameter: requested})
        if isinstance(answer, ProbeRefusal) or not answer.records:
            return False
        if any(_value(record, name) != requested for record in answer.records):
            return False
        if witnesses & answer.ids:
            return True
    return False


def _value(record: SampleRecord, name: str) -> str:
    value: str = getattr(record, name)
    return value
