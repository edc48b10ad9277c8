"""Take the pictures of the page for the documentation: `python -m tests.recorded.pictures docs/operate`.

A made-up week is written into an empty Redis, and a real Chromium draws the page that is served from there.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import redis

from tests.support.browser import browsing
from tests.support.page import page_of
from tests.support.servers import Server
from tests.support.streams import KEYS, fields_of
from tests.support.waiting import eventually
from worker.capture.reconcile.progress import ReconcileCounts, ReconcilePass
from worker.clock import rfc3339
from worker.keys import KeySpace
from worker.service.heartbeat import Beat, ResourceBeat

HOUR = 3600
RESOURCES = ("orders", "shipments", "order_audit", "shipment_audit")
RUNS_PER_SLOT = {"orders": 40, "shipments": 34, "order_audit": 26, "shipment_audit": 20}


def write_week(client: Any, now: float) -> None:
    """Write a week of four resources: an outage, a healed gap, a late group, dead letters, a resync, two operators."""
    client.sadd(KeySpace().accounts, "default")
    runs: list[tuple[int, dict[str, Any]]] = []
    for number, resource in enumerate(RESOURCES):
        client.hset(
            KEYS.cursor(resource),
            mapping={
                "baseline": "true", "last_started": str(now - 3), "last_success": str(now - 2), "interval": "5",
                "fresh_as_of": str(now - 4 - number), "tracked": str(3104 - 700 * number),
                "sequence": str(48_210 - 9_000 * number), "due_at": str(now + 2 + number), "buckets": "1",
                "complete_every": "3600",
            },
        )  # fmt: skip
        for slot in range(47, -1, -1):
            night = 0.55 if 10 < slot < 26 else 1.0
            for index in range(int(RUNS_PER_SLOT[resource] * night)):
                at = int((now - slot * 1800 - index * 40) * 1000) + number
                failed = slot in {30, 31} and index % 2 == 0
                ended = (
                    {"outcome": "failed", "error": "503"} if failed else {"outcome": "complete", "updated": 2}
                )
                runs.append(
                    (
                        at,
                        {
                            "run_id": f"{at:016x}",
                            "resource": resource,
                            "records": 30,
                            "duration_s": 0.4,
                            **ended,
                        },
                    )
                )
    pipe = client.pipeline(transaction=False)
    for place, (at, fields) in enumerate(sorted(runs, key=lambda run: run[0])):
        pipe.xadd(KEYS.runs, fields, id=f"{at}-{place}")
    pipe.execute()
    for resource, since, known in (("orders", 6 * 24, 3104), ("shipments", 4 * 24, 2404)):
        hour = int(now // HOUR)
        healed = {hour - 40: 1, hour - 41: 2} if resource == "orders" else {}
        counts = ReconcileCounts(
            records=known,
            verified=known,
            entries=812,
            requests=known,
            found=len(healed),
            healed=len(healed),
            healed_at=healed,
        )
        proof = ReconcilePass(
            (hour - since) * HOUR * 1000, hour * HOUR * 1000, now - 300, now - 180, proven=True, counts=counts
        )
        client.xadd(KEYS.coverage(resource), {"pass": msgspec.json.encode(proof)})
        client.hset(
            KEYS.reconcile(resource),
            mapping={
                "complete_since": str((hour - since) * HOUR * 1000),
                "complete_until": str(hour * HOUR * 1000),
                "due_at": str(now + 900), "interval": "3600",
            },
        )  # fmt: skip
    beats = [ResourceBeat("default", name, "ok") for name in RESOURCES]
    for name, started in (("sync-1-4711-9c1e", 5 * HOUR), ("sync-2-312-77ab", 49 * HOUR)):
        client.set(KEYS.worker(name), msgspec.json.encode(Beat(name, 1, now - 1, now - started, beats)))
        client.zadd(KEYS.workers, {name: now})
        client.set(KeySpace().worker(name), now)
    client.hset(
        KEYS.lease("orders"),
        mapping={"fence": 1, "owner": "sync-1-4711-9c1e/aa", "until": int((now + 600) * 1000)},
    )
    client.hset(
        KEYS.lease("reconcile"),
        mapping={"fence": 1, "owner": "sync-2-312-77ab/bb", "until": int((now + 600) * 1000)},
    )
    client.hset(
        KEYS.budget, mapping={"rate": "20", "minute": str(int(now // 60)), "used": "412", "before": "430"}
    )
    write_events(client, now)
    log = {"redis_user": "operator", "outcome": "done"}
    client.xadd(
        KEYS.operator_log,
        {**log, "by": "ann@ops-1", "command": "pause orders --reason 'the vendor migrates until noon'"},
        id=f"{int((now - 16 * HOUR) * 1000)}-0",
    )
    client.xadd(
        KEYS.operator_log,
        {**log, "by": "ann@ops-1", "command": "resume orders"},
        id=f"{int((now - 15 * HOUR) * 1000)}-0",
    )
    client.xadd(
        KEYS.operator_log,
        {**log, "by": "bob@ops-2", "command": "resync shipments --all"},
        id=f"{int((now - 400) * 1000)}-0",
    )
    request = {"resource": "shipments", "all": True, "by": "bob@ops-2"}
    client.hset(
        KEYS.resync("7f3a"),
        mapping={
            "request": json.dumps(request), "resource": "shipments", "state": "running", "at": str(now - 400),
            "position": "15", "size": "100", "width": "100", "total": "2404", "read": "1500",
            "published": "3", "unchanged": "1497",
        },
    )  # fmt: skip
    client.zadd(KEYS.resyncs, {"7f3a": now - 400})
    client.sadd(KEYS.open_resyncs, "7f3a")


def write_events(client: Any, now: float) -> None:
    """Write the events of one order, groups that read them, and dead letters."""
    stream = KEYS.stream("orders")
    story = (
        (900, "created", "", "poll"),
        (540, "updated", "modifiedAt,status", "poll"),
        (120, "updated", "items,modifiedAt,status", "follow_up"),
        (30, "updated", "modifiedAt,shipmentIds,status", "poll"),
    )
    for version, (age, action, changed, reason) in enumerate(story, 1):
        event = fields_of(17, f'{{"id":"{17:024x}"}}'.encode()) | {
            "id": f"order/{17:024x}/{version}", "type": f"io.ordermesh.order.{action}", "version": str(version),
            "changed": changed, "reason": reason, "sequence": f"{version:020d}", "time": rfc3339(now - age - 2.4),
        }  # fmt: skip
        client.xadd(stream, event, id=f"{int((now - age) * 1000)}-0")
        if version == 3:
            client.xgroup_create(stream, "warehouse", id="0")
            client.xgroup_create(stream, "search", id="0")
            taken = client.xreadgroup("warehouse", "packer-1", {stream: ">"}, count=10)[0][1]
            client.xack(stream, "warehouse", *(entry for entry, _ in taken[:2]))
            done = client.xreadgroup("search", "indexer", {stream: ">"}, count=10)[0][1]
            client.xack(stream, "search", *(entry for entry, _ in done))
    for age, reason, subject in (
        (7200, "no ribbon left", 21),
        (7100, "no ribbon left", 22),
        (60, "HTTP 500 from the label printer", 17),
    ):
        letter = {
            "kind": "delivery", "reason": reason, "subject": f"{subject:024x}", "where": "1-1", "data": "{}",
            "time": rfc3339(now - age), "group": "gifts", "consumer": "gifts-1", "attempts": "5",
        }  # fmt: skip
        client.xadd(KEYS.dead("orders"), letter, id=f"{int((now - age) * 1000)}-0")


async def take(folder: Path) -> None:
    """Write the pictures into a folder."""
    with tempfile.TemporaryDirectory() as place:
        server = Server(Path(place))
        server.start()
        try:
            now = time.time()
            with redis.Redis.from_url(server.url) as client:
                write_week(client, now)
            profile = Path(place) / "chromium"
            async with page_of(server.url) as page, browsing(profile) as browser, browser.tab() as tab:
                rows = await page.feed.source.rows()
                group = next(row for row in rows if row["groups"])["groups"][0]
                for step in range(90):
                    group["unread"] = abs((step * 7) % 23 - 11) + (step // 4 if step > 60 else 0)
                    page.feed.lag.add(now - (90 - step) * 900, rows)
                for name, path, width, dark in (
                    ("page-wide", "/", 1280, False),
                    ("page-narrow", "/", 390, True),
                    ("page-timeline", f"/timeline?id={17:024x}", 1280, True),
                ):
                    await tab.look(width=width, height=600, dark=dark)
                    await tab.open(page.url + path)
                    if path == "/":
                        await eventually(
                            lambda: tab.value(
                                "document.getElementById('live').textContent.startsWith('Live.')"
                            )
                        )
                    (folder / f"{name}.png").write_bytes(await tab.picture())
                assert tab.problems == []
        finally:
            server.stop(kill=True)


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1])))
