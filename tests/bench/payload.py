"""What the options for events cost and save: `python -m tests.bench.payload`.

Each option reads all orders for the first time, then once more after every one of them has changed. Told are events
per second of the read, bytes of the stream for an event, and bytes of all that Redis took for a record in the first
read: its event, its state, and the record that is kept for old values.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, cast

import httpx
from redis import Redis

from tests.bench import engine
from tests.bench.harness import Setup, page_source, redis_server, sampled

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAM = engine.STREAM
OPTIONS = {
    "as served": {},
    "compressed": {"EVENTS__COMPRESS_ABOVE": "1000"},
    "previous": {"EVENTS__PREVIOUS": "true"},
    "both": {"EVENTS__COMPRESS_ABOVE": "1000", "EVENTS__PREVIOUS": "true"},
    "minimal": {"PRIVACY__POLICY": "minimal"},
}
"""Settings of each, without `ORDERSYNC_`."""


@dataclass(frozen=True, slots=True)
class Read:
    """One read: events per second, CPU microseconds and bytes of the stream for an event, bytes of Redis for it."""

    rate: float
    cpu: float
    entry: float
    taken: float


def read_all(client: Redis, redis_url: str, source: dict[str, str], setup: Setup, option: str) -> Read:
    """One complete read by `ordersync run --once`, in which every order makes an event."""
    length, size, used = _state_of(client)
    settings = {f"ORDERSYNC_{name}": value for name, value in OPTIONS[option].items()}
    output, _, cpu, _ = sampled(
        engine.command(), engine.environment(source, redis_url, setup.in_flight) | settings
    )
    result = engine.read_summary(output, cpu)
    length_after, size_after, used_after = _state_of(client)
    if not result.published == length_after - length == setup.orders:
        raise RuntimeError(f"{option}: {result.published} events, {setup.orders} expected")
    return Read(
        rate=setup.orders / result.seconds,
        cpu=cpu / setup.orders * 1e6,
        entry=(size_after - size) / setup.orders,
        taken=(used_after - used) / setup.orders,
    )


def _state_of(client: Redis) -> tuple[int, int, int]:
    """Entries and bytes of the stream, and bytes of all of Redis."""
    used = cast("dict[str, int]", client.info("memory"))["used_memory"]
    size = cast("int | None", client.memory_usage(STREAM, samples=0))
    return cast("int", client.xlen(STREAM)), size or 0, used


def run(setup: Setup) -> tuple[dict[str, list[Read]], dict[str, list[Read]]]:
    """First reads and reads of changes of every option; rounds are interleaved."""
    first: defaultdict[str, list[Read]] = defaultdict(list)
    changed: defaultdict[str, list[Read]] = defaultdict(list)
    with (
        redis_server(aof=setup.aof) as redis_url,
        page_source(setup) as source,
        Redis.from_url(redis_url) as client,
    ):
        for _ in range(setup.rounds):
            for option in OPTIONS:
                client.execute_command("FLUSHALL", "SYNC")
                first[option].append(read_all(client, redis_url, source, setup, option))
                httpx.post(
                    f"{source['url']}/_change", params={"n": setup.orders}, timeout=60
                ).raise_for_status()
                changed[option].append(read_all(client, redis_url, source, setup, option))
    return first, changed


def lines(title: str, reads: dict[str, list[Read]]) -> Iterator[str]:
    """A table as text."""
    plain = median(each.rate for each in reads["as served"])
    yield title
    columns = ("", "events/s", "of plain", "CPU us/event", "stream B/event", "Redis B/record")
    yield "  ".join(f"{column:>14}" for column in columns)
    for option, measured in reads.items():
        rate = median(each.rate for each in measured)
        cells = (
            option,
            f"{rate:,.0f}",
            f"{rate / plain:.0%}",
            f"{median(each.cpu for each in measured):.0f}",
            f"{median(each.entry for each in measured):,.0f}",
            f"{median(each.taken for each in measured):,.0f}",
        )
        yield "  ".join(f"{cell:>14}" for cell in cells)


def main() -> int:
    default = Setup()
    parser = argparse.ArgumentParser(prog="python -m tests.bench.payload", description=__doc__)
    parser.add_argument("--orders", type=int, default=default.orders)
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--bytes", type=int, default=default.record_bytes, help="size of one order")
    given = parser.parse_args()
    setup = Setup(orders=given.orders, rounds=given.rounds, record_bytes=given.bytes)
    first, changed = run(setup)
    print(
        f"{setup.orders} orders of {setup.record_bytes} B, median of {setup.rounds}; compressed above 1000 B\n"
    )
    print(
        "\n".join(
            [*lines("first full read", first), "", *lines("full read after every order changed", changed)]
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
