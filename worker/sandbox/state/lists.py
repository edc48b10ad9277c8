"""Filtering, sorting and paging of lists, for every list operation of every service."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from worker.sandbox.answers import refusal
from worker.sandbox.data.times import sortable
from worker.sandbox.state.records import Source, has_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.sandbox.contract import ServedContract
    from worker.sandbox.data.record import Record


def page(
    contract: ServedContract,
    source: Source,
    number: int,
    size: int,
    ids: list[str] | None,
    *,
    key: str,
    ordered: bool = False,
) -> bytes:
    """Return the body of one page; the caller holds the lock.

    Args:
        contract: The layout.
        source: The records.
        number: Number of the page, counted from `contract.page_base`.
        size: Records per page.
        ids: The ids to list, in order; None lists all records in creation order.
        key: The plural key of the list.
        ordered: True if the client requested the order of the ids; the order of the contract then does not apply.
    """
    count = len(source) if ids is None else len(ids)
    reached = count if contract.result_cap is None else min(count, contract.result_cap)
    total = count if contract.refuse_deep else reached
    if ordered and ids is not None:
        start = (number - contract.page_base) * size
        return contract.render(source.rows(ids[start : min(start + size, reached)]), number, size, total, key)
    start, stop = contract.bounds(number, size, count)
    rows = source.window(start, stop) if ids is None else source.rows(ids[start:stop])
    if contract.descending:
        rows.reverse()
    rows = rows[: max(0, reached - (number - contract.page_base) * size)]
    return contract.render(rows, number, size, total, key)


def as_source(records: Source | Iterable[Record], modified: tuple[str, ...]) -> Source:
    """Return a source unchanged, and decoded records as a source whose ids are their positions."""
    return records if isinstance(records, Source) else _Plain(records, modified)


def select(
    contract: ServedContract,
    query: Mapping[str, str],
    source: Source,
    modified: tuple[str, ...],
    filters: tuple[str, ...],
) -> tuple[list[str] | None, bool]:
    """Return the ids that a query selects (None for all), and True if the query has sorted them."""
    ids: list[str] | None = None
    requested = {name: query[name] for name in filters if name in query and contract.choices_honoured}
    if requested:
        ids = source.matching(requested)
    fields = {modified[-1]: 1, modified[0]: 0}
    if contract.since_honoured:
        for name, position in fields.items():
            stem = name.removesuffix("At")
            low, high = _moment(query, f"{stem}From"), _moment(query, f"{stem}To")
            if low or high:
                ids = _between(source, source.ids() if ids is None else ids, position, low, high)
    by = fields.get(query.get("sortBy", "")) if contract.sort_honoured else None
    if by is None:
        return ids, False
    return _sorted(source, source.ids() if ids is None else ids, by, query), True


def _moment(query: Mapping[str, str], name: str) -> str:
    """Return a time in a query; empty if the query does not contain it."""
    text = query.get(name)
    moment = sortable(text)
    if text and not moment:
        raise refusal(400, f"'{name}' must be a date or a date and time.", name, text)
    return moment


def _between(source: Source, ids: list[str], position: int, low: str, high: str) -> list[str]:
    """Return the ids of the records with a time from `low` to `high`, both inclusive; an empty bound does not limit."""
    result = []
    for record_id in ids:
        moment = sortable(source.times(record_id)[position])
        if moment and moment >= low and (not high or moment <= high):
            result.append(record_id)
    return result


def _sorted(source: Source, ids: list[str], position: int, query: Mapping[str, str]) -> list[str]:
    newest_first = query.get("sortDirection", "").lower() == "desc"
    # Records with the same time keep the order of creation in both directions, so that pages do not overlap.
    return sorted(ids, key=lambda item: sortable(source.times(item)[position]), reverse=newest_first)


class _Plain(Source):
    """Decoded records as a source. Positions are used as ids, since not every record has an id."""

    def __init__(self, records: Iterable[Record], modified: tuple[str, ...]) -> None:
        self._records = list(records)
        self._modified = modified
        self._lock = threading.RLock()

    @property
    def lock(self) -> threading.RLock:
        return self._lock

    def __len__(self) -> int:
        return len(self._records)

    def ids(self) -> list[str]:
        return [str(position) for position in range(len(self._records))]

    def window(self, start: int, stop: int) -> list[bytes]:
        return [msgspec.json.encode(record) for record in self._records[start:stop]]

    def rows(self, ids: Iterable[str]) -> list[bytes]:
        return [msgspec.json.encode(self._records[int(item)]) for item in ids]

    def times(self, record_id: str) -> tuple[object, object]:
        record = self._records[int(record_id)]
        modified = next((record[name] for name in self._modified if record.get(name) is not None), None)
        return modified, record.get(self._modified[-1])

    def matching(self, filters: Mapping[str, str]) -> list[str]:
        return [item for item in self.ids() if has_values(self._records[int(item)], filters)]
