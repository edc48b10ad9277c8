"""The text output of `ordersync status`, made from its rows. No I/O.

Parts of the lines have colours; the caller prints them with `worker.cli.common.output`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.admin.verdict import verdict
from worker.capture.health import Health
from worker.cli.common.output import Line, Styled, styled
from worker.cli.render.folding import folded, shortened
from worker.clock import duration
from worker.printable import printable
from worker.service.heartbeat import clock_words

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
    "account", "resource", "health", "lane", "records", "events", "dead", "unread", "fresh", "last success",
    "records/min", "events/min",
)  # fmt: skip
_LEFT_OUT = (
    "last success", "records/min", "events/min", "events", "records", "lane", "account", "unread", "dead",
)  # fmt: skip
"""Columns that a narrow terminal does not show, the first one first. `--json` has all of them."""
LEGEND = {
    Health.OK: "reading works, and what is published is fresh",
    Health.STARTING: "the first full scan is running, or is repeated since its pages may have moved",
    Health.DEGRADED: "something is wrong, but what is published is fresh, or the cause is outside the worker",
    Health.FAILING: "what is published is older than it should be, or Redis cannot be used",
    Health.PAUSED: "a person has paused the resource; to continue: ordersync resume",
    Health.WITHDRAWN: "the resource was polled once, and the settings of the workers do not poll it any more",
}
_BARS = "▁▂▃▄▅▆▇█"
NARROW, WIDE = 6, 15
"""Minutes in a sparkline on a terminal with fewer than `_FULL` columns, and elsewhere."""
_FULL = 150
_BAR = 10


def sparkline(values: Sequence[int]) -> str:
    """Return numbers as bars, the latest on the right. The lowest bar is a space."""
    top = max(values, default=0)
    return "".join(_BARS[0] if not value else _BARS[1 + (value * 6) // top] for value in values)


def screen(rows: Sequence[Row], *, width: int | None = None, legend: bool = False) -> list[Line]:
    """Return all rows as lines, the verdict first.

    Args:
        rows: The rows.
        width: Columns of the terminal; None if there is no terminal, so that no line is folded.
        legend: End with what the health words mean.

    """
    worst, words = verdict(rows)
    lines: list[Line] = [(styled(shortened(words, width), COLOURS[worst] if rows else None),)]
    if rows:
        lines += ["", *_table(rows, width)]
        parts = (_accounts, _groups, _backlogs, _resyncs, _changes, _causes)
        for part in parts:
            result = list(part(rows))
            lines += ["", *result] if result else []
    if legend:
        lines += ["", *((styled(f"{health:<11}", COLOURS[health]), text) for health, text in LEGEND.items())]
    return lines if width is None else [piece for line in lines for piece in folded(line, width)]


def _table(rows: Sequence[Row], width: int | None) -> list[Line]:
    """Return the table of the rows, without the columns for which a terminal has no room."""
    minutes = NARROW if width and width < _FULL else WIDE
    table = [_COLUMNS, *(tuple(map(printable, _cells(row, minutes))) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    shown = set(_COLUMNS)
    for name in _LEFT_OUT:
        total = sum(room + 2 for room, column in zip(widths, _COLUMNS, strict=True) if column in shown) - 2
        if width is None or total <= width:
            break
        if name != "account" or len({row["account"] for row in rows}) == 1:
            shown.remove(name)
    lines: list[Line] = []
    for cells, row in zip(table, [None, *rows], strict=True):
        colour = COLOURS[Health(row["health"])] if row is not None else None
        padded: list[str | Styled] = [
            styled(f"{cell:<{room}}", colour) if column == "health" else f"{cell:<{room}}"
            for cell, room, column in zip(cells, widths, _COLUMNS, strict=True)
            if column in shown
        ]
        if isinstance(last := padded[-1], str):
            padded[-1] = last.rstrip()
        lines.append(tuple(part for cell in padded for part in (cell, "  "))[:-1])
    return lines


def one_line(row: Row) -> str:
    """Return a row as one line for a log or a pipe."""
    cause = f": {row['cause']}" if row["cause"] else ""
    fresh = f"fresh {age}" if (age := _fresh(row)) else "never read"
    records, events = (row["rate"][name][-1] for name in ("records_per_minute", "events_per_minute"))
    return (
        f"{row['account']}/{row['resource']} {row['health']}, {fresh}, {records} records and {events} events in the "
        f"last minute, {row['unread'] or 0} unread, {row['dead']} dead{cause}"
    )


def _cells(row: Row, minutes: int) -> tuple[str, ...]:
    fresh = _fresh(row) or "never"
    oldest = "" if row["dead_oldest_s"] is None else f" ({duration(row['dead_oldest_s'])})"
    if row["dead_expired"]:
        oldest += f", {row['dead_expired']} expired"
    unread = "-" if row["unread"] is None else str(row["unread"])
    rates = [row["rate"][name] for name in ("records_per_minute", "events_per_minute")]
    return (
        row["account"], row["resource"], row["health"], row["lane"], str(row["records"]), str(row["events"]),
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
        none = "no worker can write its heartbeat" if row["writes_refused"] else "no worker is alive"
        alive = f"{_counted(len(workers), 'worker')} alive: {names}" if workers else none
        used = "no requests in the last minute"
        if budget["share"] is not None:
            used = (
                f"{budget['requests_last_minute']} requests in the last minute, {budget['share']:.0%} of the "
                f"budget of {budget['requests_per_second']:g} per second"
            )
        yield f"{row['account']}: {alive}; {used}"
        for item in workers:
            if words := clock_words(item["worker"], item["clock_offset_s"]):
                yield f"{row['account']}: {words}"


def _groups(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for group in row["groups"]:
            late = "" if group["oldest_s"] is None else f", the oldest {duration(group['oldest_s'])} old"
            consumers = _counted(group["consumers"], "consumer") if group["consumers"] else "no consumer"
            yield (
                f"{row['account']}/{row['resource']}: group {group['group']} has {group['unread']} "
                f"unread and {group['pending']} pending events{late}; {consumers}"
            )


def _backlogs(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        item = row["backlog"]
        if item and item["share"] < 1:
            left = "" if item["left_s"] is None else f", about {duration(item['left_s'])} left"
            yield (
                f"{row['account']}/{row['resource']}: audit logs of the past {bar(item['share'])} "
                f"{item['share']:.0%} read{left}"
            )


def _resyncs(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for item in row["resyncs"]:
            done = "" if item["share"] is None else f" {bar(item['share'])} {item['share']:.0%}"
            error = f": {item['error']}" if item["error"] else ""
            yield (
                f"{row['account']}/{row['resource']}: resync {item['id']} of {item['what']} by {item['by']} is "
                f"{item['state']}{done}, {item['read']} read, {item['published']} published{error}"
            )


def _changes(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the last changes by commands of each account, the latest first."""
    for row in {row["account"]: row for row in rows}.values():
        for item in row["operator_log"]:
            yield f"{row['account']}: {item['at']} {item['by']}: {item['command']}: {item['outcome']}"


def bar(share: float) -> str:
    """Return a progress bar."""
    full = round(share * _BAR)
    return "█" * full + "▁" * (_BAR - full)


def _causes(rows: Sequence[Row]) -> Iterator[Line]:
    """Yield each cause once, with all resources that it concerns: a full Redis concerns all of them."""
    alike: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["cause"]:
            alike.setdefault((row["health"], row["cause"]), []).append(f"{row['account']}/{row['resource']}")
    for (health, cause), names in alike.items():
        verb = "is" if len(names) == 1 else "are"
        yield (f"{', '.join(names)} {verb} ", styled(health, COLOURS[Health(health)]), f": {cause}")
    for row in rows:
        for item in row["capabilities_withdrawn"]:
            if item["text"] != row["cause"]:
                yield (f"{row['account']}/{row['resource']}: {item['text']}",)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
