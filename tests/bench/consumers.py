"""The consumer kit beside plain XREADGROUP loops: `python -m tests.bench.consumers`.

Every contender reads the same stream a few times, through a new group each time, in a process of its own; rounds are
interleaved. Only ratios inside one run mean anything. The work on an event is to look at its type and the length of its
record, for which nobody has to wait.

- `loop`: XREADGROUP of 100, then one XACK for all of them. Loses what it had when it is killed, and knows no
  retries, order or dead letters. The kit is held against it.
- `loop, parsed`: the same, with each entry made an `Event`, as the kit does.
- `loop, ack each`: the same with an XACK for each event, as most people write it.
- `kit run`, `kit batches`, `kit ack each`: `Consumer.run` with 8 workers, `batches(100)` with one
  acknowledgement for each batch, and `async for` with one for each event.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from ordersync_consumer import Consumer
from ordersync_consumer.envelope import parse
from tests.bench.harness import redis_server, sampled
from tests.support.streams import STREAM, fields_of
from worker.telemetry import log as logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ordersync_consumer import Delivery, Event

SUBJECTS = 5_000


class Work:
    """What is done about an event."""

    def __init__(self) -> None:
        self.events = self.length = 0

    def raw(self, fields: dict[bytes, bytes]) -> None:
        """Look at the fields of an entry."""
        self.events += fields[b"type"].endswith(b".created")
        self.length += len(fields[b"data"])

    def event(self, event: Event) -> None:
        """Look at an event."""
        self.events += event.action == "created"
        self.length += len(event.data)


async def loop(client: AsyncRedis, work: Work, *, parsed: bool = False, each: bool = False) -> None:
    """The loops of other people."""
    await client.xgroup_create(STREAM, "g", id="0")
    while True:
        found = await client.xreadgroup("g", "me", {STREAM: ">"}, count=100)
        if not found:
            return
        for entry_id, fields in found[0][1]:
            if parsed:
                work.event(parse(entry_id, fields))
            else:
                work.raw(fields)
            if each:
                await client.xack(STREAM, "g", entry_id)
        if not each:
            await client.xack(STREAM, "g", *(entry_id for entry_id, _ in found[0][1]))


async def kit(client: AsyncRedis, work: Work, way: str) -> None:
    """The kit."""
    async with Consumer(client, group="g", resources=["orders"], name="me", wait=False) as consumer:
        if way == "run":

            async def handle(delivery: Delivery) -> None:
                work.event(delivery.event)

            await consumer.run(handle, parallel=8)
        elif way == "batches":
            async for batch in consumer.batches(100):
                for delivery in batch:
                    work.event(delivery.event)
                await batch.ack()
        else:
            async for delivery in consumer:
                work.event(delivery.event)
                await delivery.ack()


CONTENDERS: dict[str, Callable[[AsyncRedis, Work], Awaitable[None]]] = {
    "loop": loop,
    "loop, parsed": lambda client, work: loop(client, work, parsed=True),
    "loop, ack each": lambda client, work: loop(client, work, each=True),
    "kit run": lambda client, work: kit(client, work, "run"),
    "kit batches": lambda client, work: kit(client, work, "batches"),
    "kit ack each": lambda client, work: kit(client, work, "each"),
}


async def contend(name: str, url: str, passes: int) -> dict[str, Any]:
    """Read the whole stream so many times; the times of each, and what was seen."""
    client, work = AsyncRedis.from_url(url), Work()
    await client.ping()
    await (
        anyio.lowlevel.checkpoint()
    )  # imports its backend: a start takes as long whatever the number of events
    seconds, cpu = [], []
    for _ in range(passes):
        began, cpu_began = time.perf_counter(), time.process_time()
        await CONTENDERS[name](client, work)
        cpu.append(time.process_time() - cpu_began)
        seconds.append(time.perf_counter() - began)
        pending: Any = await client.xpending(STREAM, "g")
        if pending["pending"]:
            raise RuntimeError(f"{name} left {pending['pending']} events pending")
        await client.xgroup_destroy(STREAM, "g")
    await client.aclose()
    return {"seconds": seconds, "cpu": cpu, "events": work.events}


def fill(client: Redis, events: int, size: int) -> None:
    """Write the stream."""
    data = b'{"id":"a","text":"' + b"x" * max(0, size - 20) + b'"}'
    for start in range(0, events, 1000):
        pipe = client.pipeline(transaction=False)
        for number in range(start, min(start + 1000, events)):
            pipe.xadd(STREAM, fields_of(number, data) | {"subject": f"s{number % SUBJECTS}"})  # type: ignore[arg-type] # invariant dict
        pipe.execute()


def measure(name: str, url: str, events: int, passes: int) -> dict[str, Any]:
    """One process of one contender, checked by what it saw."""
    command = [
        sys.executable,
        "-m",
        "tests.bench.consumers",
        "--passes",
        str(passes),
        "--contender",
        name,
        url,
    ]
    told: dict[str, Any] = json.loads(sampled(command, {})[0])
    if told["events"] != events * passes:
        raise RuntimeError(f"{name} saw {told['events']} of {events * passes}")
    return told


def main() -> int:
    """All rounds of all contenders."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.consumers", description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--bytes", type=int, default=2_500, help="size of one record")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--passes", type=int, default=3, help="how often a process reads the stream")
    parser.add_argument(
        "--only", nargs="+", choices=tuple(CONTENDERS), metavar="NAME", default=list(CONTENDERS)
    )
    parser.add_argument("--contender", choices=tuple(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("url", nargs="?", help=argparse.SUPPRESS)
    given = parser.parse_args()
    logs.configure("json", "error")
    if given.contender:
        print(json.dumps(asyncio.run(contend(given.contender, given.url, given.passes))))
        return 0
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in dict.fromkeys(["loop", *given.only])}
    with redis_server(aof=False) as url:
        with Redis.from_url(url) as client:
            fill(client, given.events, given.bytes)
        for _ in range(given.rounds):
            for name, some in runs.items():
                some.append(measure(name, url, given.events, given.passes))
    print(
        f"{given.events} events of {given.bytes} B, median rate and least CPU of {given.rounds} x {given.passes}\n"
    )
    print(f"{'':>16}  {'events/s':>10}  {'of loop':>8}  {'CPU us/event':>12}  {'of loop':>8}")
    rates = {
        name: median(given.events / seconds for run in some for seconds in run["seconds"])
        for name, some in runs.items()
    }
    # The least of the rounds: what other programs of the machine cost is added, never taken away.
    cpu = {
        name: min(least for run in some for least in run["cpu"]) / given.events * 1e6
        for name, some in runs.items()
    }
    for name in sorted(rates, key=lambda one: -rates[one]):
        print(
            f"{name:>16}  {rates[name]:>10,.0f}  {rates[name] / rates['loop']:>8.0%}  {cpu[name]:>12.1f}  "
            f"{cpu['loop'] / cpu[name]:>8.0%}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
