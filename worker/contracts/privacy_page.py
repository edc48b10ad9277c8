"""The page of the policy `minimal`: which of the known fields of each resource are published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.capture.records.minimal import known_fields
from worker.capture.records.rules import Known
from worker.capture.registry import AUDIT_LOGS, RESOURCES
from worker.contracts.markdown import code, page, table

if TYPE_CHECKING:
    from collections.abc import Iterator

_ABOUT = """\
With `ORDERSYNC_PRIVACY__POLICY=minimal` the worker publishes the fields that are marked *published* on this page, and
nothing else. A field that is not on this page is not known: the worker removes it, counts it (`withheld` of the run,
`ordersync_withheld_values_total`), and names it once in the log (`fields_withheld`). Of a field whose value is an
object on this page, only the listed fields in it are published. To publish a removed field, or to remove a published
one, see [Privacy](../guide/privacy.md).

Published are ids, codes, times, amounts, counts, flags, and the names of goods and of carriers. Removed is what is
about a person, what leads to a parcel or a picture, what a person or a shop may write freely, and the name that a
merchant, a vendor or a facility has given to itself; their ids are published."""
_ENTRIES = """\
The vendor documents no field of the entries of audit logs. Of an entry, these fields are published, if it has them:
{names}. The user, and old and new values, are removed."""


def privacy_page() -> str:
    """Return the whole page."""
    names = next(known_fields(name) for name in AUDIT_LOGS)
    return page(
        "What the policy minimal publishes",
        _ABOUT,
        *(f"## {name}\n\n{table(('field', 'policy `minimal`'), _rows(name))}" for name in RESOURCES),
        f"## Audit logs\n\n{_ENTRIES.format(names=code(names))}",
    )


def _rows(resource: str) -> Iterator[tuple[str, str]]:
    """Yield each known field that has a value of its own, or is removed as a whole."""
    for path, kind in known_fields(resource).items():
        if kind is not Known.OBJECT:
            yield f"`{path}`", "published" if kind is Known.VALUE else "removed"
