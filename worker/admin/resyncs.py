"""Resyncs as they appear in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.clock import rfc3339

if TYPE_CHECKING:
    from worker.capture.resync.requests import Resync


def as_row(account: str, resync: Resync) -> dict[str, Any]:
    """Return a resync as it appears in JSON."""
    request = resync.request
    return {
        "id": resync.id,
        "account": account,
        "resource": request.resource,
        "what": request.description,
        "by": request.by,
        "state": resync.state.value,
        "at": rfc3339(resync.at),
        "ended": rfc3339(resync.ended_at) if resync.ended_at else None,
        "share": None if resync.share is None else round(resync.share, 3),
        "read": resync.read,
        "total": resync.total or None,
        "published": resync.published,
        "unchanged": resync.unchanged,
        "stale": resync.stale,
        "unreadable": resync.unreadable,
        "outside": resync.outside,
        "erased": resync.erased,
        "not_found": resync.missed,
        "by_id": resync.by_id,
        "passed_over": resync.passed_over,
        "requests": resync.requests,
        "error": resync.error,
    }
