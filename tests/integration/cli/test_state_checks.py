"""Keys that the worker cannot use: doctor, status and health say so, with the same words, and nothing is touched."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ordersync_consumer import Consumer
from tests.support.commands import ordersync
from tests.support.doctor import doctor, findings_of
from tests.support.servers import Server
from tests.support.worker import Bench, BenchMaker
from worker.admin.finding import Severity
from worker.admin.state_checks import check_state
from worker.admin.status import StatusCollector
from worker.app import announce
from worker.capture.health import Health
from worker.capture.registry import AUDIT_LOGS
from worker.capture.resync.requests import ResyncRequest
from worker.config.settings import Settings
from worker.reporting import reporter
from worker.sandbox import SandboxServer
from worker.service import heartbeat

pytestmark = pytest.mark.anyio


async def found(b: Bench, level: Severity) -> list[str]:
    """What doctor finds in the keys of the account."""
    findings = check_state(b.redis, b.account.keys, b.account.account.api)
    return [one.text async for one in findings if one.level is level]


async def problems(b: Bench) -> list[str]:
    return await found(b, Severity.PROBLEM)


async def health(b: Bench) -> list[str]:
    """What `ordersync health` complains about after the next heartbeat."""
    now = b.services.clock.now()
    return heartbeat.diagnose(heartbeat.Beat("w", 1, now, now, await reporter(b.services)()), now)


async def status(b: Bench) -> tuple[str, str]:
    """Health and cause of the orders, as `ordersync status` shows them."""
    rows = await StatusCollector(b.redis, Settings()).rows()
    return next((row["health"], row["cause"]) for row in rows if row["resource"] == "orders")


async def test_a_later_layout(
    bench: BenchMaker, redis_url: str, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """State of another version is refused and stays as it is: doctor and health fail, with what the user can do."""
    words = "the keys of account default have layout 4, but this version writes layout 3"
    async with bench() as b:
        await b.poll()
        await b.redis.set(b.account.keys.layout, "4")
        before = await b.redis.dump(b.account.keys.cursor("orders"))
        run = await b.poll()
        assert (run.outcome.value, run.error_code) == ("failed", "data")
        assert await b.redis.dump(b.account.keys.cursor("orders")) == before
        for said in (run.error, *await health(b), (await status(b))[1], *await problems(b)):
            assert words in said
        assert "delete the keys ordersync:{default}:* or set another database" in run.error
        assert (await status(b))[0] == Health.FAILING
        found, done = doctor(sandbox, redis_url, tmp_path)
        assert (done.returncode, findings_of(found, "state", "problem")) == (1, [words])
        await b.redis.set(b.account.keys.layout, "3")
        await b.poll()
        assert await health(b) == await problems(b) == []
        assert (await status(b))[0] == Health.OK


async def test_each_key_of_a_wrong_type_is_named(bench: BenchMaker) -> None:
    """Doctor names it, whichever key of the account it is."""
    async with bench(intervals={"orders": 1.0, "order_audit": 1.0}) as b:
        await b.poll()
        b.sandbox.store.change(1, note="x")
        await b.poll()
        await b.poll(AUDIT_LOGS["order_audit"])
        await announce(b.services)
        await b.account.resyncer.resyncs.create(ResyncRequest(resource="notes", all=True), 1.0, "aa")
        more = b.account.keys
        await b.redis.setbit(more.resync_shown("aa"), 1, 1)
        await b.redis.rpush(more.probe("orders"), "x")
        await b.redis.hset(more.stale("orders"), "x", "x")
        await b.redis.set(more.put_back, "1")
        async with Consumer(b.redis, group="g", resources=["orders"], name="c", wait=False) as consumer:
            async for delivery in consumer:
                await delivery.ack()
        await b.redis.sadd(more.replayed("orders", "g"), "1-1")
        await b.redis.set(more.consumer_lock("orders", "g", "c"), "x")
        assert await problems(b) == []
        keys = sorted(key.decode() for key in await b.redis.keys("*"))
        # Those of one bucket stand for the others.
        buckets = {key.rpartition(":")[0]: key for key in keys if key.rpartition(":")[2].isdigit()}
        chosen = [key for key in keys if not key.rpartition(":")[2].isdigit()]
        for key in [*chosen, *buckets.values()]:
            kept = await b.redis.dump(key)
            await b.redis.delete(key)
            await (b.redis.set(key, "x") if key.endswith(("runs", "contract")) else b.redis.pfadd(key, "x"))
            kind = "string"
            if (await b.redis.type(key)).decode() == kind and await is_text(b, kept):
                await b.redis.delete(key)
                await b.redis.lpush(key, "x")
                kind = "list"
            assert any(f"{key} is a {kind}" in text for text in await problems(b)), key
            await b.redis.restore(key, 0, kept, replace=True)
        assert await problems(b) == []


async def is_text(b: Bench, dump: bytes) -> bool:
    """Whether a key that was dumped is a string."""
    await b.redis.restore("probe", 0, dump, replace=True)
    kind: Any = await b.redis.type("probe")
    await b.redis.delete("probe")
    return bool(kind == b"string")


async def test_a_key_of_a_wrong_type_fails_health_at_once(bench: BenchMaker) -> None:
    """The cursor cannot show why the polls fail, so the worker remembers it, and ends it when a poll succeeds."""
    async with bench() as b:
        await b.poll()
        due = b.account.keys.refresh_queue("orders")
        await b.redis.delete(due)
        await b.redis.set(due, "foreign")
        await b.poll()
        await b.poll()
        (said,) = await health(b)
        assert (
            "default/orders: the poll failed 2 times in a row: a key of the account contains a value" in said
        )
        state, cause = await status(b)
        assert state == Health.FAILING
        assert "a key of the account contains a value that this program did not write" in cause
        assert "`ordersync doctor` names the key" in cause
        await b.redis.delete(due)
        await b.poll()
        assert await health(b) == []
        assert (await status(b))[0] == Health.OK


async def test_evicted_keys(
    bench: BenchMaker, own_server: Server, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """An eviction may have taken anything: doctor fails, and status and health say it until it is reset."""
    async with bench(url=own_server.url) as b:
        await b.poll()
        await b.redis.config_set("maxmemory-policy", "volatile-random")  # spares the keys of the account
        used = (await b.redis.info("memory"))["used_memory"]
        for number in range(200):
            await b.redis.set(f"other:{number}", "x" * 10_000, ex=1000)
        await b.redis.config_set("maxmemory", used + 500_000)
        await b.redis.set("other:more", "x")
        await b.redis.config_set("maxmemory-policy", "noeviction")
        await b.redis.config_set("maxmemory", 0)
        assert (await b.redis.info("stats"))["evicted_keys"] > 0
        found, done = doctor(sandbox, own_server.url, tmp_path)
        assert done.returncode == 1
        (text,) = findings_of(found, "redis", "problem")
        assert "keys since its start, so unread events and states of records may be lost" in text
        (beat,) = await reporter(b.services)()
        assert (beat.health, beat.unrecorded) == (Health.DEGRADED, True)
        assert beat.cause.startswith(text)
        await announce(b.services)
        assert await status(b) == (Health.DEGRADED, beat.cause)
        await b.redis.config_resetstat()
        assert not findings_of(doctor(sandbox, own_server.url, tmp_path)[0], "redis", "problem")


def test_health_lists_what_is_degraded(tmp_path: Path) -> None:
    """A degraded resource does not end the process, and is named."""
    beat = heartbeat.ResourceBeat("default", "orders", "degraded", "Redis went back")
    heartbeat.write(tmp_path, heartbeat.Beat("w", 1, time.time(), time.time(), [beat]))
    done = ordersync("health", cwd=tmp_path, data_dir=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "healthy\ndefault/orders: Redis went back\n")


async def test_a_loss_is_a_warning(bench: BenchMaker) -> None:
    """Doctor shows what Redis has lost until a full scan has ended."""
    async with bench() as b:
        await b.poll()
        await b.redis.hset(
            b.account.keys.cursor("orders"), mapping={"lost_at": 4e9, "loss": "Redis went back"}
        )
        assert await found(b, Severity.WARNING) == ["orders: Redis went back"]
