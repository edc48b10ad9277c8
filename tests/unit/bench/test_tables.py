"""Tables of the benchmarks: ratios inside one run, and a page that says how it was made."""

from __future__ import annotations

from tests.bench import tables
from tests.bench.contest import Measured, Table, contenders
from tests.bench.harness import Setup
from tests.bench.peers import PEERS
from tests.bench.rivals import Result
from tests.support.paths import ROOT


def run(rate: float, worker: float, server: float) -> Measured:
    """A read of 1,000 records at this rate, with these microseconds of CPU for each; the source takes 1."""
    result = Result(records=1000, published=1000, seconds=1000 / rate, cpu_seconds=0.1)
    return Measured(result, 80_000_000, 0.5, 3000.0, worker, server, 1.0)


def measured() -> Table:
    """Two rounds of three contenders; the engine has a bad round with a neighbour."""
    everybody = contenders()
    shown = {name: everybody[name] for name in ("raw", "engine", "careful", "plain", "dlt")}
    table = Table(Setup(orders=1000, rounds=3), shown, load=[0.5, 2.0])
    table.runs["first"]["raw"] = [run(100_000, 7, 7), run(90_000, 8, 6), run(110_000, 7, 7)]
    table.runs["first"]["engine"] = [run(40_000, 20, 12), run(10_000, 21, 12), run(41_000, 20, 9)]
    table.runs["first"]["plain"] = [run(4_000, 200, 69)] * 3
    table.runs["first"]["dlt"] = [run(2_000, 299, 0)] * 3
    table.failures["careful"] = "RuntimeError: exit code 1"
    return table


def test_ratios() -> None:
    """Rates and CPU are medians, beside those of raw; CPU is that of all three processes."""
    table = measured()
    header, *rows = tables.grid(table.runs["first"], table)
    found = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert list(found) == ["raw", "engine", "plain", "dlt"]
    engine = found["engine"]
    assert (engine["records/s"], engine["of raw"], engine["x plain"]) == ("40,000", "40.0%", "10.00")
    assert (engine["x careful"], found["dlt"]["Redis B/rec"]) == ("-", "-")
    assert (engine["CPU us/rec"], engine["CPU x raw"], engine["worker"]) == ("33.0", "2.20", "20.0")
    assert found["dlt"]["CPU x raw"] == "20.00"


def test_who_fails_is_named() -> None:
    """Without figures, and the others have theirs."""
    assert "failed: careful: RuntimeError: exit code 1" in tables.text(measured())


def test_the_page_says_how_it_was_made() -> None:
    """Command, machine, load, versions; and a row for each contender that was measured."""
    text = tables.page([measured()], "python -m tests.bench --peers")
    assert "$ python -m tests.bench --peers\n" in text
    assert "1,000 orders of 2,500 bytes" in text
    assert "load 0.5 to 2.0" in text
    assert "Valkey 9" in text
    assert f"dlt {PEERS[0].version}" in text
    assert "airbyte" not in text
    assert "| engine | 40,000 | 40.0% |" in text
    assert "{" not in text


def test_the_page_of_the_documentation_is_such_a_page() -> None:
    """Its columns are those of the command, and its other tools have the versions that are installed now."""
    text = (ROOT / "docs/reference/benchmarks.md").read_text(encoding="utf-8")
    assert text.startswith(tables.PAGE.read_text(encoding="utf-8").partition("{command}")[0])
    assert "|  | " + " | ".join(tables.COLUMNS) + " |" in text
    for peer in PEERS:
        assert f"| {peer.name} | {peer.package} {peer.version}: {peer.what}" in text
