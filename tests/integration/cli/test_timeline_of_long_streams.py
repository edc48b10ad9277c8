"""The timeline of an order in a long stream: complete, or with what is not there, at the price of a short stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import Server
from tests.support.streams import KEYS, STREAM, fill
from tests.support.worker import Bench, BenchMaker
from worker.admin.timeline import NAMES, SCAN, NoSuchOrder, Timeline, TimelineCollector
from worker.admin.timeline_entries import SECOND_GENERATION, entry_order
from worker.capture.registry import ORDERS
from worker.capture.resync.requests import ResyncRequest
from worker.ordermesh.client import OrderMeshClient
from worker.queue.search import AT_ONCE
from worker.redis.connections import answer

pytestmark = pytest.mark.anyio

NOW = 2_000_000_000.0
MOST_LOOKUPS = 12
"""Of an event that a link leads to; see `tests/integration/queue/test_links.py`."""
MOST_SCANS = 25
"""Parts of streams, of up to `AT_ONCE` events each, that a timeline reads however long the streams are."""


async def timeline(
    b: Bench, name: str, api: OrderMeshClient | None = None
) -> tuple[Timeline, dict[str, Any]]:
    """The timeline of an order, found in Redis alone without `api`, and the statistics of the commands it took."""
    await b.redis.config_resetstat()
    found = await TimelineCollector(b.redis, KEYS, api, now=NOW).collect(name)
    return found, await b.redis.info("commandstats")


def versions(found: Timeline) -> list[int]:
    """The versions of the order whose events were found."""
    return [entry.facts["version"] for entry in found.entries if entry.resource == "orders"]


def calls(stats: dict[str, Any], command: str) -> int:
    """How often a command was called, also by scripts."""
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def lookups(stats: dict[str, Any]) -> int:
    """How often entries of a stream were read: those that links lead to, and parts that were scanned."""
    return calls(stats, "xrange") + calls(stats, "xrevrange")


def scripts(stats: dict[str, Any]) -> int:
    """How often Redis ran a script or function."""
    return sum(row["calls"] for name, row in stats.items() if "eval" in name or "fcall" in name)


def milliseconds(stats: dict[str, Any]) -> float:
    """The time of the scripts and functions: all that takes more than a look-up."""
    return sum(float(row["usec"]) for name, row in stats.items() if "eval" in name or "fcall" in name) / 1000


async def delete(b: Bench, order_id: str) -> None:
    """Let an order be deleted, and the worker find that out."""
    b.sandbox.store.delete(order_id)
    await b.poll(complete=True)
    await answer(b.redis.zadd(KEYS.refresh_queue("orders"), {f"id:{order_id}": 1}))
    assert (await b.poll(follow_ups_only=True)).deleted == 1


async def publish_again(b: Bench, order_id: str) -> None:
    """Let a resync publish an unchanged order again."""
    wanted = ResyncRequest(resource="orders", ids=(order_id,), force=True)
    resyncer = b.account.resyncer
    name = (await resyncer.resyncs.create(wanted, b.services.clock.now())).id
    await resyncer.slice(ORDERS, name)


@pytest.mark.parametrize(
    ("length", "changes"), [(100_000, 50), pytest.param(1_000_000, 200, marks=pytest.mark.long)]
)
async def test_an_order_is_found_whatever_is_beside_it(
    bench: BenchMaker,
    tmp_path: Path,
    length: int,
    changes: int,
    record_property: Callable[[str, object], None],
) -> None:
    """One that was deleted, one that was published again, one with many events: all of their events, few look-ups."""
    server = Server(tmp_path, None, "--appendonly", "no")
    server.start()
    try:
        async with bench(url=server.url) as b:
            await b.poll()
            plain, deleted, again, busy = list(b.sandbox.store.truth())[:4]
            names = json.loads(b.sandbox.store.truth()[busy])
            await fill(b.redis, length // 4)
            b.sandbox.store.change(plain, status="Fulfilled")
            await b.poll()
            await delete(b, deleted)
            await publish_again(b, again)
            await fill(b.redis, length // 4)
            for number in range(changes):
                b.sandbox.store.change(busy, externalId=f"busy-{number}")
                await b.poll()
                await fill(b.redis, 100)
            await fill(b.redis, length // 2)
            assert await b.redis.xlen(STREAM) > length

            for name, number in ((plain, 2), (deleted, 2), (again, 2), (busy, changes + 1)):
                found, stats = await timeline(b, name)
                assert (versions(found), found.remarks) == (list(range(1, number + 1)), [])
                assert lookups(stats) <= MOST_LOOKUPS * number + MOST_SCANS
                assert scripts(stats) <= 2 * MOST_SCANS
                record_property(f"ms of Redis for {number} events of {length}", milliseconds(stats))

            # Without OrderMesh another name is looked for in the newest events alone, and it is said what to type.
            for name in {*(names[name] for name in NAMES)} - {busy}:
                with pytest.raises(NoSuchOrder) as refused:
                    await timeline(b, name)
                assert f"Only the last {SCAN} events of orders were searched (--scan)" in str(refused.value)
                assert "Pass the id of the order, let `ordersync timeline " in str(refused.value)
                assert calls(await b.redis.info("commandstats"), "xrevrange") <= SCAN // AT_ONCE + 1
            # With it, each leads to the id, and the id to the events.
            for name in (names["shortId"], names["safeId"], f"busy-{changes - 1}"):
                found, stats = await timeline(b, name, b.account.client)
                assert (found.order["id"], versions(found)) == (busy, list(range(1, changes + 2)))
                assert lookups(stats) <= MOST_LOOKUPS * (changes + 1) + MOST_SCANS
    finally:
        server.stop(kill=True)


async def test_what_retention_took_is_said(bench: BenchMaker) -> None:
    """The link leads to an event that is not in the stream any more, or that was removed alone."""
    async with bench() as b:
        await b.poll()
        first, second = list(b.sandbox.store.truth())[:2]
        for number in range(3):
            await fill(b.redis, 2 * SCAN)
            b.sandbox.store.change(first, externalId=f"{number}")
            b.sandbox.store.change(second, externalId=f"other-{number}")
            await b.poll()
        entries = [event.entry_id for event in await b.events() if event.subject == second]
        await b.redis.xdel(STREAM, entries[2])
        found, stats = await timeline(b, second)
        assert versions(found) == [4]
        (cut, gone) = found.remarks
        assert cut.startswith(f"Only the last {SCAN} events of orders were searched (--scan), back to ")
        assert gone == (
            "Versions 1 to 3 of the order were published but not found: retention has removed the events, or --scan "
            "is too small."
        )
        assert lookups(stats) <= 4 * MOST_LOOKUPS + MOST_SCANS
        await b.redis.xtrim(STREAM, minid=entries[1], approximate=False)
        found, _ = await timeline(b, first)
        assert versions(found) == [2, 3, 4] or versions(found) == [3, 4]
        gone = (
            "Version 1 of the order was" if len(versions(found)) == 3 else "Versions 1 to 2 of the order were"
        )
        assert found.remarks == [f"{gone} published but not found: retention has removed the events."]
        await b.redis.xtrim(STREAM, maxlen=0, approximate=False)
        found, _ = await timeline(b, first)
        assert versions(found) == []
        assert found.remarks == [
            "Versions 1 to 4 of the order were published but not found: retention has removed the events."
        ]


async def test_after_a_restart_of_redis(bench: BenchMaker, own_server: Server) -> None:
    """Links hold. Where Redis has lost events, those that are there are found, and it says that others may be gone."""
    async with bench(url=own_server.url) as b:
        await b.poll()
        order = next(iter(b.sandbox.store.truth()))
        b.sandbox.store.change(order, externalId="1")
        await b.poll()
        copy = own_server.back_up()
        b.sandbox.store.change(order, externalId="2")
        await b.poll()
        own_server.stop()
        own_server.start()
        found, _ = await timeline(b, order)
        assert (versions(found), found.remarks) == ([1, 2, 3], [])
        own_server.go_back(copy)
        found, _ = await timeline(b, order)
        assert (versions(found), found.remarks) == ([1, 2], [])
        await b.poll(complete=True)
        found, _ = await timeline(b, order)
        assert versions(found)[:2] == [1, 2]
        assert (len(versions(found)), found.remarks) == (3, [])
        await b.redis.delete(STREAM)
        b.sandbox.store.change(order, externalId="3")
        await b.poll(complete=True)
        await b.poll(complete=True)
        found, _ = await timeline(b, order)
        (newest,) = versions(found)
        (remark,) = found.remarks
        assert newest >= SECOND_GENERATION
        assert remark.startswith("Redis lost data of orders before 20")
        b.sandbox.store.change(order, externalId="4")
        await b.poll()
        await b.redis.xtrim(STREAM, maxlen=1, approximate=False)
        found, _ = await timeline(b, order)
        assert len(versions(found)) == 1
        assert found.remarks == ["Earlier versions of the order are gone: retention has removed the events."]


@pytest.mark.parametrize("far", ["1767225600000000000-0", "18446744073709551615-0"])
async def test_an_entry_of_another_program_far_in_the_future(bench: BenchMaker, far: str) -> None:
    """Such as one whose id is in nanoseconds: numbers that Lua rounds do not keep Redis busy for good."""
    async with bench() as b:
        await b.poll()
        order = next(iter(b.sandbox.store.truth()))
        await b.redis.xadd(STREAM, {"other": "program"}, id=far)
        b.sandbox.store.change(order, externalId="1")
        await b.poll()
        found, stats = await timeline(b, order)
        assert (versions(found), found.remarks) == ([1, 2], [])
        # Each of the two passes over the other program's entry.
        assert lookups(stats) <= 4 * MOST_LOOKUPS + MOST_SCANS


def test_ids_of_entries_are_ordered_as_numbers() -> None:
    """Not as texts: the tenth entry of a millisecond comes after the ninth."""
    assert entry_order("99-10") > entry_order("99-9") > entry_order("9-11") == (9, 11)
