"""What a consumer is built of: clients of other kinds, options that cannot work, and a program without our logs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from redis.asyncio import Redis

from ordersync_consumer import Consumer, Delivery
from ordersync_consumer.consumer.retry import RetryForever
from tests.support.consuming import FastClock, Stage
from tests.support.paths import ROOT
from tests.support.programs import program_env
from tests.support.servers import Server
from tests.support.waiting import PATIENCE, eventually
from worker.errors import SettingsError
from worker.redis.connections import connect

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"protocol": 3}, {"socket_timeout": 1.5}])
async def test_other_clients(
    stage: Stage, stage_server: Server, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that decodes answers, speaks RESP3, or has a shorter timeout than a read may take, does as well."""
    waits: list[str] = []

    async def pause(_: RetryForever, what: str, *_more: object) -> None:
        waits.append(what)

    monkeypatch.setattr(RetryForever, "pause", pause)
    entries = await stage.add("a", "b", "b")
    await stage.group()
    await stage.lie_idle("gone", *await stage.read("gone", 1))
    client: Redis = Redis.from_url(stage_server.url, **options)
    got: list[tuple[str, int]] = []

    async def handle(delivery: Delivery) -> None:
        if delivery.event.version == 2 and delivery.attempt < 3:
            raise ValueError("not now")
        got.append((delivery.entry_id, delivery.attempt))

    block = 2 * options.get("socket_timeout", 0.25)
    consumer = Consumer(client, group="g", resources="orders", name="c1", block=block, clock=FastClock())
    async with consumer, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: consumer.run(handle))
        await eventually(lambda: len(got) == 3)
        await asyncio.sleep(block + 0.1)
        consumer.stop()
    assert sorted(got) == [(entries[0], 2), (entries[1], 1), (entries[2], 3)]
    assert waits == []
    assert await stage.pending() == {}
    await client.aclose()


async def test_a_pool_of_one(stage: Stage, stage_server: Server) -> None:
    """The consumer takes no connection of the client's pool for good."""
    await stage.add("a")
    client = Redis.from_url(stage_server.url, max_connections=1)
    async with Consumer(
        client, group="g", resources=["orders"], name="c1", block=0.1, wait=False
    ) as consumer:
        async for delivery in consumer:
            await asyncio.wait_for(client.ping(), PATIENCE)
            await delivery.ack()
    await client.aclose()
    assert await stage.pending() == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"group": ""},
        {"group": "two words"},
        {"name": "ordersync-replay"},
        {"name": "a\nb"},
        {"account": ""},
        {"resources": []},
        {"begin": "1-0"},
        {"batch": 0},
        {"prefetch": -1},
        {"max_deliveries": 0},
        {"claim_after": 0},
        {"block": 0},
    ],
)
def test_wrong_use(wrong: dict[str, Any]) -> None:
    """What cannot work is refused before anything is connected, and named."""
    options = {"group": "g", "resources": ["orders"], "name": "c1"} | wrong
    with pytest.raises(SettingsError, match=next(iter(wrong)).removesuffix("s")):
        Consumer(connect("redis://127.0.0.1:1"), **options)


async def test_nobody_at_work(stage: Stage) -> None:
    """`run` with nobody to work is refused; it would look like an end."""
    async with stage.consumer() as consumer:
        with pytest.raises(SettingsError, match="parallel"):
            await consumer.run(lambda _: anyio.lowlevel.checkpoint(), parallel=0)


def test_a_program_without_our_logs(redis_url: str, tmp_path: Path) -> None:
    """In a program that has not set up our logs, lines go through `logging` to stderr, and none to stdout."""
    code = f"""
import asyncio, logging
from redis.asyncio import Redis
from ordersync_consumer import Consumer
logging.basicConfig(level="INFO", format="%(name)s %(levelname)s %(message)s")
async def main():
    client = Redis.from_url({redis_url!r})
    async with Consumer(client, group="g", resources=["orders"], name="c1", wait=False) as consumer:
        async for delivery in consumer:
            pass
    await client.aclose()
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=program_env() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    started, stopped = done.stderr.splitlines()
    assert started.startswith("ordersync INFO event='consumer_started'")
    assert "consumer='c1'" in started
    assert "consumer_stopped" in stopped
