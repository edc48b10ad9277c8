"""The text output of `ordersync status`, made from its rows. No I/O.

Lines contain colour codes; the caller removes them if the output is not a terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from worker.capture.health import Health
from worker.cli.render.tables import duration, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.admin.status import Row

COLOURS = {
    Health.OK: "green",
    Health.STARTING: "blue",
    Health.DEGRADED: "yellow",
    Health.FAILING: "red",
    Health.PAUSED: "magenta",
    Health.WITHDRAWN: "cyan",
}
_COLUMNS = (
    "account", "resource", "health", "records", "events", "dead", "unread", "fresh", "last success", "records/min",
    "events/min",
)  # fmt: skip
_BARS = "▁▂▃▄▅▆▇█"
NARROW, WIDE = 6, 15
"""Minutes in a sparkline on a terminal with fewer than `_FULL` columns, and elsewhere."""
_FULL = 150
_BAR = 10
MAX_CLOCK_OFFSET = 5.0
"""Seconds by which the clock of a host may differ from that of Redis before status says so."""


def sparkline(values: Sequence[int]) -> str:
    """Return numbers as bars, the latest on the right. The lowest bar is a space."""
    top = max(values, default=0)
    return "".join(_BARS[0] if not value else _BARS[1 + (value * 6) // top] for value in values)


def screen(rows: Sequence[Row], *, width: int | None = None) -> list[str]:
    """Return all rows as lines. `width`: columns of the terminal; None if there is no terminal."""
    if not rows:
        return ["No worker has used this Redis yet. To start one: ordersync run"]
    minutes = NARROW if width and width < _FULL else WIDE
    table = [_COLUMNS, *(_cells(row, minutes) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells, row in zip(table, [None, *rows], strict=True):
        padded = [f"{cell:<{room}}" for cell, room in zip(cells, widths, strict=True)]
        padded[-1] = padded[-1].rstrip()
        if row is not None:
            padded[2] = click.style(padded[2], fg=COLOURS[Health(row["health"])])
        lines.append("  ".join(padded))
    for part in (_accounts(rows), _groups(rows), _resyncs(rows), _causes(rows)):
        result = list(part)
        lines += ["", *result] if result else []
    return lines


def one_line(row: Row) -> str:
    """Return a row as one line for a log or a pipe."""
    cause = f": {printable(row['cause'])}" if row["cause"] else ""
    fresh = f"fresh {age}" if (age := _fresh(row)) else "never read"
    records, events = (row["rate"][name][-1] for name in ("records_per_minute", "events_per_minute"))
    return (
        f"{row['account']}/{row['resource']} {row['health']}, {fresh}, {records} records and {events} events in the "
        f"last minute, {row['unread'] or 0} unread, {row['dead']} dead{cause}"
    )


def _cells(row: Row, minutes: int) -> tuple[str, ...]:
    fresh = _fresh(row) or "never"
    oldest = "" if row["dead_oldest_s"] is None else f" ({duration(row['dead_oldest_s'])})"
    unread = "-" if row["unread"] is None else str(row["unread"])
    rates = [row["rate"][name] for name in ("records_per_minute", "events_per_minute")]
    return (
        row["account"], row["resource"], row["health"], str(row["records"]), str(row["events"]),
        f"{row['dead']}{oldest}", unread, fresh, row["last_success"] or "never",
        *(f"{sparkline(values[-minutes:])} {values[-1]}" for values in rates),
    )  # fmt: skip


def _fresh(row: Row) -> str:
    """Return the age of the last read that covers everything, and of a fresher one of a part; "" for neither."""
    whole, part = row["fresh_s"], row["part_s"]
    ages = [] if whole is None else [f"{whole:.0f} s"]
    if part is not None and (whole is None or part < whole):
        ages.append(f"{row['part']} {part:.0f} s")
    return ", ".join(ages)


def _accounts(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line for each account: its workers and their request rate."""
    for row in {row["account"]: row for row in rows}.values():
        workers, budget = row["workers"], row["budget"]
        names = ", ".join(f"{item['worker']} ({duration(item['heartbeat_s'])} ago)" for item in workers)
        alive = f"{_counted(len(workers), 'worker')} alive: {names}" if workers else "no worker is alive"
        used = "no requests in the last minute"
        if budget["share"] is not None:
            used = (
                f"{budget['requests_last_minute']} requests in the last minute, {budget['share']:.0%} of the "
                f"budget of {budget['requests_per_second']:g} per second"
            )
        yield f"{row['account']}: {printable(alive)}; {used}"
        for item in workers:
            if abs(offset := item["clock_offset_s"]) >= MAX_CLOCK_OFFSET:
                way = "ahead of" if offset > 0 else "behind"
                yield printable(
                    f"{row['account']}: the clock of {item['worker']} is {abs(offset):.0f} s {way} that of Redis; "
                    "nothing is missed, but set up time synchronisation"
                )


def _groups(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for group in row["groups"]:
            late = "" if group["oldest_s"] is None else f", the oldest {duration(group['oldest_s'])} old"
            consumers = _counted(group["consumers"], "consumer") if group["consumers"] else "no consumer"
            yield (
                f"{row['account']}/{row['resource']}: group {printable(group['group'])} has {group['unread']} "
                f"unread and {group['pending']} pending events{late}; {consumers}"
            )


def _resyncs(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for item in row["resyncs"]:
            done = "" if item["share"] is None else f" {bar(item['share'])} {item['share']:.0%}"
            error = f": {item['error']}" if item["error"] else ""
            yield printable(
                f"{row['account']}/{row['resource']}: resync {item['id']} of {item['what']} by {item['by']} is "
                f"{item['state']}{done}, {item['read']} read, {item['published']} published{error}"
            )


def bar(share: float) -> str:
    """Return a progress bar."""
    full = round(share * _BAR)
    return "█" * full + "▁" * (_BAR - full)


def _causes(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row["cause"]:
            health = click.style(row["health"], fg=COLOURS[Health(row["health"])])
            yield f"{row['account']}/{row['resource']} is {health}: {printable(row['cause'])}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
