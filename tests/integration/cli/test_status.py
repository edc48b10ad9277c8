"""`ordersync status`: one screen that answers how everything stands, and rows for machines whose shape is published."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import pytest
from jsonschema_rs import Draft202012Validator

from tests.support.commands import ordersync
from tests.support.paths import ROOT
from tests.support.programs import Program, login_settings, program_env
from tests.support.servers import Server
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import Bench, BenchMaker
from worker.app import announce, deregister
from worker.capture.health import Health
from worker.capture.registry import RESOURCES
from worker.capture.resync.requests import ResyncRequest, Resyncs
from worker.cli.common.output import rendered
from worker.cli.render.status import LEGEND, screen
from worker.redis.connections import answer
from worker.reporting import reporter, worker_id
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

SCHEMA = json.loads((ROOT / "deploy" / "status.schema.json").read_text(encoding="utf-8"))
WATCH = (sys.executable, "-m", "worker.cli", "status", "--watch", "--every", "0.2")


@pytest.fixture
async def polled(bench: BenchMaker) -> AsyncIterator[Bench]:
    """A worker that is alive, has read 50 orders, and two groups, of which one has read them."""
    async with bench() as b:
        await announce(b.services)
        await b.poll()
        await reporter(b.services)()
        stream = b.account.keys.stream("orders")
        for group in ("warehouse", "billing"):
            await b.redis.xgroup_create(stream, group, id="0")
        await b.redis.xreadgroup("warehouse", "w-1", {stream: ">"}, count=100)
        yield b


def rows_of(tmp_path: Path, redis_url: str, **settings: str) -> list[dict[str, Any]]:
    done = ordersync("status", "--json", cwd=tmp_path, redis__url=redis_url, **settings)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    Draft202012Validator(SCHEMA).validate(rows)
    return rows


async def test_the_rows(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """Health, rates, budget, lag and pending of each group, workers alive: as the published schema says."""
    (row,) = rows_of(tmp_path, redis_url)
    assert (row["health"], row["cause"], row["records"], row["events"], row["failures"]) == (
        "ok",
        "",
        50,
        50,
        0,
    )
    assert (sum(row["rate"]["records_per_minute"]), sum(row["rate"]["events_per_minute"])) == (50, 50)
    assert row["budget"]["requests_last_minute"] > 0
    assert row["budget"]["requests_per_second"] == 10_000
    billing, warehouse = sorted(row["groups"], key=lambda group: str(group["group"]))
    assert (billing["unread"], billing["pending"], billing["consumers"]) == (50, 0, 0)
    assert (warehouse["unread"], warehouse["pending"], warehouse["consumers"]) == (0, 50, 1)
    (worker,) = row["workers"]
    assert (worker["worker"], worker["resources"]) == (worker_id(), ["orders"])
    assert row["backpressure"] == {
        "cause": "",
        "entries_share": 0.0,
        "bytes_share": 0.0,
        "memory_share": None,
    }
    assert (row["paused"], row["unread"]) == (None, 50)


async def test_late_groups(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """A group that does not read while events wait degrades the resource, and is named."""
    del polled
    (row,) = rows_of(tmp_path, redis_url, groups__late_after="0.001")
    assert (row["health"], row["cause_code"]) == ("degraded", "group_late")
    assert "group billing has not read" in row["cause"]
    assert "50 events wait" in row["cause"]
    assert "ordersync groups drop billing orders" in row["cause"]
    assert {group["group"]: group["late"] for group in row["groups"]} == {"billing": True, "warehouse": True}


async def test_what_is_wrong_keeps_to_the_schema(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """A pause, dead letters, backpressure, a cursor of another hand, and a resource that was never read."""
    keys = polled.account.keys
    done = ordersync("pause", "orders", "--reason", "x", cwd=tmp_path, redis__url=redis_url)
    assert done.returncode == 0
    await answer(polled.redis.hset(keys.cursor("orders"), "paused", "group billing has much to read"))
    await polled.redis.xadd(keys.dead("orders"), {"kind": "record"})
    await answer(polled.redis.hset(keys.expired_letters, mapping={"orders": 3, "orders:at": 1_772_448_069}))
    await answer(polled.redis.hset(keys.expired_letters, "notes", "many"))
    await answer(polled.redis.hset(keys.cursor("notes"), "sequence", "many"))
    wanted = {"poll__intervals": '{"variants": 60}', "backpressure__entries": "25"}
    rows = {row["resource"]: row for row in rows_of(tmp_path, redis_url, **wanted)}
    assert set(rows) == {"orders", "notes", "variants"}
    orders = rows["orders"]
    assert (orders["health"], orders["paused"]["reason"], orders["dead"]) == ("paused", "x", 1)
    assert orders["dead_oldest_s"] is not None
    assert (orders["dead_expired"], orders["dead_expired_at"]) == (3, "2026-03-02T10:41:09.000Z")
    assert (rows["notes"]["dead_expired"], rows["notes"]["dead_expired_at"]) == (0, None)
    assert ", 3 expired" in ordersync("status", cwd=tmp_path, redis__url=redis_url, **wanted).stdout
    assert orders["backpressure"]["cause"] == "group billing has much to read"
    assert orders["backpressure"]["entries_share"] == 2.0
    assert (rows["notes"]["health"], rows["variants"]["health"]) == ("failing", "starting")
    assert "cursor:notes cannot be read" in rows["notes"]["cause"]


async def test_the_screen(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """The table, then who works and what they use, each group, and causes; all of the rows, in words."""
    shown = ordersync("status", cwd=tmp_path, redis__url=redis_url).stdout
    (words,), table, accounts, groups = (part.splitlines() for part in shown.split("\n\n"))
    assert words == "The resource is ok."
    assert len(table) == 2
    assert re.search(r"[▁▂▃▄▅▆▇█]{15} \d+ +[▁▂▃▄▅▆▇█]{15} \d+$", table[1])
    (account,) = accounts
    assert account.startswith(f"default: 1 worker alive: {worker_id()} (")
    assert re.search(r"\d+ requests in the last minute, \d+% of the budget of 10000 per second$", account)
    assert [re.sub(r"[0-9.]+ (s|min) old", "_ old", line) for line in groups] == [
        "default/orders: group billing has 50 unread and 0 pending events, the oldest _ old; no consumer",
        "default/orders: group warehouse has 0 unread and 50 pending events, the oldest _ old; 1 consumer",
    ]
    await deregister(polled.services)
    assert "default: no worker is alive; " in ordersync("status", cwd=tmp_path, redis__url=redis_url).stdout


async def test_resyncs_under_way(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """With what is read, for whom, and how much of it is done; one that is over is not shown."""
    resyncs, now = Resyncs(polled.redis, polled.account.keys), time.time()
    await resyncs.create(ResyncRequest(resource="orders", ids=("a", "b", "c", "d"), by="ann@ops"), now, "r1")
    await resyncs.update("r1", state="running", position=1, read=1, published=1)
    await resyncs.create(ResyncRequest(resource="orders", all=True, by="ann@ops"), now, "r2")
    await resyncs.cancel("r2", now)
    (row,) = rows_of(tmp_path, redis_url)
    assert [(each["id"], each["share"], each["by"]) for each in row["resyncs"]] == [("r1", 0.25, "ann@ops")]
    shown = ordersync("status", cwd=tmp_path, redis__url=redis_url).stdout
    assert (
        "default/orders: resync r1 of 4 ids by ann@ops is running ██▁▁▁▁▁▁▁▁ 25%, 1 read, 1 published\n"
        in shown
    )


async def test_what_was_read_again_and_is_not_polled(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """It is shown as long as the resync is under way, and does not stay there as one that never starts."""
    resyncer, now = polled.account.resyncer, polled.services.clock.now()
    await resyncer.resyncs.create(ResyncRequest(resource="merchant_catalogs", all=True), now, "r1")
    assert [row["resource"] for row in rows_of(tmp_path, redis_url)] == ["orders", "merchant_catalogs"]
    while await resyncer.resyncs.open():
        await resyncer.slice(RESOURCES["merchant_catalogs"], "r1")
    assert await polled.redis.xlen(polled.account.keys.stream("merchant_catalogs"))
    assert [row["resource"] for row in rows_of(tmp_path, redis_url)] == ["orders"]
    proven = ordersync("coverage", "--json", cwd=tmp_path, redis__url=redis_url, poll__preset="orders")
    assert [row["resource"] for row in json.loads(proven.stdout)] == ["orders"]


async def test_a_narrow_terminal_gets_shorter_bars(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """So that a row stays one line."""
    rows = rows_of(tmp_path, redis_url)
    bars = [len(re.sub(r"[^▁-█]", "", rendered(screen(rows, width=width)[3]))) for width in (140, 200, None)]
    assert bars == [12, 30, 30]


@pytest.mark.parametrize("width", [1, 20, 40, 80, 100, 132])
async def test_the_screen_folds_to_the_terminal(
    polled: Bench, redis_url: str, tmp_path: Path, width: int
) -> None:
    """No line is wider than the terminal, nothing of a cause is lost, and the first line is the verdict."""
    (row,) = rows_of(tmp_path, redis_url)
    cause = "orders.search: status 429: " + "slow down " * 12 + "x" * 90
    bad = row | {"health": "degraded", "cause": cause, "resource": "merchant_catalog_audit", "events": 10**9}
    lines = [click.unstyle(rendered(line)) for line in screen([row, bad], width=width, legend=True)]
    assert max(map(len, lines)) <= max(width, 3)
    assert lines[1] == ""
    if width >= 80:
        assert lines[0].startswith(
            "1 degraded, 1 ok. default/merchant_catalog_audit is degraded: orders.search"
        )
        assert ("orders" in lines[3], "merchant_catalog_audit" in lines[4]) == (True, True)
        assert "fresh" in lines[2]
        assert "degraded" in lines[4]
    flat = "".join("".join(lines).split())
    assert f"default/merchant_catalog_auditisdegraded:{''.join(cause.split())}" in flat
    assert "withdrawntheresourcewaspolledonce" in flat


async def test_a_cause_of_several_resources_is_told_once(
    polled: Bench, redis_url: str, tmp_path: Path
) -> None:
    """With the names of all of them; the same words of another health, and other words, are lines of their own."""
    (row,) = rows_of(tmp_path, redis_url)
    rows = [
        row | {"resource": resource, "health": health, "cause": cause}
        for resource, health, cause in (
            ("orders", "degraded", "Redis is full."), ("notes", "degraded", "x"), ("products", "ok", ""),
            ("shipments", "degraded", "Redis is full."), ("variants", "failing", "Redis is full."),
        )
    ]  # fmt: skip
    lines = [click.unstyle(rendered(line)) for line in screen(rows)]
    assert lines[-3:] == [
        "default/orders, default/shipments are degraded: Redis is full.",
        "default/notes is degraded: x",
        "default/variants is failing: Redis is full.",
    ]


async def test_the_lane_of_each_resource(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """The class of the longest work of a resource is in the JSON, and on a terminal of 80 columns."""
    key = polled.account.keys.cursor("orders")
    began = {"sweep_page": "1", "sweep_started": "1.0", "sweep_size": "100"}
    for changes, lane in (({}, "polls"), (began, "scans"), ({**began, "backlog": "3"}, "audit")):
        for name, value in changes.items():
            await polled.redis.hset(key, name, value)
        (row,) = rows_of(tmp_path, redis_url)
        _, _, head, line, *_ = [click.unstyle(rendered(each)) for each in screen([row], width=80)]
        shown = dict(zip(head.split(), line.split(), strict=False))
        assert (row["lane"], shown["lane"]) == (lane, lane)


async def test_the_legend(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """It ends with what each health word means; JSON and a screen that is drawn again have no legend."""
    shown = ordersync("status", "--legend", cwd=tmp_path, redis__url=redis_url).stdout
    assert [line.split()[0] for line in shown.splitlines()[-6:]] == [health.value for health in LEGEND]
    assert set(LEGEND) == set(Health)
    for other in ("--json", "--watch"):
        done = ordersync("status", "--legend", other, cwd=tmp_path, redis__url=redis_url)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"--legend cannot be combined with {other}" in done.stderr


# --- watch ------------------------------------------------------------------------------------------


async def test_watching_off_a_terminal(polled: Bench, redis_url: str, tmp_path: Path) -> None:
    """A line for each resource and look, or one of JSON; Ctrl-C is a good end."""
    for words in ((), ("--json",)):
        with Program(tmp_path, *WATCH, *words, redis__url=redis_url) as program:
            while program.out.count("\n") < 3:
                assert program.process.poll() is None, program.err
                await asyncio.sleep(0.02)
            program.process.send_signal(signal.SIGINT)
            assert await program.ended() == 0
            lines = program.out.splitlines()
            assert (program.err, "\x1b[" in program.out) == ("", False)
        if words:
            assert [row["records"] for line in lines for row in json.loads(line)] == [50] * len(lines)
        else:
            assert all(
                re.match(r"20\S+Z default/orders ok, fresh \d+ s, \d+ records and", line) for line in lines
            )


async def test_watching_outlives_a_restart_of_redis(
    own_server: Server, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """It says that Redis is away, looks again, and shows how things stand from then on."""
    settings = login_settings(sandbox, own_server.url, tmp_path)
    assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
    with Program(tmp_path, *WATCH, **settings) as program:
        await eventually(lambda: "default/orders" in program.out)
        own_server.stop()
        await eventually(lambda: "cannot be reached" in program.err)
        before = program.out.count("\n")
        own_server.start()
        await eventually(lambda: program.out.count("\n") > before)
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() == 0
        assert "Traceback" not in program.err


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
async def test_watching_on_a_terminal(
    polled: Bench, redis_url: str, tmp_path: Path, no_color: str, *, coloured: bool
) -> None:
    """It redraws in place, in colours unless NO_COLOR is set, and leaves the last screen when it ends."""
    ours, theirs = pty.openpty()
    env = program_env(redis__url=redis_url) | {
        "NO_COLOR": no_color,
        "TERM": "xterm-256color",
        "COLUMNS": "180",
    }
    process = await asyncio.create_subprocess_exec(*WATCH, cwd=tmp_path, env=env, stdin=theirs, stdout=theirs)
    shown = b""

    def drawn_thrice() -> bool:
        nonlocal shown
        while select.select([ours], [], [], 0)[0]:
            shown += os.read(ours, 65_536)
        return shown.count(b"Press Ctrl-C to stop.") >= 3

    try:
        await eventually(drawn_thrice)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        drawn_thrice()
    finally:
        os.close(ours)
        os.close(theirs)
    text = shown.decode()
    assert "\x1b[?1049h" in text
    _, left_alone, last = text.rpartition("\x1b[?1049l")
    assert left_alone
    assert "default  orders" in last
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]m", text)) is coloured


def test_one_look_at_a_redis_that_is_away(tmp_path: Path) -> None:
    """Watching what was never there is exit 3, as without `--watch`."""
    for words in (("status",), ("status", "--watch")):
        done = ordersync(*words, cwd=tmp_path, data_dir=str(tmp_path))
        assert (done.returncode, done.stdout) == (3, "")
