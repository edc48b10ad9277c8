"""`make delivery`: the chaos test of the consumers with 50,000 events, and what came of it in figures.

`python -m tests.chaos.delivery [--events N] [--rate R] [--seed S]`. TEST_SERVER names another server than Valkey.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.chaos.consuming import Plan, run
from tests.support.servers import Server
from worker.telemetry import log as logs


def main() -> int:
    """Run it once."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.delivery", description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--rate", type=float, default=Plan(1).rate, help="events a second")
    parser.add_argument("--seed", type=int, default=Plan(1).seed)
    given = parser.parse_args()
    logs.configure("json", "error")
    with tempfile.TemporaryDirectory(prefix="ordersync-delivery-") as folder:
        server = Server(Path(folder))
        server.start()
        try:
            report = asyncio.run(run(server.url, Plan(given.events, rate=given.rate, seed=given.seed)))
        finally:
            server.stop(kill=True)
    problems = report.broken()
    print("\n".join([report.figures(), *problems, *([] if problems else ["every promise was kept"])]))  # noqa: T201
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
