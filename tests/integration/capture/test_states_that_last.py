"""Whatever a gateway has done, each state that lasts ends once the gateway is well again (docs/concepts/health.md)."""

from __future__ import annotations

import json
from typing import Any

import anyio
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.servers import Server
from tests.support.worker import Bench, BenchContext
from worker.capture.health import Health, judge
from worker.sandbox import FaultRule, SandboxServer, ServedContract

CONTRACTS: tuple[dict[str, Any], ...] = (
    {"since_honoured": True, "choices_honoured": False},
    {"sort_honoured": True, "choices_honoured": False},
    {},
    {"choices_honoured": False},
)
TROUBLES = ("older", "older, no reads by id", "empty", "fails", "unreadable", "lags", "cut off")
POLLS = 8
"""Polls after which nothing may be left of it: each second one reads everything."""


def trouble(b: Bench, kind: str, number: int) -> None:
    """Let the gateway do this to an order, or to all of them."""
    order = b.sandbox.store.ids()[number]
    before = json.loads(b.sandbox.store.truth()[order])
    if kind.startswith("older"):
        after = before | {"status": f"Odd {number}", "updatedAt": "2020-01-01T00:00:00Z"}
        b.sandbox.store.replace(order, json.dumps(after).encode())
    if kind == "unreadable":
        b.sandbox.store.replace(order, b'{"id":"%b","status":"\x01"}' % order.encode())
    if kind == "lags":
        b.sandbox.hide("orders", order)
        b.sandbox.store.change(order, status=f"Odd {number}")
    rules = {
        "older, no reads by id": FaultRule("status", operation="orders.get", code=500),
        "empty": FaultRule("empty", operation="orders.search"),
        "fails": FaultRule("status", operation="orders.search", code=500),
        "cut off": FaultRule("truncate", operation="orders.search"),
    }
    b.sandbox.faults.replace((rules[kind],) if kind in rules else ())


def heal(b: Bench) -> None:
    """Let the gateway be well: each order can be read, and the list shows it as it is."""
    b.sandbox.faults.clear()
    b.sandbox.show("orders")
    for order, raw in b.sandbox.store.truth().items():
        if b"\x01" in raw:
            b.sandbox.store.replace(order, json.dumps({"id": order, "status": "Open"}).encode())


async def live(troubles: list[tuple[str, int]], contract: dict[str, Any], url: str) -> None:
    """Let each trouble last for two polls, then the gateway be well, and see that all of it ends."""
    with SandboxServer(orders=40, contract=ServedContract(**contract)) as sandbox:
        async with BenchContext(sandbox, url, {"probe": True, "page_size": 10}) as b:
            await b.poll()
            for kind, number in troubles:
                trouble(b, kind, number)
                await b.poll()
                await b.poll(complete=True)
            heal(b)
            for number in range(POLLS):
                await b.poll(complete=bool(number % 2))
                await b.grow_old()
                cursor = await b.cursor()
                verdict = judge(cursor, b.services.clock.now())
                if number % 2 and verdict.health is Health.OK:
                    break
            assert (verdict.health, verdict.cause) == (Health.OK, "")
            assert (cursor.stale, cursor.suspicious, cursor.unreadable, cursor.held_back) == (0, "", 0, 0)
            told = {event.subject: json.loads(event.data) for event in await b.events()}
            assert told == {order: json.loads(raw) for order, raw in sandbox.store.truth().items()}


@settings(
    max_examples=6,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    troubles=st.lists(st.tuples(st.sampled_from(TROUBLES), st.integers(0, 9)), min_size=1, max_size=4),
    contract=st.sampled_from(CONTRACTS),
)
@example(troubles=[(kind, number) for number, kind in enumerate(TROUBLES)], contract=CONTRACTS[0])
@example(troubles=[(kind, number) for number, kind in enumerate(TROUBLES)], contract=CONTRACTS[2])
def test_each_state_ends(
    troubles: list[tuple[str, int]], contract: dict[str, Any], shared_server: Server
) -> None:
    """In any order, under any strategy: the resource is `ok`, and what was published is what the gateway serves."""
    with redis.Redis.from_url(shared_server.url) as client:
        client.flushall()
    anyio.run(live, troubles, contract, shared_server.url)
