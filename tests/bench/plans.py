"""What each plan costs in requests: `python -m tests.bench.plans`.

An hour is played in which nothing changes, and one with so many changes before each poll; a poll is due every 15 s and
a complete read once an hour, by a clock that is moved. Everything else is real: the sandbox over HTTP, the server, the
budget, the probe. The probe itself is not counted: it asks once a day.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.harness import redis_server
from tests.support.faulty_gateway import MovedClock
from tests.support.worker import BenchContext
from worker.sandbox import SandboxServer, ServedContract
from worker.telemetry import log as logs

if TYPE_CHECKING:
    from tests.support.worker import Bench

INTERVAL = 15.0
PLANS: dict[str, dict[str, Any]] = {
    "window": {"since_honoured": True, "choices_honoured": False},
    "window, sorted": {"since_honoured": True, "sort_honoured": True, "choices_honoured": False},
    "head": {"sort_honoured": True, "choices_honoured": False},
    "open": {},
    "sweep": {"choices_honoured": False},
}


@dataclass(frozen=True, slots=True)
class Hour:
    """Requests of an hour, events that it published, and the plans that were read by."""

    requests: int
    events: int
    plans: tuple[str, ...]


async def hour(b: Bench, clock: MovedClock, changes: int) -> Hour:
    """One hour of polls, with so many changes before each."""
    requests, events, plans = 0, 0, dict[str, None]()
    for _ in range(int(3600 / INTERVAL)):
        clock.offset += INTERVAL
        if changes:
            b.sandbox.store.change(changes)
        run = await b.poll()
        if run.outcome != "complete":
            print(f"  {run.plan} ended {run.outcome}: {run.error}")
        requests, events = requests + run.usage.requests, events + run.published
        plans[run.plan] = None
    return Hour(requests, events, tuple(plans))


async def measure(plan: str, orders: int, page_size: int, url: str) -> list[str]:
    """A row of the table."""
    cells = [plan]
    for changes in (0, 1, 20):
        with SandboxServer(orders=orders, contract=ServedContract(**PLANS[plan])) as sandbox:
            clock = MovedClock()
            options = {"probe": True, "page_size": page_size, "clock": clock}
            async with BenchContext(sandbox, url, options) as b:
                await b.redis.flushall()
                await b.poll()
                await b.poll()
                one = await hour(b, clock, changes)
                if changes:
                    cells.append(f"{one.requests / max(one.events, 1):.2f} ({one.requests}/{one.events})")
                else:
                    cells += [str(one.requests), f"{one.requests / (3600 / INTERVAL):.2f}"]
    return cells


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.plans", description=__doc__)
    parser.add_argument("--orders", type=int, default=3050)
    parser.add_argument("--page-size", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=tuple(PLANS), default=tuple(PLANS))
    given = parser.parse_args()
    logs.configure("json", "error")
    print(f"{given.orders} orders, pages of {given.page_size}, a poll every {INTERVAL:g} s")
    heads = ("plan", "quiet hour", "a poll", "per change, 1 a poll", "per change, 20 a poll")
    print("  ".join(f"{head:>22}" for head in heads))
    with redis_server(aof=False) as url:
        for plan in given.only:
            cells = asyncio.run(measure(plan, given.orders, given.page_size, url))
            print("  ".join(f"{cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
