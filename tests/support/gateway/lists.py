"""The bodies of the gateway's answers: pages of lists, single records, audit logs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tests.support.gateway.history import KINDS, History, Kind, Record
from tests.support.gateway.serving import Serving

SINCE = ("updatedFrom", "lastModifiedDateFrom")
"""The filters by modification time."""


class Answer(NamedTuple):
    """A status and what is written as JSON; a body of None is no body."""

    status: int
    body: Any


NOT_FOUND = Answer(404, {"message": "there is no such thing"})
NO_CONTENT = Answer(204, None)


def number_of(query: Mapping[str, str], serving: Serving) -> int:
    """The number of the requested page, counted from 0."""
    return int(query.get("page", serving.first_page)) - serving.first_page


def size_of(query: Mapping[str, str], serving: Serving) -> int:
    """The number of records of a page."""
    return max(1, min(int(query.get("pageSize", 50)), serving.largest_page))


def list_answer(history: History, serving: Serving, kind: Kind, query: Mapping[str, str]) -> Answer:
    """A page of a list."""
    if serving.before_page is not None:
        serving.before_page(kind.name, number_of(query, serving))
    rows = _rows(history, serving, kind, query)
    return _page(rows, serving, query, kind.wrapper)


def single_answer(history: History, serving: Serving, kind: Kind, identifier: str) -> Answer:
    """A record by its id."""
    line = history.lines[kind.name].get(identifier)
    content = line.as_of(None) if line is not None and line.tenant == serving.tenant else None
    if content is None or (serving.away is not None and serving.away(content)):
        return Answer(serving.gone, {"message": "there is no such record"})
    return Answer(200, {kind.record_key: content} if kind.record_key else content)


def audit_answer(
    history: History, serving: Serving, kind: Kind, identifier: str, query: Mapping[str, str]
) -> Answer:
    """The audit log of a record, or a page of it."""
    line = history.lines[kind.name].get(identifier)
    if line is None or line.tenant != serving.tenant:
        return Answer(serving.gone, {"message": "there is no such record"})
    with history.lock:
        entries = list(line.log)
    if serving.audit_page is None:
        return Answer(200, {"auditLogs": entries})
    size = min(serving.audit_page, int(query.get("pageSize", serving.audit_page)))
    number = int(query.get("page", serving.first_page)) - serving.first_page
    body: Record = {"auditLogs": entries[number * size : (number + 1) * size] if number >= 0 else []}
    body |= {"page": number + serving.first_page, "pageSize": size}
    if serving.audit_total:
        body[serving.audit_total] = len(entries)
    return Answer(200, body)


def _rows(history: History, serving: Serving, kind: Kind, query: Mapping[str, str]) -> list[Record]:
    if serving.nothing:
        return []
    since = next((query[name] for name in SINCE if name in query), None) if serving.filters else None
    sorted_by = query.get("sortBy") if serving.sorts else None
    moment = time.time() - serving.lag if serving.lag else serving.frozen_at
    if serving.stale_since is not None and (since or sorted_by):
        moment = serving.stale_since
    rows = [record for _, record in history.records(kind.name, serving.tenant, moment)]
    for leaves_out in (serving.hidden, serving.away):
        if leaves_out is not None:
            rows = [record for record in rows if not leaves_out(record)]
    if since is not None:
        least = _seconds(since)
        rows = [record for record in rows if (_modified(kind, record) or 0.0) >= least]
    return _sorted(rows, kind, serving, query)


def _sorted(rows: list[Record], kind: Kind, serving: Serving, query: Mapping[str, str]) -> list[Record]:
    order = serving.order
    if serving.sorts and query.get("sortBy") in {kind.modified, kind.created}:
        field = "modified" if query["sortBy"] == kind.modified else "created"
        down = query.get("sortDirection", "asc").lower().startswith("desc")
        rows = sorted(rows, key=lambda record: _time_of(kind, record, field))
        return rows[::-1] if down else rows
    if order.endswith("modified"):
        rows = sorted(rows, key=lambda record: _time_of(kind, record, "modified"))
    return rows[::-1] if order.startswith("-") else rows


def _page(rows: list[Record], serving: Serving, query: Mapping[str, str], wrapper: str) -> Answer:
    number, size = number_of(query, serving), size_of(query, serving)
    last = max(0, (len(rows) - 1) // size)
    if number < 0:
        return Answer(400, {"message": "there is no such page"})
    if number > last or not rows:
        if isinstance(serving.past_end, int):
            return Answer(serving.past_end, {"message": "there is no such page"}) if rows else Answer(200, [])
        if serving.past_end == "no content":
            return NO_CONTENT
        number = {"last": last, "first": 0}.get(serving.past_end, number)
    shown: Any = rows[number * size : (number + 1) * size]
    name = wrapper if serving.wrapper is None else serving.wrapper
    if not name:
        return Answer(200, shown)
    body: Record = {}
    inner = body
    *outside, key = name.split(".")
    for each in outside:
        inner = inner.setdefault(each, {})
    inner[key] = shown
    if serving.total:
        body[serving.total] = serving.told_total(len(rows))
    return Answer(200, body)


def _time_of(kind: Kind, record: Record, field: str) -> float:
    found = _modified(kind, record) if field == "modified" else _read(record[kind.created])
    return found or 0.0


def _modified(kind: Kind, record: Record) -> float | None:
    return _read(record[kind.modified]) or _read(record[kind.created])


def _read(text: str | None) -> float | None:
    return None if text is None else _seconds(text)


def _seconds(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def kind_at(path: str) -> tuple[Kind, str, str] | None:
    """The kind whose list, record or audit log is at a path, with the id and what follows it; None for no such path."""
    for kind in KINDS.values():
        if path == kind.list_path:
            return kind, "", ""
    for kind in KINDS.values():
        before, _, after = kind.single_path.partition("{id}")
        if path.startswith(before) and path.endswith(after):
            identifier, _, rest = path.removeprefix(before).partition("/")
            if rest in {"", "auditLogs"}:
                return kind, identifier, rest
    return None
