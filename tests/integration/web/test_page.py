"""The page over real HTTP: what it shows, what it costs, and what its viewers are sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.support.commands import ordersync
from tests.support.hostile_state import HOSTILE, fill
from tests.support.page import Reader, Served, page_of
from tests.support.reconciling import ORDERS_ALONE, SOON
from tests.support.servers import Server
from tests.support.streams import KEYS
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import Bench, BenchMaker
from worker.admin.operator_log import OperatorLog
from worker.admin.status import StatusCollector
from worker.app import announce
from worker.capture.registry import ORDERS, RESOURCES
from worker.capture.resync.requests import ResyncRequest, Resyncs
from worker.config.settings import Settings
from worker.keys import KeySpace
from worker.redis.connections import answer
from worker.service.heartbeat import Beat, ResourceBeat
from worker.service.presence import Presence, say_alive
from worker.web import feed as feeds
from worker.web import routes

pytestmark = pytest.mark.anyio


async def a_day(b: Bench) -> None:
    """What a page shows: reads, a proof, groups, a dead letter, a pause, a resync and what operators did."""
    await announce(b.services)
    await b.poll()
    await b.account.reconciler.run([ORDERS])
    stream = b.account.keys.stream("orders")
    await b.redis.xgroup_create(stream, "warehouse", id="0")
    entries = (await b.redis.xreadgroup("warehouse", "one", {stream: ">"}, count=3))[0][1]
    await b.redis.xack(stream, "warehouse", entries[0][0])
    letter = {
        "kind": "delivery",
        "reason": "no ribbon left",
        "subject": "a",
        "where": "1-1",
        "time": "2026-03-02T10:00:00Z",
    }
    await b.redis.xadd(
        b.account.keys.dead("orders"), {**letter, "data": "{}", "group": "warehouse", "attempts": "5"}
    )
    await OperatorLog(b.redis, b.account.keys).add(["pause", "notes"], by="ann@ops-1")
    request = ResyncRequest(resource="orders", all=True, by="bob@ops-1")
    await Resyncs(b.redis, b.account.keys).create(request, b.services.clock.now())


async def test_everything_is_on_the_page(bench: BenchMaker, served: Served, http: httpx.AsyncClient) -> None:
    """Verdict, resources, runs, proof, groups, dead letters, budget, resyncs and history; no field of a record."""
    async with bench(reconcile=SOON, intervals=ORDERS_ALONE) as b:
        await a_day(b)
        records = [json.loads(event.data) for event in await b.events()]
        page = (await http.get("/")).text
        words = Reader(page).words
    (first,) = re.findall(
        r"orders is proven complete up to [^ ]+:|No hour of orders is proven complete yet", words
    )
    assert first
    for part in (
        "No worker is alive for default: nothing is read",
        "1 runs in 24 hours, 0 failed or suspect, 50 events",
        "warehouse orders 47 2",
        "no ribbon left",
        "ordersync dead replay orders 1",
        "orders : all records, asked for by bob@ops-1",
        "ann@ops-1 done pause notes",
        "lane polls",
        "known records 50",
    ):
        assert part in words, part
    values = {
        str(value)
        for record in records
        for name, value in record.items()
        if isinstance(value, str) and len(value) > 6 and name not in {"id", "createdAt", "modifiedAt"}
    }
    assert len(values) > 50
    assert [value for value in values if value in page] == []


async def test_what_is_going_on_is_on_the_page(
    bench: BenchMaker, served: Served, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker does in the middle of a read, a rate limit that is used up, and the lag of a group over time."""
    pages: list[str] = []
    async with bench(page_size=10) as b:
        now = b.services.clock.now()
        await announce(b.services)
        await b.account.groups.create("orders", "billing", "0")
        # The same group had nothing to read two minutes ago.
        served.feed.lag.add(now - 120, await StatusCollector(b.redis, Settings()).rows())
        beat = Beat(
            b.account.poller.context.worker_id, 1, now, now, [ResourceBeat("default", "orders", "ok")]
        )
        await Presence(b.redis, b.account.keys).beat(beat)
        await say_alive(b.redis, KeySpace(b.account.keys.prefix), beat.worker, now)
        read_page = b.account.client.read_page

        async def seen(*arguments: Any, **options: Any) -> Any:
            if len(pages) < 5:
                monkeypatch.setattr(feeds, "COLLECT_SECONDS", 0.0)
                pages.append((await http.get("/")).text)
            return await read_page(*arguments, **options)

        monkeypatch.setattr(b.account.client, "read_page", seen)
        await b.poll()
        used_up = f"{(b.services.clock.now() + 20) * 1000:.3f}"
        await answer(b.redis.hset(b.account.keys.budget, "exhausted_until", used_up))
        after = Reader((await http.get("/")).text)
    name = re.escape(beat.worker)
    assert re.search(
        rf"{name} : reads orders(: full scan, page \d+( of about 5)?)?\. Heartbeat", Reader(pages[-1]).words
    )
    assert f"{beat.worker} : waits for the next poll. Heartbeat" in after.words
    assert re.search(r"permits no request for another \d+ s: its rate limit is used up", after.words)
    assert "rate limit is used up" not in Reader(pages[0]).words
    label = r"in the last \d+ min: 50 at most, 50 now"
    (curve,) = [each for tag, each in after.tags if tag == "svg" and each.get("class") == "curve"]
    assert re.fullmatch(label, curve["aria-label"] or ""), curve
    (line,) = [each["points"] or "" for tag, each in after.tags if tag == "polyline"]
    first, last = line.split()
    assert float(first.split(",")[1]) > float(last.split(",")[1])  # from the ground to the top


async def test_late_groups_and_several_accounts(
    bench: BenchMaker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group that does not read has a badge; with two accounts each resource and each command names its own."""
    monkeypatch.setenv("ORDERSYNC_GROUPS__LATE_AFTER", "0.001")
    async with bench() as b, page_of(redis_url) as page, httpx.AsyncClient(base_url=page.url) as http:
        await announce(b.services)
        await b.poll()
        await b.account.groups.create("orders", "billing", "0")
        keys = KeySpace()
        cursor = await b.redis.hgetall(b.account.keys.cursor("orders"))
        await b.redis.hset(keys.of("other").cursor("orders"), mapping=cursor)
        alone = await http.get("/")
        await b.redis.sadd(keys.accounts, "other")
        monkeypatch.setattr(feeds, "COLLECT_SECONDS", 0.0)
        both = await http.get("/")
    badge = '<span class="badge degraded">late</span>'
    assert f"billing {badge}" in alone.text
    assert "default/orders" not in Reader(alone.text).words.partition("Resources")[2]
    words = Reader(both.text).words
    assert "default/orders degraded" in words
    assert "other/orders ok" in words
    assert "ordersync groups --account default" in words


async def test_it_says_what_status_says(
    bench: BenchMaker, http: httpx.AsyncClient, redis_url: str, tmp_path: Path
) -> None:
    """`/status.json` has the rows of `status --json`, and the page the cause of each of them."""
    async with bench() as b:
        await announce(b.services)
        await b.poll()
        pause = json.dumps({"resource": "orders", "reason": "stocktaking", "by": "ann", "at": 1})
        await b.redis.hset(b.account.keys.paused, "orders", pause)
        answer = await http.get("/status.json")
        rows = answer.json()
        done = ordersync("status", "--json", cwd=tmp_path, redis__url=redis_url)
        printed = json.loads(done.stdout)
        words = Reader((await http.get("/")).text).words
    ages = {"fresh_s", "part_s", "rate", "budget"}
    assert [{k: v for k, v in row.items() if k not in ages} for row in rows] == [
        {k: v for k, v in row.items() if k not in ages} for row in printed
    ]
    assert answer.headers["content-type"] == "application/json"
    assert rows[0]["cause"]
    assert all(row["cause"] in words for row in rows)
    assert "ordersync resume orders" in words


# Timeline


async def test_the_timeline_of_an_order(bench: BenchMaker, http: httpx.AsyncClient) -> None:
    """Found by its short id; events with their deliveries and published audit logs, and no value of any record."""
    async with bench() as b:
        await announce(b.services)
        await b.poll()
        order = json.loads(next(iter(b.sandbox.store.truth().values())))
        b.sandbox.store.change([order["id"]], status="Customer Care Hold")
        await b.poll()
        await b.account.poller.poll(RESOURCES["shipments"], complete=True)
        stream = b.account.keys.stream("orders")
        await b.redis.xgroup_create(stream, "warehouse", id="0")
        await b.redis.xreadgroup("warehouse", "packer-1", {stream: ">"}, count=50)
        answer = await http.get("/timeline", params={"id": order["shortId"]})
        words = Reader(answer.text).words
    assert answer.status_code == 200
    assert f"Timeline of order {order['id']}" in words
    assert "v1 snapshot" in words
    assert "v2 updated" in words
    assert "status" in words  # the name of the field that changed
    assert "warehouse: pending at packer-1" in words
    assert f"ordersync timeline {order['shortId']}" in words
    assert "Customer Care Hold" not in answer.text
    assert order["externalId"] not in answer.text


@pytest.mark.parametrize(("name", "status"), [("nosuch", 404), ("", 400), ("  ", 400), ("x" * 5000, 400)])
async def test_an_order_that_is_not_found(
    http: httpx.AsyncClient, redis_url: str, name: str, status: int
) -> None:
    """Said on the page; a name that is too long for a request line is refused before."""
    with redis.Redis.from_url(redis_url) as client:
        client.sadd(KeySpace().accounts, "default")
    answer = await http.get("/timeline", params={"id": name})
    assert answer.status_code == status


async def test_an_erased_order_is_not_shown(
    bench: BenchMaker, http: httpx.AsyncClient, redis_url: str, tmp_path: Path
) -> None:
    """After `ordersync erase`, a search by its other ids finds nothing, and its page only that it was erased."""
    async with bench() as b:
        await announce(b.services)
        await b.poll()
        order = json.loads(next(iter(b.sandbox.store.truth().values())))
        done = ordersync("erase", order["id"], "--offline", "--yes", cwd=tmp_path, redis__url=redis_url)
        assert done.returncode == 0, done.stderr
        by_short_id = await http.get("/timeline", params={"id": order["shortId"]})
        by_id = await http.get("/timeline", params={"id": order["id"]})
    assert by_short_id.status_code == 404
    assert "v1 snapshot" not in by_id.text
    assert order["externalId"] not in by_id.text


# What it costs


async def test_viewers_share_a_collection(
    served: Served, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty loads and six viewers at once cost one collection; without a viewer there is none."""
    monkeypatch.setattr(feeds, "COLLECT_SECONDS", 1000.0)
    assert served.feed.collections == 0
    await asyncio.gather(*(http.get("/") for _ in range(20)))

    async def viewer() -> None:
        async with http.stream("GET", "/updates") as updates:
            async for line in updates.aiter_lines():
                if line.startswith("event: at"):
                    return

    await asyncio.gather(*(viewer() for _ in range(6)))
    assert served.feed.collections == 1


async def test_only_changes_are_sent(
    served: Served, http: httpx.AsyncClient, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A viewer gets every section once, and then those that have changed, within an update."""
    monkeypatch.setattr(feeds, "COLLECT_SECONDS", 0.0)
    monkeypatch.setattr(routes, "UPDATE_SECONDS", 0.01)
    sent: list[str] = []
    async with http.stream("GET", "/updates") as updates:
        assert updates.headers["content-type"] == "text/event-stream"
        async for line in updates.aiter_lines():
            if line.startswith("data: ") and "<section" in line:
                sent.append(json.loads(line[6:]))
                if len(sent) == 8:
                    with redis.Redis.from_url(redis_url) as client:
                        client.sadd(KeySpace().accounts, "default")
                        client.hset(KEYS.cursor("orders"), mapping={"last_started": "1", "tracked": "4711"})
                if any("4,711" in html for html in sent):
                    break
    assert len({re.search(r'id="(\w+)"', html)[1] for html in sent[:8]}) == 8  # type: ignore[index]
    assert served.feed.collections > 1


async def test_a_slow_viewer_is_dropped(
    served: Served, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A viewer that takes nothing is cut off; the page of the others goes on."""
    monkeypatch.setattr(feeds, "COLLECT_SECONDS", 0.0)
    monkeypatch.setattr(routes, "UPDATE_SECONDS", 0.0)
    monkeypatch.setattr(routes, "WRITE_SECONDS", 0.2)
    fill(redis_url, HOSTILE * 20)
    numbers = iter(range(10**9))

    def changing(*_: object) -> dict[str, str]:
        return {"a": str(next(numbers)) + "x" * 200_000}

    monkeypatch.setattr(routes.Page, "_sections", changing)
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(b"GET /updates HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await eventually(lambda: served.feed.collections > 0)

    async def is_dropped() -> bool:
        before = served.feed.collections
        await asyncio.sleep(1.5)  # longer than a collection takes on a busy machine
        return served.feed.collections == before

    await eventually(is_dropped)
    taken = 0
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(1 << 20):  # what was on its way, and then no more
            taken += len(chunk)
            assert taken < 1 << 26, "the viewer is still served"
    monkeypatch.undo()
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        assert (await client.get(served.url)).status_code == 200
    writer.close()


async def test_redis_goes_away(own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says so at once and keeps the last state; the JSON is refused, for it would not be true."""
    monkeypatch.setattr(feeds, "COLLECT_SECONDS", 0.0)
    with redis.Redis.from_url(own_server.url) as client:
        client.sadd(KeySpace().accounts, "default")
        client.hset(KEYS.cursor("orders"), mapping={"last_started": "1", "tracked": "4711"})
    async with (
        page_of(own_server.url) as page,
        httpx.AsyncClient(base_url=page.url, timeout=PATIENCE) as client_,
    ):
        assert "4,711" in (await client_.get("/")).text
        own_server.stop(kill=True)
        words = Reader((await client_.get("/")).text).words
        assert "failing Redis cannot be read" in words
        assert "What is shown is from before" in words
        assert "4,711" in words
        answer = await client_.get("/status.json")
        assert answer.status_code == 503
        assert answer.json()["error"]
