"""`python -m tests.bench`: the engine beside a plain script, a careful script and the raw limit."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from tests.bench import tables
from tests.bench.contest import contenders, run, tree
from tests.bench.harness import Setup
from tests.bench.peers import PEERS

IN_VARIANTS = ("raw", "engine", "careful")


def main() -> int:
    default, everybody = Setup(), contenders()
    of_peers = {peer.name for peer in PEERS}
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--orders", type=int, default=default.orders)
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--aof", choices=("on", "off"), default="off")
    parser.add_argument("--latency", type=float, default=default.latency, help="milliseconds a page")
    parser.add_argument("--in-flight", type=int, default=default.in_flight)
    parser.add_argument("--bytes", type=int, default=default.record_bytes, help="size of one order")
    parser.add_argument("--only", nargs="+", choices=tuple(everybody), help="these contenders alone")
    parser.add_argument(
        "--peers",
        action="store_true",
        help="also dlt, Airbyte's CDK and the Singer SDK, which are installed into the cache folder first",
    )
    parser.add_argument(
        "--tree",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "FOLDER"),
        help="also the engine of another checkout, in which `make install` has been run",
    )
    parser.add_argument(
        "--variants",
        action="store_true",
        help="raw, engine and careful again with the append-only file, and with 20 ms a page and 16 in flight",
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables as a page as well")
    given = parser.parse_args()
    trees = [tree(name, Path(folder)) for name, folder in given.tree]
    chosen = [
        contender
        for name, contender in everybody.items()
        if (name in given.only if given.only else given.peers or name not in of_peers)
    ]
    setup = Setup(
        orders=given.orders,
        rounds=given.rounds,
        aof=given.aof == "on",
        latency=given.latency,
        in_flight=given.in_flight,
        record_bytes=given.bytes,
    )
    found = [run(setup, chosen + trees)]
    print(tables.text(found[0]), flush=True)
    variants = (
        (replace(setup, aof=True), replace(setup, latency=20.0, in_flight=16)) if given.variants else ()
    )
    for variant in variants:
        found.append(run(variant, [everybody[name] for name in IN_VARIANTS if name in everybody] + trees))
        print(f"\n{tables.text(found[-1])}", flush=True)
    if given.write is not None:
        command = shlex.join([".venv/bin/python", "-m", "tests.bench", *sys.argv[1:]])
        given.write.write_text(tables.page(found, command), encoding="utf-8")
    return 1 if any(table.failures for table in found) else 0


if __name__ == "__main__":
    sys.exit(main())
