"""The part of the probe that looks for parameters which choose records by their status, or by their merchant.

One counts only when it was seen to give records with the value that was asked for and no others, among them one that
was known to have it, and nothing for a value that no record has.
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
"""No record has it. A refusal is as good an answer as an empty list."""
MAX_PAGES_FOR_ONE = 3


async def find_choices(client: ProbeClient, reference: SamplePage) -> dict[str, Any]:
    """Findings about parameters named after the fields that hold status and merchant."""
    resource, known, result = client.resource, OPERATIONS[client.search].query, dict[str, Any]()
    for name, field in (("status", resource.status_field), ("merchant", resource.merchant_field)):
        values = {one.id: getattr(one, name) for one in reference.records if one.id and getattr(one, name)}
        if (
            field in known
            and len(values) == len(reference.records)
            and await _honoured(client, field, name, values)
        ):
            result[f"{name}_parameter"] = field
    return result


async def _honoured(client: ProbeClient, parameter: str, name: str, values: dict[str, str]) -> bool:
    """Whether `parameter` chooses records by the field that is known as `name`."""
    if not values:
        return False
    first, size = client.listing.first_page, len(values)
    nothing = await client.page(first, size, {parameter: NO_VALUE})
    if isinstance(nothing, SamplePage) and (nothing.records or nothing.total):
        return False
    # The rarest value, of which it takes the fewest pages to find one record that is known.
    requested = min(Counter(values.values()).items(), key=lambda item: item[1])[0]
    witnesses = {identifier for identifier, value in values.items() if value == requested}
    for number in range(first, first + MAX_PAGES_FOR_ONE):
        answer = await client.page(number, size, {parameter: requested})
        if isinstance(answer, ProbeRefusal) or not answer.records:
            return False
        if any(_value(one, name) != requested for one in answer.records):
            return False
        if witnesses & answer.ids:
            return True
    return False


def _value(one: SampleRecord, name: str) -> str:
    value: str = getattr(one, name)
    return value
