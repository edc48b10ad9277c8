"""`python -m tests.chaos.proof`: changes that no list shows, and whether the worker finds them in the audit logs.

A daemon has read every order of a sandbox. Then changes of some orders are hidden from all lists, as by a search index
that lost them. While the daemon heals them it is killed with SIGKILL and started again. At the end, each hidden change
must have been published exactly once, and nothing else as a gap. TEST_SERVER names another server than Valkey.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from redis.asyncio import Redis

from ordersync_consumer.envelope import Event, parse
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.waiting import PATIENCE, eventually
from worker.keys import Keys
from worker.redis.connections import answer, connect
from worker.sandbox import SandboxServer
from worker.telemetry import log as logs

ORDERS = 582
HIDDEN_STATUS = "Customer Care Hold"
BUDGET = 40
"""Requests in a second."""
SHARE = 0.5
"""Of them for the proof."""


async def healed(redis: Redis) -> list[Event]:
    """Return the events that the proof has published."""
    entries = await answer(redis.xrange(Keys("default").stream("orders")))
    events = [parse(entry, fields) for entry, fields in entries]
    return [event for event in events if event.reason == "reconcile"]


async def run(given: argparse.Namespace, server: Server, folder: Path) -> list[str]:
    """Play it, print the figures, and return what was promised and not kept."""
    redis = connect(server.url)
    with SandboxServer(orders=ORDERS, seed=given.seed) as sandbox:
        settings = login_settings(
            sandbox,
            server.url,
            folder,
            api__requests_per_second=str(BUDGET),
            reconcile__every="1",
            reconcile__lag="0",
            reconcile__share=str(SHARE),
            log__level="info",
        )
        hidden = Random(given.seed).sample(sandbox.store.ids(), given.changes)
        with Program(folder, **settings) as daemon:
            await daemon.logged("poll_done")
            sandbox.hide("orders", *hidden)
            for order in hidden:
                sandbox.store.change(order, status=HIDDEN_STATUS)
            began = time.monotonic()

            async def some() -> bool:
                return len(await healed(redis)) >= int(given.kill_after)

            await eventually(some)
        before = len(await healed(redis))

        async def all_of_them() -> bool:
            return len({event.subject for event in await healed(redis)}) >= len(hidden)

        with Program(folder, **settings) as daemon:
            await eventually(all_of_them)
            seconds = time.monotonic() - began
            await daemon.logged("coverage_proven", 2, PATIENCE)  # a whole pass finds nothing more
        events = await healed(redis)
        truth = sandbox.store.truth()
    await redis.aclose()
    times = Counter(event.subject for event in events)
    print(  # noqa: T201 - figures are what this program is for
        f"{len(hidden)} hidden changes, SIGKILL after {before} were healed: "
        f"{len(times.keys() & set(hidden))} found and healed in {seconds:.1f} s, of {ORDERS} orders"
    )
    problems = [f"{order} was not healed" for order in hidden if order not in times]
    problems += [f"{order} was no gap" for order in times.keys() - set(hidden)]
    problems += [f"{order} was published {count} times" for order, count in times.items() if count > 1]
    problems += [f"{event.subject} is not as it is" for event in events if event.data != truth[event.subject]]
    return problems


def main() -> int:
    """Run it once."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.proof", description=__doc__)
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--kill-after", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logs.configure("json", "error")
    with tempfile.TemporaryDirectory(prefix="ordersync-proof-") as name:
        server = Server(Path(name))
        server.start()
        try:
            problems = asyncio.run(run(given, server, Path(name)))
        finally:
            server.stop(kill=True)
    print("\n".join(problems or ["every promise was kept"]))  # noqa: T201 - as above
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
