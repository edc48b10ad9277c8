"""One row of the status, from what was read of a resource. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ordersync_consumer.dead import DeadLetterSummary
from ordersync_consumer.groups import StreamStatus
from worker.capture.health import withdrawn_words
from worker.capture.lanes import lane_of
from worker.capture.state.cursor import Cursor
from worker.capture.state.pauses import EVERYTHING, Pause
from worker.capture.state.position import share_done
from worker.capture.state.refresh_queue import Backlog
from worker.capture.state.run_history import MINUTES
from worker.clock import is_ahead, rfc3339
from worker.config.resources import RESOURCES
from worker.errors import RedisFull
from worker.ordermesh.contract.findings import Withdrawn
from worker.queue.backpressure import HighWaterMarks, evaluate
from worker.queue.expiry import ExpiredLetters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.capture.health import Verdict
    from worker.keys import Keys
    from worker.ordermesh.http.budget import BudgetUse
    from worker.service.heartbeat import Beat

Row = dict[str, Any]


class ResourceFacts(msgspec.Struct):
    """What was read of a resource; by default, nothing.

    Attributes:
        cursor: Its cursor.
        status: Its stream.
        groups: The groups of the stream, as rows.
        due: Its refresh queue.
        pause: Its pause.
        dead: Its dead letters.
        expired: Those that have expired.
        unused: What its gateway honoured once and honours no longer.
        refused: Why Redis refuses writes although it has memory; "" if it does not.
        proven_until: Up to when it is proven complete; None for nothing.

    """

    cursor: Cursor = msgspec.field(default_factory=Cursor)
    status: StreamStatus = msgspec.field(default_factory=lambda: StreamStatus(0, 0.0, 0, 0))
    groups: Sequence[Row] = ()
    due: Backlog = msgspec.field(default_factory=lambda: Backlog(0, 0.0))
    pause: Pause | None = None
    dead: DeadLetterSummary = msgspec.field(default_factory=lambda: DeadLetterSummary(0, 0.0))
    expired: ExpiredLetters = msgspec.field(default_factory=lambda: ExpiredLetters(0, 0.0))
    unused: Sequence[Withdrawn] = ()
    refused: str = ""
    proven_until: str | None = None


def row_of(
    keys: Keys, name: str, facts: ResourceFacts, verdict: Verdict, *, marks: HighWaterMarks, now: float
) -> Row:
    """Return the row of a resource without what is the same for all resources of its account."""
    cursor, status, dead, expired = facts.cursor, facts.status, facts.dead, facts.expired
    return {
        "account": keys.account,
        "resource": name,
        "health": verdict.health.value,
        "cause": verdict.cause,
        "cause_code": verdict.code,
        **_waiting(cursor, now),
        "records": cursor.tracked,
        "events": cursor.events,
        "dead": dead.letters,
        "dead_oldest_s": round(max(0.0, now - dead.oldest), 1) if dead.letters else None,
        "dead_expired": expired.letters,
        "dead_expired_at": rfc3339(expired.at) if expired.at else None,
        "paused": _pause(facts.pause),
        "backpressure": _backpressure(name, status, cursor, marks),
        "unread": status.slowest.unread if status.slowest else None,
        "groups": list(facts.groups),
        "writes_refused": facts.refused or (str(RedisFull()) if status.full else None),
        "suspect": cursor.suspicious or None,
        "capabilities_withdrawn": [_unused(item, now, cursor.scan.pages) for item in facts.unused],
        "proven_until": facts.proven_until,
        "open_gaps": cursor.gaps,
        "due": facts.due.count,
        "due_oldest_s": _age(facts.due.oldest, now),
        "fresh_s": _age(cursor.fresh_as_of, now),
        "part": cursor.part or None,
        "part_s": _age(cursor.part_as_of, now),
        "stale": cursor.stale,
        "lane": lane_of(cursor).value,
        "backlog": _backlog(cursor, now),
        "last_success": rfc3339(cursor.last_success) if cursor.last_success else None,
        "failures": cursor.failures,
        "stream": keys.stream(name),
    }


def shared_of(use: BudgetUse, workers: Sequence[Beat], changes: Sequence[Row], now: float) -> Row:
    """Return the part of a row that is the same for all resources of an account."""
    return {
        "budget": _budget(use),
        "workers": [_worker(beat, now) for beat in workers],
        "operator_log": list(changes),
    }


def _backpressure(name: str, status: StreamStatus, cursor: Cursor, marks: HighWaterMarks) -> Row:
    report = evaluate(name, status, marks, paused=bool(cursor.paused))
    return {
        "cause": cursor.paused,
        "entries_share": round(report.unread / marks.entries, 3) if marks.entries else None,
        "bytes_share": round(report.unread_bytes / marks.bytes, 3) if marks.bytes else None,
        "memory_share": round(status.used_memory / status.maxmemory, 3) if status.maxmemory else None,
    }


def _backlog(cursor: Cursor, now: float) -> Row | None:
    """Return how much of the audit logs of the past is read, and the seconds that the rest takes at this rate."""
    share = share_done(cursor.backlog, cursor.backlog_buckets)
    if share is None or not cursor.backlog_began:
        return None
    passed = max(0.0, now - cursor.backlog_began)
    return {"share": round(share, 3), "left_s": round(passed * (1 - share) / share, 1) if share else None}


def _waiting(cursor: Cursor, now: float) -> Row:
    """Return since when requests, or polls, fail, and when the next attempt begins; None for both if none does."""
    since, next_try = (0.0, 0.0)
    if cursor.waits(now):
        since, next_try = cursor.wait_since, cursor.wait_until
    elif cursor.failures:
        since, next_try = cursor.failing_since, cursor.due_at
    return {
        "since": rfc3339(since) if since else None,
        "next_try": rfc3339(next_try) if next_try else None,
    }


def _age(at: float, now: float) -> float | None:
    """Return the seconds since a time; None if there was none, or if it lies in the future."""
    return round(max(0.0, now - at), 1) if at and not is_ahead(at, now) else None


def _unused(item: Withdrawn, now: float, pages: int) -> Row:
    return {
        "capability": item.capability,
        "parameter": item.parameter,
        "since": rfc3339(item.at),
        "text": withdrawn_words(item, now, pages),
    }


def _pause(pause: Pause | None) -> Row | None:
    if pause is None:
        return None
    scope = "account" if pause.resource == EVERYTHING else "resource"
    return {"by": pause.by, "reason": pause.reason, "since": rfc3339(pause.at), "scope": scope}


def rate_of(rates: Mapping[str, tuple[list[int], list[int]]], name: str) -> Row:
    """Return the records and events of a resource in each of the last minutes."""
    records, events = rates.get(name, ([0] * MINUTES, [0] * MINUTES))
    return {"records_per_minute": records, "events_per_minute": events}


def _budget(use: BudgetUse) -> Row:
    return {
        "requests_last_minute": use.requests,
        "requests_per_second": use.rate or None,
        "share": round(use.share, 3) if use.rate else None,
    }


def _worker(beat: Beat, now: float) -> Row:
    return {
        "worker": beat.worker,
        "started": rfc3339(beat.started),
        "heartbeat_s": round(max(0.0, now - beat.at), 1),
        "clock_offset_s": beat.clock_offset,
        "resources": sorted(beat.polled, key=list(RESOURCES).index),
    }
