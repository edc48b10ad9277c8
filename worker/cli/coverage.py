"""`ordersync coverage`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from worker.service.loop import run_async
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
from worker.cli.common.options import pick_keys, prepare
from worker.cli.common.params import RESOURCE, account_option
from worker.cli.common.redis import check_resource, client_of
from worker.cli.render.tables import columns, printable
from worker.clock import duration
from worker.clock import SystemClock, rfc3339
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis.asyncio import Redis

    from worker.config.settings import Settings
    from worker.keys import Keys

GLYPHS: dict[Hour, tuple[str, str, str]] = {
    Hour.VERIFIED: ("■", "green", "verified"),
    Hour.HEALED: ("◆", "yellow", "gap healed"),
    Hour.OPEN: ("!", "red", "open gap"),
    Hour.UNPROVEN: ("·", "", "not yet proven"),
    Hour.DOWN: ("_", "", "not read: no worker, or paused"),
    Hour.BEFORE: (" ", "", ""),
}
MAX_GAPS = 20
"""Maximum number of open gaps in the text output; JSON contains all of them."""
_NO_LOGS = "OrderMesh serves no audit logs, or no single records, for a comparison"
_IS_LOG = "audit logs prove other resources; they are read when their record changes"


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """The coverage of one resource."""

    resource: str
    progress: ReconcileProgress
    gaps: dict[str, Gap]
    passes: list[ReconcilePass]
    days: list[Day]
    tracked: int

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


@click.command(
    epilog="\b\nExamples:\n  ordersync coverage\n  ordersync coverage orders --days 30\n"
    "  ordersync coverage --json | jq '.[] | select(.open > 0)'"
)
@click.argument("resource", type=RESOURCE, required=False)
@click.option(
    "--days", type=click.IntRange(1, 80), default=7, show_default=True, help="Number of days to show."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all passes and gaps.")
@account_option
def command(*, resource: str | None, days: int, as_json: bool, account: str | None) -> None:
    """Show which hours are proven complete, for one RESOURCE or for all that are read.

    Periodically the worker compares the audit log of every known record with what it published
    (ORDERSYNC_RECONCILE__EVERY). A change in an audit log that was not published is a gap; the worker then publishes
    it. An hour is proven complete when every change of that hour in the audit logs is published. Hours are in UTC, by
    the clock of OrderMesh.
    """
    check_resource(resource)
    settings = prepare(quiet=True)

    async def main() -> None:
        async with client_of(settings) as client:
            keys = await pick_keys(client, account, settings)
            known = await _known(client, keys, settings, resource)
            result = [await _look(client, keys, name, days) for name in known if _provable(name)]
        unprovable = [name for name in known if not _provable(name)]
        if as_json:
            rows = [_as_json(item, keys.account) for item in result]
            rows += [
                {"account": keys.account, "resource": n, "provable": False, "why": _why(n)}
                for n in unprovable
            ]
            click.echo(json.dumps(rows, ensure_ascii=False))
        else:
            click.echo("\n".join(_lines(result, unprovable)))

    run_async(main)


def _provable(name: str) -> bool:
    return name in RESOURCES and can_be_proven(RESOURCES[name])


def _why(name: str) -> str:
    return _IS_LOG if isinstance(CAPTURED[name], AuditLog) else _NO_LOGS


async def _known(client: Redis, keys: Keys, settings: Settings, requested: str | None) -> list[str]:
    """Return the resources that are read by the settings, or were read before."""
    if requested is not None:
        return [requested]
    async with client.pipeline(transaction=False) as pipe:
        for name in CAPTURED:
            # A resync also leaves a cursor, but without these fields.
            pipe.hmget(keys.cursor(name), ["last_started", "baseline"])
        result = await pipe.execute()
    return [n for n, by in zip(CAPTURED, result, strict=True) if any(by) or n in settings.poll.chosen]


async def _look(client: Redis, keys: Keys, name: str, days: int) -> CoverageReport:
    now = SystemClock().now()
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
    return CoverageReport(name, progress, gaps, passes, shown, int(tracked or 0))


# Text output


def _lines(result: Sequence[CoverageReport], unprovable: Sequence[str]) -> Iterator[str]:
    if not result and not unprovable:
        yield "No resource has been read yet. To start: ordersync run"
    for item in result:
        yield from _calendar(item)
        yield ""
        yield from _words(item)
        yield ""
    if result:
        used = {hour for each in result for day in each.days for hour in day.hours}
        legend = [
            f"{_glyph(hour)} {GLYPHS[hour][2]}" for hour in GLYPHS if hour in used and hour is not Hour.BEFORE
        ]
        if legend:
            yield "  ".join(legend)
        yield "A record that no list has ever returned is unknown: its audit log cannot be read, so it is not covered."
    if unprovable:
        reasons: dict[str, list[str]] = {}
        for name in unprovable:
            reasons.setdefault(_why(name), []).append(name)
        for why, names in reasons.items():
            yield f"Not proven: {', '.join(names)} ({why})."


def _glyph(hour: Hour) -> str:
    glyph, colour, _ = GLYPHS[hour]
    return click.style(glyph, fg=colour) if colour else glyph


def _calendar(item: CoverageReport) -> Iterator[str]:
    width = max(len(item.resource), len("2026-03-02"))
    ruler = "".join(f"{hour:<6}" for hour in ("00", "06", "12", "18"))
    yield f"{item.resource:<{width}}  {ruler}UTC"
    for day in item.days:
        cells = "".join(_glyph(hour) for hour in day.hours)
        tally = Counter(day.hours)
        counts = [f"{tally[hour]} h {GLYPHS[hour][2]}" for hour in (Hour.OPEN, Hour.HEALED) if tally[hour]]
        date = datetime.fromtimestamp(day.day * 86_400, UTC).strftime("%Y-%m-%d")
        yield f"{date:<{width}}  {cells}{'  ' if counts else ''}{', '.join(counts)}".rstrip()


def _words(item: CoverageReport) -> Iterator[str]:
    progress, counts, name = item.progress, item.counts, item.resource
    if progress.complete_until:
        until = rfc3339(progress.complete_until / 1000)
        yield f"{name} is proven complete up to {until}: every change in the audit logs of its records is published."
    elif progress.off:
        yield f"No hour of {name} is proven complete."
    else:
        yield f"No hour of {name} is proven complete yet."
    if progress.off:
        yield f"  The comparison has stopped: {printable(progress.off)}. Next attempt at {rfc3339(progress.due_at)}."
    if progress.began:
        yield f"  {_under_way(item)}"
    if progress.error:
        again = rfc3339(progress.due_at)
        yield f"  {printable(progress.error)} ({progress.failures or 1} times in a row). Next attempt at {again}."
    if item.passes:
        yield (
            f"  Passes: {len(item.passes)}. Audit entries compared: {counts.entries}. Gaps found: {counts.found}, "
            f"healed: {counts.healed}, still open: {len(item.open)}."
        )
        last = item.passes[-1].counts
        yield (
            f"  The last pass took {duration(item.passes[-1].ended - item.passes[-1].began)}, and verified "
            f"{last.verified} of {last.records} records with {last.requests} requests."
        )
    waiting = len(item.gaps) - len(item.open)
    if waiting:
        yield f"  {waiting} of its records no longer exist. They are published as deleted when a full scan confirms it."
    yield from _cut_logs(item)
    if item.open:
        rows = [
            ("  open", gap_id, rfc3339(gap.at / 1000) if gap.at else "-", gap.why)
            for gap_id, gap in list(item.open.items())[:MAX_GAPS]
        ]
        yield from columns([("  ", "id", "changed at", "why"), *rows])
        if len(item.open) > MAX_GAPS:
            yield f"  and {len(item.open) - MAX_GAPS} more (--json)"


def _cut_logs(item: CoverageReport) -> Iterator[str]:
    cut = sum(gap.why == CUT for gap in item.open.values())
    if cut:
        of = "1 record" if cut == 1 else f"{cut} records"
        yield (
            f"  The audit log of {of} can be read in part only, so nothing can be proven of them. To see how the "
            f"gateway serves the logs, run: ordersync contract probe {item.resource}"
        )


def _under_way(item: CoverageReport) -> str:
    progress, now = item.progress, SystemClock().now()
    done, passed = progress.counts.records, now - progress.began
    text = f"A pass has been running for {duration(passed)}: {done} of {item.tracked} records"
    if 0 < done < item.tracked and passed > 0:
        text += f", about {duration(passed * (item.tracked - done) / done)} to go"
    return f"{text}. It covers changes up to {rfc3339(progress.until / 1000)}."


# JSON output


def _as_json(item: CoverageReport, account: str) -> dict[str, Any]:
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
