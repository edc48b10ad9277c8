"""`python -m tests.bench`: the engine beside a plain script, a careful script and the raw limit."""

from __future__ import annotations

import argparse
import sys

from tests.bench.harness import Setup, contenders, render, run


def main() -> int:
    default = Setup()
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--orders", type=int, default=default.orders)
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--aof", choices=("on", "off"), default="off")
    parser.add_argument("--latency", type=float, default=default.latency, help="milliseconds a page")
    parser.add_argument("--in-flight", type=int, default=default.in_flight)
    parser.add_argument("--bytes", type=int, default=default.record_bytes, help="size of one order")
    parser.add_argument("--only", nargs="+", choices=tuple(contenders()), help="these contenders alone")
    given = parser.parse_args()
    setup = Setup(
        orders=given.orders,
        rounds=given.rounds,
        aof=given.aof == "on",
        latency=given.latency,
        in_flight=given.in_flight,
        record_bytes=given.bytes,
    )
    table = run(setup, given.only or ())
    print(render(table, setup))
    return 1 if table.failures else 0


if __name__ == "__main__":
    sys.exit(main())
