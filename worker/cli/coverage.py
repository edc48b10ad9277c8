"""`ordersync coverage`."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from worker.admin.coverage import (
    HOUR_WORDS,
    CoverageReport,
    as_json,
    coverage_of,
    known_resources,
    provable,
    sentences,
    why_not,
)
from worker.capture.reconcile.calendar import Hour
from worker.cli.common.options import pick_keys, prepare
from worker.cli.common.output import Line, Styled, say_json, say_lines, styled
from worker.cli.common.params import RESOURCE, Integer, account_option
from worker.cli.common.redis import check_resource, reader_of
from worker.cli.render.tables import columns
from worker.clock import SystemClock, rfc3339
from worker.service.loop import run_async

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GLYPHS: dict[Hour, tuple[str, str]] = {
    Hour.VERIFIED: ("■", "green"),
    Hour.HEALED: ("◆", "yellow"),
    Hour.OPEN: ("!", "red"),
    Hour.UNPROVEN: ("·", ""),
    Hour.DOWN: ("_", ""),
    Hour.BEFORE: (" ", ""),
}
MAX_GAPS = 20
"""Maximum number of open gaps in the text output; JSON contains all of them."""


@click.command(
    epilog="\b\nExamples:\n  ordersync coverage\n  ordersync coverage orders --days 30\n"
    "  ordersync coverage --json | jq '.[] | select(.open > 0)'"
)
@click.argument("resource", type=RESOURCE, required=False)
@click.option("--days", type=Integer(1, 80), default=7, show_default=True, help="Number of days to show.")
@click.option("--json", "wants_json", is_flag=True, help="Print JSON, with all passes and gaps.")
@account_option
def command(*, resource: str | None, days: int, wants_json: bool, account: str | None) -> None:
    """Show which hours are proven complete, for one RESOURCE or for all that are read.

    Periodically the worker compares the audit log of every known record with what it published
    (ORDERSYNC_RECONCILE__EVERY). A change in an audit log that was not published is a gap; the worker then publishes
    it. An hour is proven complete when every change of that hour in the audit logs is published. Hours are in UTC, by
    the clock of OrderMesh.
    """
    check_resource(resource)
    settings = prepare(quiet=True)

    async def main() -> None:
        async with reader_of(settings) as client:
            keys = await pick_keys(client, account, settings)
            known = [resource] if resource else await known_resources(client, keys, settings.poll.chosen)
            now = SystemClock().now()
            result = [
                await coverage_of(client, keys, name, days=days, now=now) for name in known if provable(name)
            ]
        unprovable = [name for name in known if not provable(name)]
        if wants_json:
            rows = [as_json(item, keys.account) for item in result]
            rows += [
                {"account": keys.account, "resource": n, "provable": False, "why": why_not(n)}
                for n in unprovable
            ]
            say_json(rows)
        else:
            say_lines(_lines(result, unprovable))

    run_async(main)


# Text output


def _lines(result: Sequence[CoverageReport], unprovable: Sequence[str]) -> Iterator[Line]:
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
            (_glyph(hour), f" {HOUR_WORDS[hour]}")
            for hour in GLYPHS
            if hour in used and hour is not Hour.BEFORE
        ]
        if legend:
            yield tuple(part for item in legend for part in ("  ", *item))[1:]
        yield "A record that no list has ever returned is unknown: its audit log cannot be read, so it is not covered."
    if unprovable:
        reasons: dict[str, list[str]] = {}
        for name in unprovable:
            reasons.setdefault(why_not(name), []).append(name)
        for why, names in reasons.items():
            yield f"Not proven: {', '.join(names)} ({why})."


def _glyph(hour: Hour) -> Styled:
    glyph, colour = GLYPHS[hour]
    return styled(glyph, colour or None)


def _calendar(item: CoverageReport) -> Iterator[Line]:
    width = max(len(item.resource), len("2026-03-02"))
    ruler = "".join(f"{hour:<6}" for hour in ("00", "06", "12", "18"))
    yield f"{item.resource:<{width}}  {ruler}UTC"
    for day in item.days:
        tally = Counter(day.hours)
        counts = [f"{tally[hour]} h {HOUR_WORDS[hour]}" for hour in (Hour.OPEN, Hour.HEALED) if tally[hour]]
        date = datetime.fromtimestamp(day.day * 86_400, UTC).strftime("%Y-%m-%d")
        cells = [_glyph(hour) for hour in day.hours]
        while not counts and cells and not cells[-1].text.strip():
            cells.pop()  # hours before the first read, at the end of a line
        yield (f"{date:<{width}}  ", *cells, f"{'  ' if counts else ''}{', '.join(counts)}")


def _words(item: CoverageReport) -> Iterator[str]:
    first, *more = sentences(item)
    yield first
    yield from (f"  {line}" for line in more)
    if item.open:
        rows = [
            ("  open", gap_id, rfc3339(gap.at / 1000) if gap.at else "-", gap.why)
            for gap_id, gap in list(item.open.items())[:MAX_GAPS]
        ]
        yield from columns([("  ", "id", "changed at", "why"), *rows])
        if len(item.open) > MAX_GAPS:
            yield f"  and {len(item.open) - MAX_GAPS} more (--json)"
