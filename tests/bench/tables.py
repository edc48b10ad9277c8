"""The measurements as tables: for a terminal, and as a page of the documentation."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psutil

from tests.bench.contest import rate
from tests.bench.harness import server_version
from worker.capture.records import compiled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.contest import Runs, Table
    from tests.bench.harness import Setup

TITLES = {"first": "First full read", "unchanged": "Full read in which nothing changed"}
COLUMNS = (
    "records/s", "of raw", "x careful", "x plain", "CPU us/rec", "CPU x raw", "worker", "server", "source", "start s",
    "RSS MB", "Redis B/rec",
)  # fmt: skip
BUSY = (
    " Other programs kept the machine busy: the rates are far below what it can do, and move from run to run. "
    "The CPU and its ratios are the figures to look at."
)
PAGE = Path(__file__).with_name("page.md")


def cells(name: str, runs: Runs, table: Table) -> list[str]:
    """One row, without its name."""
    measured, rates = runs[name], {one: rate(found) for one, found in runs.items() if found}
    totals = {one: median(run.total for run in found) for one, found in runs.items() if found}

    def middle(attribute: str) -> float:
        return median(float(getattr(run, attribute)) for run in measured)

    def beside(values: dict[str, float], other: str, form: str) -> str:
        return format(values[name] / values[other], form) if values.get(other) else "-"

    row = [
        f"{rates[name]:,.0f}",
        beside(rates, "raw", ".1%"),
        beside(rates, "careful", ".2f"),
        beside(rates, "plain", ".2f"),
        f"{totals[name]:.1f}",
        beside(totals, "raw", ".2f"),
        *(f"{middle(process):.1f}" for process in ("worker", "server", "source")),
        f"{middle('start_seconds'):.2f}",
        f"{middle('peak_rss') / 1e6:.0f}",
        f"{middle('entry_bytes'):.0f}" if table.contenders[name].stream else "-",
    ]
    if table.setup.latency:
        in_flight = table.setup.in_flight if table.contenders[name].concurrent else 1
        row.append(f"{rates[name] / (in_flight * 100 / (table.setup.latency / 1000)):.1%}")
    return row


def grid(runs: Runs, table: Table) -> Iterator[list[str]]:
    """A table as rows, the fastest first, with its header."""
    yield ["", *COLUMNS, *(["of latency"] if table.setup.latency else [])]
    for name in sorted((one for one, found in runs.items() if found), key=lambda one: -rate(runs[one])):
        yield [name, *cells(name, runs, table)]


def described(table: Table) -> str:
    """What a table was measured with."""
    setup = table.setup
    load = f", load {min(table.load):.1f} to {max(table.load):.1f}" if table.load else ""
    return (
        f"{setup.orders:,} orders of {setup.record_bytes:,} bytes, pages of 100, {setup.in_flight} in flight, "
        f"{setup.latency:g} ms a page, append-only file {'on (everysec)' if setup.aof else 'off'}, "
        f"median of {setup.rounds}{load}"
    )


def sections(table: Table) -> Iterator[tuple[str, Runs]]:
    """The tables that have rows, with their titles."""
    yield from ((TITLES[mode], runs) for mode, runs in table.runs.items() if runs)


def text(table: Table) -> str:
    """The tables for a terminal."""
    lines = [described(table)]
    for title, runs in sections(table):
        lines += ["", title]
        lines += ["  ".join(f"{cell:>11}" for cell in row) for row in grid(runs, table)]
    lines += [f"failed: {name}: {why}" for name, why in table.failures.items()]
    return "\n".join(lines)


def page(tables: Sequence[Table], command: str) -> str:
    """The page of the documentation."""
    told = []
    for table in tables:
        for title, runs in sections(table):
            header, *rows = grid(runs, table)
            told += [f"## {title}{_variant(table.setup)}", "", f"{described(table)}.", ""]
            told += [_row(header), "|---" + "|--:" * (len(header) - 1) + "|", *map(_row, rows), ""]
    what = {name: one.what for table in tables for name, one in table.contenders.items() if one.what}
    lines = [f"| {name} | {words} |\n" for name, words in what.items()]
    return PAGE.read_text(encoding="utf-8").format(
        command=command, others="".join(lines), machine=machine(tables), sections="\n".join(told)
    )


def machine(tables: Sequence[Table]) -> str:
    """The machine and the versions, and whether others have used it, in sentences."""
    model = _first(r"(?m)^model name\s*: (.+)$", Path("/proc/cpuinfo")) or platform.machine()
    memory = psutil.virtual_memory().total / 1e9
    busy = max((load for table in tables for load in table.load), default=0.0) > 2 * (os.cpu_count() or 1)
    return (
        f"Measured on {os.cpu_count()} cores ({model}), {memory:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, {server_version()}, "
        f"{'without' if compiled.missing else 'with'} the compiled reader.{BUSY if busy else ''}\n"
    )


def _first(pattern: str, file: Path) -> str:
    found = re.search(pattern, file.read_text()) if file.exists() else None
    return found[1].strip() if found else ""


def _variant(setup: Setup) -> str:
    if setup.latency:
        return f", {setup.latency:g} ms a page"
    return ", append-only file on" if setup.aof else ""


def _row(row: Sequence[str]) -> str:
    return "| " + " | ".join(row) + " |"
