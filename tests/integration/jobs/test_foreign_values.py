"""Values that another program has written: what they concern is said and set aside, everything else goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
import structlog
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix

from jobs.schedule import poll_id
from jobs.worker import make_resync_worker
from tests.support.arq_worker import POLLS, SCANS, planned, working
from tests.support.garbage import Spoil, kinds_for
from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker, account_for, know_contract
from worker.app import open_services
from worker.cancellation import end
from worker.capture.registry import AUDIT_LOGS, ORDERS
from worker.capture.resync.requests import ResyncRequest
from worker.capture.state.pauses import Pause
from worker.clock import SystemClock
from worker.keys import KeySpace
from worker.sandbox import SandboxServer
from worker.services import Services

pytestmark = pytest.mark.anyio

EACH = 3
"""Ways to spoil each key, chosen by its name; `make fuzz` and the tests of each reader try more values."""


async def test_jobs_of_another_program(
    bench: BenchMaker, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that are not UTF-8, or name nothing, are removed and named; polls go on in the same worker.

    A resource that this version does not know may be one of a later version: its job is handed back before.
    """
    monkeypatch.setattr("jobs.lane_worker.ELSEWHERE_SECONDS", 0.0)
    odd = [
        b"ordersync:\xff\xfe",
        b"\xff",
        b"listed",
        b"poll",
        b"poll:default",
        b"reconcile:default:x",
        b"x:y:z",
        b"",
    ]
    async with bench() as b:
        with structlog.testing.capture_logs() as lines:
            await b.redis.zadd(POLLS, dict.fromkeys(odd, 1))
            await b.redis.zadd(POLLS, {b"poll:default:nothing": 2})
            async with working(b, redis_url):
                await eventually(lambda: b.redis.xlen(b.account.keys.runs))
                await eventually(
                    lambda: len([1 for line in lines if line["event"] == "job_dropped"]) == len(odd)
                )
                await eventually(lambda: _are_gone(b, [*odd, b"poll:default:nothing"]))
        dropped = {line["job"] for line in lines if line["event"] == "job_dropped"}
        assert dropped >= {r"ordersync:\xff\xfe", "listed", "poll:default"}


async def _are_gone(b: Bench, jobs: list[bytes]) -> bool:
    return set(jobs).isdisjoint(await b.redis.zrange(POLLS, 0, -1))


async def test_requests_of_another_program(bench: BenchMaker, redis_url: str) -> None:
    """Ids that are not UTF-8 and keys of a wrong type are removed and named; the worker goes on."""
    odd, requests = b"ordersync:\xff\xfe", KeySpace().resync_queue
    async with bench() as b:
        with structlog.testing.capture_logs() as lines:
            await b.redis.zadd(requests, {odd: 1, b"listed": 1, b"counted": 1, b"marked": 1})
            await b.redis.set(job_key_prefix.encode() + odd, b"{}")
            await b.redis.rpush(f"{job_key_prefix}listed", "x")
            await b.redis.set(f"{job_key_prefix}counted", b'{"t":null,"f":"resync","a":[],"k":{},"et":1}')
            await b.redis.set(f"{retry_key_prefix}counted", "x")
            await b.redis.rpush(f"{in_progress_key_prefix}marked", "x")
            worker = make_resync_worker(redis_url, b.services, "test-1")
            running = asyncio.ensure_future(worker.async_run())
            await eventually(lambda: len([1 for line in lines if line["event"] == "job_dropped"]) >= 3)
            assert not running.done()
            await end(running)
            await worker.close()
        dropped = {line["job"] for line in lines if line["event"] == "job_dropped"}
        assert dropped >= {r"ordersync:\xff\xfe", "listed", "counted"}
        left = await b.redis.zrange(requests, 0, -1)
        assert not {odd, b"listed", b"counted"} & set(left)
        assert not await b.redis.exists(job_key_prefix.encode() + odd)


@asynccontextmanager
async def two_accounts(sandbox: SandboxServer, url: str) -> AsyncIterator[Services]:
    """`ill`, with a key of nearly every kind, and `well`."""
    accounts = [account_for(sandbox, name) for name in ("ill", "well")]
    async with open_services(accounts, url, SystemClock()) as place:
        await know_contract(place)
        ill = place.accounts["ill"]
        for _ in range(2):
            await ill.poller.poll(ORDERS)
            sandbox.store.change(2, note="x")
        await ill.poller.poll(AUDIT_LOGS["order_audit"])
        await ill.reconciler.run([ORDERS], stop=lambda: False)
        await ill.resyncer.resyncs.create(ResyncRequest(resource="orders", all=True), place.clock.now())
        paused = Pause("notes", "x", "ann", 1.0)
        await ill.poller.context.pauses.begin([paused])
        yield place


def spoilers(client: Any, keys: list[bytes]) -> Iterator[tuple[bytes, str, Spoil]]:
    """Some ways to spoil each key."""
    for key in keys:
        ways = list(kinds_for(client.type(key).decode()))
        chosen = random.Random(key).sample(ways[1:], EACH)
        yield from ((key, name, spoil) for name, spoil in (ways[0], *chosen))


async def test_spoiled_keys_of_one_account(sandbox: SandboxServer, redis_url: str) -> None:
    """Whatever a key of one account contains, the polls of the other one are planned.

    The poll of the first one ends with an outcome, and raises nothing.
    """
    async with two_accounts(sandbox, redis_url) as place, planned(place, redis_url) as schedule:
        ill, job = place.accounts["ill"], poll_id("well", "orders")
        with redis.Redis.from_url(redis_url) as client:
            found = sorted(client.keys(f"{ill.keys.base}*"))
            buckets = {key.rpartition(b":")[0]: key for key in found if key.rpartition(b":")[2].isdigit()}
            keys = [key for key in found if not key.rpartition(b":")[2].isdigit() and b":lock" not in key]
            keys += buckets.values()
            assert len(keys) >= 18
            for key, name, spoil in list(spoilers(client, keys)):
                kept = client.dump(key)
                spoil(client, key)
                client.delete(SCANS)
                client.hset(place.accounts["well"].keys.cursor("orders"), "due_at", 0)
                await schedule.tick.run(lost=True)
                assert f"scans/{job}" in await schedule.listed(), (key, name)
                run = await ill.poller.poll(ORDERS)
                assert run.outcome, (key, name)
                client.restore(key, 0, kept, replace=True)
                client.hdel(ill.keys.lease("orders"), "owner", "until")
            run = await ill.poller.poll(ORDERS)
    assert run.outcome in {"complete", "partial"}


async def test_a_budget_of_another_program(bench: BenchMaker) -> None:
    """No value makes a request wait for longer than the gateway may ask for."""
    async with bench() as b:
        await b.poll()
        for value in ("-1e308", "1e308", "nan", "inf", "-inf", "x"):
            fields = dict.fromkeys(("tokens", "at", "exhausted_until", "used", "minute", "before"), value)
            await b.redis.hset(b.account.keys.budget, mapping=fields)
            run = await b.poll()
            assert (run.outcome, run.error) == ("complete", "")
            assert run.usage.budget_wait < 10


async def test_a_lease_of_another_program(bench: BenchMaker) -> None:
    """A fencing number or an end that no worker writes does not keep workers away, now or later."""
    async with bench() as b:
        await b.poll()
        for value in ("1e308", "nan", "inf", "-inf", "x", "-5"):
            await b.redis.hset(b.account.keys.lease("orders"), mapping={"fence": value, "owner": ""})
            assert (await b.poll()).outcome == "complete"
            await b.redis.hset(b.account.keys.lease("orders"), mapping={"until": value, "owner": ""})
            assert (await b.poll()).outcome == "complete"
