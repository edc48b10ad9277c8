"""Records that existed before the first full scan and are not published: a start date, and a silent import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.campaign import worker_at
from tests.support.commands import ordersync
from tests.support.gateway import Gateway, Judge
from tests.support.polling import after_pages
from tests.support.programs import login_settings
from tests.support.worker import Bench, BenchMaker
from worker.capture.registry import AUDIT_LOGS, ORDERS
from worker.capture.resync.requests import ResyncRequest
from worker.clock import parse_time
from worker.config.sections import EventSettings
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

ORDER_AUDIT = AUDIT_LOGS["order_audit"]
BOTH = {"orders": 1.0, "order_audit": 1.0}


def modified(sandbox: SandboxServer) -> dict[str, int]:
    """The modification time of each order, in milliseconds since 1970."""
    orders = {each: json.loads(raw) for each, raw in sandbox.store.truth().items()}
    return {each: parse_time(order["updatedAt"]) or 0 for each, order in orders.items()}


async def told(b: Bench, name: str = "orders") -> list[tuple[str, str]]:
    """What was published: action and subject."""
    return [(event.type.rpartition(".")[2], event.subject) for event in await b.events(name)]


async def test_a_start_date(bench: BenchMaker, sandbox: SandboxServer) -> None:
    """What was modified before it is remembered; its later changes are published with what has changed."""
    times = modified(sandbox)
    since = sorted(times.values())[20]
    old, new = (
        [each for each, time in times.items() if time < since],
        {e for e, t in times.items() if t >= since},
    )
    async with bench(since=since) as b:
        run = await b.poll()
        assert (run.outcome, run.snapshot, run.silent, run.unchanged) == ("complete", len(new), len(old), 0)
        assert {subject for _, subject in await told(b)} == new
        run = await b.poll()
        assert (run.published, run.silent) == (0, 0)
        sandbox.store.change(old[0], externalId="another")
        assert (await b.poll()).updated == 1
        event = (await b.events())[-1]
        assert (event.subject, event.type, event.version) == (old[0], "io.ordermesh.order.updated", 2)
        assert "externalId" in event.changed
        assert event.data == sandbox.store.truth()[old[0]]
        (added,) = sandbox.store.create(1)
        await b.poll()
        assert (await told(b))[-1] == ("created", added)


async def test_a_silent_import(bench: BenchMaker, sandbox: SandboxServer) -> None:
    """Nothing of the first full scan, and everything after it: created, updated with the old values, deleted."""
    async with bench(snapshot="silent", events=EventSettings(previous=True)) as b:
        run = await b.poll()
        assert (run.outcome, run.published, run.silent) == ("complete", 0, 50)
        assert (await b.cursor()).tracked == 50
        one = min(sandbox.store.truth())
        before = json.loads(sandbox.store.truth()[one])["externalId"]
        sandbox.store.change(one, externalId="another")
        (added,) = sandbox.store.create(1)
        await b.poll()
        assert sorted(await told(b)) == [("created", added), ("updated", one)]
        (updated,) = [event for event in await b.events() if event.subject == one]
        assert updated.previous is not None
        assert json.loads(updated.previous)["externalId"] == before


@pytest.mark.parametrize("pages", [5, 1000])
async def test_what_happens_while_a_silent_import_reads(redis_url: str, pages: int) -> None:
    """It is not of the past: an order that is placed, or changed, before the scan has come to its page."""
    with Gateway(orders=200) as gateway, Judge(gateway, redis_url) as judge:
        ids, placed = gateway.history.ids("orders"), list[str]()

        def happen(_kind: str, page: int) -> None:
            if page == 3 and not placed:
                placed.extend(gateway.history.create("orders", 2))
                gateway.history.change("orders", [ids[0], ids[-1]])

        gateway.serving.before_page = happen
        async with worker_at(gateway, redis_url, page_size=20, snapshot="silent") as worker:
            for _ in range(2):
                await worker.poll(stop=after_pages(pages))
            for _ in range(2):  # orders have come just before
                run = await worker.poll(complete=True)
            assert run.outcome == "complete"
        judge.verdict()
        told_of = {(each.action, each.subject) for each in judge.told["orders"]}
    assert told_of == {("updated", ids[0]), *(("snapshot", each) for each in (*placed, ids[-1]))}


@pytest.mark.parametrize("options", [{"snapshot": "silent"}, {"since": 4_000_000_000_000}])
async def test_force_publishes(bench: BenchMaker, sandbox: SandboxServer, options: dict[str, Any]) -> None:
    """A person that asks for a record by force gets it."""
    async with bench(**options) as b:
        await b.poll()
        one = min(sandbox.store.truth())
        wanted = ResyncRequest(resource="orders", ids=(one,), force=True)
        resync = await b.account.resyncer.resyncs.create(wanted, b.services.clock.now())
        await b.account.resyncer.slice(ORDERS, resync.id)
        assert await told(b) == [("updated", one)]


async def test_entries_of_audit_logs(bench: BenchMaker, sandbox: SandboxServer) -> None:
    """The past of a log is remembered when its record changes; what follows is published."""
    async with bench(snapshot="silent", intervals=BOTH) as b:
        await b.poll()
        run = await b.poll(ORDER_AUDIT)
        assert (run.recorded, run.usage.requests) == (0, 0)
        one = min(sandbox.store.truth())
        sandbox.store.change(one, status="On Hold")
        await b.poll()
        run = await b.poll(ORDER_AUDIT)
        created = json.loads(sandbox.store.truth()[one])["createdAt"]
        entries = sandbox.store.audit.entries("order", one, created)
        assert len(entries) > 1
        told_of = [json.loads(event.data)["id"] for event in await b.events("order_audit")]
        assert told_of == [entries[-1]["id"]]


def test_the_settings_of_a_command(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """Over real sockets: the summary says how many records were not published."""
    times = sorted(modified(sandbox).values())
    settings = login_settings(sandbox, redis_url, tmp_path / "data")
    done = ordersync("run", "--once", cwd=tmp_path, **settings, poll__since="2999-01-01")
    assert done.returncode == 0, done.stderr
    assert "0 events published" in done.stdout
    assert f"{len(times)} of the past not published" in done.stdout
    with redis.Redis.from_url(redis_url) as client:
        assert client.xlen("ordersync:{default}:stream:orders") == 0
        client.flushall()
    done = ordersync("run", "--once", "--json", cwd=tmp_path, **settings, poll__snapshot="silent")
    (run,) = json.loads(done.stdout)
    assert (run["silent"], run["snapshot"], run["outcome"]) == (50, 0, "complete")
