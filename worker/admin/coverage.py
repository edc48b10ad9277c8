"""The coverage of a resource: what is proven, hour by hour, what is not, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from worker.capture.reconcile.calendar import Day, Hour, calendar
from worker.capture.reconcile.comparison import can_be_proven
from worker.capture.reconcile.progress import (
    CUT,
    Coverage,
    Gap,
    ReconcileCounts,
    ReconcilePass,
    ReconcileProgress,
)
from worker.capture.registry import CAPTURED, RESOURCES
from worker.capture.resources import AuditLog
from worker.capture.state.run_history import History
from worker.clock import duration, rfc3339
from worker.redis.connections import answer
from worker.redis.stored import number_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from redis.asyncio import Redis

    from worker.keys import Keys

HOUR_WORDS: dict[Hour, str] = {
    Hour.VERIFIED: "verified",
    Hour.HEALED: "gap healed",
    Hour.OPEN: "open gap",
    Hour.UNPROVEN: "not yet proven",
    Hour.DOWN: "not read: no worker, or paused",
    Hour.BEFORE: "",
}
"""What each kind of hour is called."""
_NO_LOGS = "OrderMesh serves no audit logs, or no single records, for a comparison"
_IS_LOG = "audit logs prove other resources; they are read when their record changes"


class CoverageReport(msgspec.Struct, frozen=True):
    """The coverage of one resource, as of `now` (seconds since 1970)."""

    resource: str
    progress: ReconcileProgress
    gaps: dict[str, Gap]
    passes: list[ReconcilePass]
    days: list[Day]
    tracked: int
    now: float

    @property
    def counts(self) -> ReconcileCounts:
        """The sum of the counts of all displayed passes."""
        total = ReconcileCounts()
        for item in self.passes:
            for name in ("records", "verified", "entries", "found", "healed", "requests"):
                setattr(total, name, getattr(total, name) + getattr(item.counts, name))
        return total

    @property
    def open(self) -> dict[str, Gap]:
        """The gaps, without those of records whose deletion is being confirmed."""
        return {name: gap for name, gap in self.gaps.items() if not gap.is_absent}


def provable(name: str) -> bool:
    """Return True if audit logs can prove this resource."""
    return name in RESOURCES and can_be_proven(RESOURCES[name])


def why_not(name: str) -> str:
    """Return why a resource cannot be proven."""
    return _IS_LOG if isinstance(CAPTURED[name], AuditLog) else _NO_LOGS


async def known_resources(client: Redis, keys: Keys, polled: Collection[str]) -> list[str]:
    """Return the resources that were read; before any was, those that are polled by the settings.

    What is polled of an account is its own choice, which the settings at hand may not contain.
    """
    async with client.pipeline(transaction=False) as pipe:
        for name in CAPTURED:
            # A resync also leaves a cursor, but without these fields.
            pipe.hmget(keys.cursor(name), ["last_started", "baseline"])
        result = await pipe.execute()
    read = [name for name, by in zip(CAPTURED, result, strict=True) if any(by)]
    return read or [name for name in CAPTURED if name in polled]


async def coverage_of(client: Redis, keys: Keys, name: str, *, days: int, now: float) -> CoverageReport:
    """Return the coverage of a resource for the last `days`; `now` in seconds since 1970.

    Raises:
        DataError: What is stored of it cannot be read.

    """
    kept, history, hour = Coverage(client, keys, name), History(client, keys), int(now // 3600)
    first = (hour // 24 - days + 1) * 24
    progress, gaps = await kept.load(), await kept.gaps()
    passes = await kept.passes(since=first * 3600)
    oldest = await history.oldest()
    shown = calendar(
        progress,
        gaps.values(),
        passes,
        active=await history.hours(first, hour),
        known_since=int(oldest // 3600),
        now=hour,
        days=days,
    )
    tracked = await answer(client.hget(keys.cursor(name), "tracked"))
    return CoverageReport(name, progress, gaps, passes, shown, int(number_of(tracked)), now)


def sentences(item: CoverageReport) -> Iterator[str]:
    """Yield in words what is proven of a resource, what is not, and why."""
    progress, counts, name = item.progress, item.counts, item.resource
    if progress.complete_until:
        until = rfc3339(progress.complete_until / 1000)
        yield f"{name} is proven complete up to {until}: every change in the audit logs of its records is published."
    elif progress.off:
        yield f"No hour of {name} is proven complete."
    else:
        yield f"No hour of {name} is proven complete yet."
    if progress.off:
        yield f"The comparison has stopped: {progress.off}. Next attempt at {rfc3339(progress.due_at)}."
    if progress.began:
        yield f"{_under_way(item)}"
    if progress.error:
        again = rfc3339(progress.due_at)
        yield f"{progress.error} ({progress.failures or 1} times in a row). Next attempt at {again}."
    if item.passes:
        yield (
            f"Passes: {len(item.passes)}. Audit entries compared: {counts.entries}. Gaps found: {counts.found}, "
            f"healed: {counts.healed}, still open: {len(item.open)}."
        )
        last = item.passes[-1].counts
        yield (
            f"The last pass took {duration(item.passes[-1].ended - item.passes[-1].began)}, and verified "
            f"{last.verified} of {last.records} records with {last.requests} requests."
        )
    waiting = len(item.gaps) - len(item.open)
    if waiting:
        yield f"{waiting} of its records no longer exist. They are published as deleted when a full scan confirms it."
    yield from _erased(item)
    yield from _cut_logs(item)


def _erased(item: CoverageReport) -> Iterator[str]:
    erased = item.passes[-1].counts.erased if item.passes else 0
    if erased:
        of = "1 record that was" if erased == 1 else f"{erased} records that were"
        yield f"Nothing is proven of {of} erased (ordersync erase): passes leave them out."


def _cut_logs(item: CoverageReport) -> Iterator[str]:
    cut = sum(gap.why == CUT for gap in item.open.values())
    if cut:
        of = "1 record" if cut == 1 else f"{cut} records"
        yield (
            f"The audit log of {of} can be read in part only, so nothing can be proven of them. To see how the "
            f"gateway serves the logs, run: ordersync contract probe {item.resource}"
        )


def _under_way(item: CoverageReport) -> str:
    progress, now = item.progress, item.now
    done, passed = progress.counts.records, now - progress.began
    text = f"A pass has been running for {duration(passed)}: {done} of {item.tracked} records"
    if 0 < done < item.tracked and passed > 0:
        text += f", about {duration(passed * (item.tracked - done) / done)} to go"
    return f"{text}. It covers changes up to {rfc3339(progress.until / 1000)}."


def as_json(item: CoverageReport, account: str) -> dict[str, Any]:
    """Return the coverage of a resource as it appears in JSON."""
    progress = item.progress
    return {
        "account": account,
        "resource": item.resource,
        "provable": not progress.off,
        "why": progress.off,
        "complete_since": _moment(progress.complete_since),
        "complete_until": _moment(progress.complete_until),
        "open": len(item.open),
        "absent": len(item.gaps) - len(item.open),
        "error": progress.error,
        "next": rfc3339(progress.due_at) if progress.due_at else None,
        "under_way": {
            "began": rfc3339(progress.began),
            "since": _moment(progress.since),
            "until": _moment(progress.until),
            **_counts(progress.counts),
        }
        if progress.began
        else None,
        "passes": [
            {
                "since": _moment(run.since),
                "until": _moment(run.until),
                "began": rfc3339(run.began),
                "ended": rfc3339(run.ended),
                "proven": run.proven,
                **_counts(run.counts),
            }
            for run in item.passes
        ],
        "gaps": [
            {"id": gap_id, "changed_at": _moment(gap.at), "why": gap.why} for gap_id, gap in item.gaps.items()
        ],
        "hours": [
            {"hour": rfc3339((day.day * 24 + at) * 3600), "state": hour.value}
            for day in item.days
            for at, hour in enumerate(day.hours)
            if hour is not Hour.BEFORE
        ],
    }


def _counts(counts: ReconcileCounts) -> dict[str, int]:
    kept: dict[str, int] = msgspec.structs.asdict(counts)
    del kept["healed_at"]
    return kept


def _moment(milliseconds: int) -> str | None:
    return rfc3339(milliseconds / 1000) if milliseconds else None
