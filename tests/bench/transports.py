"""The same reading loop through several HTTP transports: `python -m tests.bench.transports`.

Pages of 100 orders are fetched, split and fingerprinted, without Redis, so that the difference is the
transport's. Every transport runs in a process of its own, rounds interleaved; only ratios mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import defaultdict
from contextlib import asynccontextmanager
from itertools import count
from statistics import median
from typing import TYPE_CHECKING

import aiohttp
import httpx
import msgspec
import uvloop
from xxhash import xxh3_64_digest

from tests.bench.harness import Setup, page_source, sampled
from tests.bench.rawhttp import RawConnection
from tests.bench.rivals import PAGE_SIZE, Result, Stopwatch
from tests.bench.rivals.raw import Heads, Raws
from worker.config.sections import ApiSettings
from worker.ordermesh.http.transport import READ_BUFFER, make_http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Fetch = Callable[[str], Awaitable[bytes]]

LATENCIES = (0.0, 20.0)
IN_FLIGHT = (4, 16)


@asynccontextmanager
async def through_httpx(url: str, in_flight: int) -> AsyncIterator[Fetch]:
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    headers = {"Authorization": "Bearer bench"}
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30, headers=headers) as client:

        async def fetch(target: str) -> bytes:
            response = await client.get(target)
            return response.content

        yield fetch


@asynccontextmanager
async def through_worker(url: str, in_flight: int) -> AsyncIterator[Fetch]:
    """What the worker sends with: timeouts, limits of the response, errors of httpx."""
    http = make_http(ApiSettings(base_url=url, max_concurrency=in_flight))

    async def fetch(target: str) -> bytes:
        response = await http.send("GET", url + target, headers={"Authorization": "Bearer bench"})
        return response.content

    yield fetch
    await http.aclose()


@asynccontextmanager
async def through_aiohttp(url: str, in_flight: int) -> AsyncIterator[Fetch]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=in_flight),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BUFFER,
    ) as client:

        async def fetch(target: str) -> bytes:
            async with client.get(url + target, headers={"Authorization": "Bearer bench"}) as response:
                return await response.read()

        yield fetch


@asynccontextmanager
async def through_sockets(url: str, in_flight: int) -> AsyncIterator[Fetch]:
    idle = [await RawConnection.open(url) for _ in range(in_flight)]

    async def fetch(target: str) -> bytes:
        connection = idle.pop()
        try:
            return await connection.request(target)
        finally:
            idle.append(connection)

    yield fetch
    for connection in idle:
        connection.close()


WAYS = {
    "raw sockets": through_sockets,
    "aiohttp": through_aiohttp,
    "the worker's": through_worker,
    "httpx": through_httpx,
}


async def read_all(name: str, url: str, in_flight: int) -> Result:
    """One full read: fetch, split, fingerprint."""
    ids_of = msgspec.json.Decoder(Heads).decode
    raws_of = msgspec.json.Decoder(Raws).decode
    async with WAYS[name](url, in_flight) as fetch:
        await asyncio.gather(*(fetch("/order/v1/orders?pageSize=1&page=1") for _ in range(in_flight)))
        watch = Stopwatch()
        pages = count(1)

        async def read() -> None:
            for page in pages:
                body = await fetch(f"/order/v1/orders?page={page}&pageSize={PAGE_SIZE}")
                raws = raws_of(body).orders
                prints = {
                    head.id: xxh3_64_digest(raw) for head, raw in zip(ids_of(body).orders, raws, strict=True)
                }
                watch.count(len(prints), 0)
                if len(raws) < PAGE_SIZE:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(read())
        return watch.result()


def compare(setup: Setup, only: str | None) -> None:
    """Run everything and print one table."""
    names = [name for name in WAYS if only is None or only in name]
    runs: defaultdict[tuple[str, int, float], list[Result]] = defaultdict(list)
    with page_source(setup) as source:
        for latency in LATENCIES:
            httpx.post(f"{source['url']}/_latency?ms={latency}").raise_for_status()
            for in_flight in IN_FLIGHT:
                for _ in range(setup.rounds):
                    for name in names:
                        command = [sys.executable, "-m", "tests.bench.transports", "--one", name]
                        command += ["--url", source["url"], "--in-flight", str(in_flight)]
                        output = sampled(command, {})[0]
                        runs[name, in_flight, latency].append(Result(**json.loads(output)))
    cases = [(in_flight, latency) for latency in LATENCIES for in_flight in IN_FLIGHT]
    print(
        f"{setup.orders} orders of {setup.record_bytes} B, pages of 100, median of {setup.rounds}: records/s,"
    )
    print("share of raw sockets, CPU microseconds a record")
    titles = [f"{in_flight} in flight, {latency:g} ms" for in_flight, latency in cases]
    print(f"{'':>18}" + "".join(f"{title:>26}" for title in titles))
    for name in names:
        cells = []
        for in_flight, latency in cases:
            rates = {
                one: median(run.records / run.seconds for run in runs[one, in_flight, latency])
                for one in names
            }
            cpu = median(run.cpu_seconds / run.records for run in runs[name, in_flight, latency]) * 1e6
            share = f"{rates[name] / rates['raw sockets']:.0%}" if "raw sockets" in rates else "-"
            cells.append(f"{rates[name]:>12,.0f} {share:>6} {cpu:>6.1f}")
        print(f"{name:>18}" + "".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.transports", description=__doc__)
    parser.add_argument("--orders", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="part of a name")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--in-flight", type=int, default=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(uvloop.run(read_all(given.one, given.url, given.in_flight)).as_json())
    else:
        compare(Setup(orders=given.orders, rounds=given.rounds), given.only)


if __name__ == "__main__":
    main()
