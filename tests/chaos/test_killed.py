"""A worker that is killed between any two of its calls: its successor finds nothing missing, nothing twice."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import Bench, BenchMaker
from worker.capture.state.given_out import GivenOut
from worker.capture.state.run import Outcome
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

ORDERS_AT_FIRST, PAGE_SIZE = 60, 10


class Victim:
    """The process whose children are killed."""

    def __init__(self, redis_url: str, sandbox_url: str) -> None:
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.poll_process", redis_url, sandbox_url, str(PAGE_SIZE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )

    def kill_at(self, point: int) -> str:
        """Poll until that point. What became of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{point}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        """No more children."""
        self._process.communicate(timeout=PATIENCE)


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """As many orders as the test is about."""
    with SandboxServer(orders=ORDERS_AT_FIRST) as server:
        yield server


@pytest.fixture
def victim(redis_url: str, sandbox: SandboxServer) -> Iterator[Victim]:
    one = Victim(redis_url, sandbox.url)
    yield one
    one.end()


async def succeed(b: Bench) -> None:
    """A successor polls to the end, as soon as the lease of the dead one has run out."""
    outcomes = []

    async def poll() -> bool:
        run = await b.poll(complete=True)
        outcomes.append(run.outcome)
        return run.outcome is not Outcome.HELD

    await eventually(poll)
    # What was resumed is over now; one that had only the end of the list left to see is doubted, and begun anew.
    outcomes += [(await b.poll(complete=True)).outcome for _ in range(2)]
    assert set(outcomes) <= {Outcome.HELD, Outcome.COMPLETE, Outcome.SUSPICIOUS}
    assert outcomes[-1] is Outcome.COMPLETE


async def check(b: Bench, changed: set[str], created: set[str]) -> None:
    """The set of events is the set of changes."""
    events = await b.events()
    assert [each.sequence for each in events] == list(range(1, len(events) + 1))
    assert len({each.id for each in events}) == len(events)
    happened = Counter((each.subject, each.action, each.version) for each in events)
    old = {each for each in b.sandbox.store.ids() if each not in created}
    expected = (
        Counter((each, "snapshot", 1) for each in old)
        + Counter((each, "updated", 2) for each in changed)
        + Counter((each, "created", 1) for each in created)
    )
    assert happened == expected
    last = {each.subject: each.data for each in events}
    assert last == b.sandbox.store.truth()
    assert len(await b.redis.xrange(b.account.keys.dead("orders"))) == 0


async def through_all_points(b: Bench, victim: Victim, *, first_read: bool) -> int:
    """Kill a poll at its first call, its second, ... until one lives. The number of points."""
    store = b.sandbox.store
    await b.account.client.tokens.get()
    token = await b.redis.dump(b.account.keys.token)
    point = 0
    while True:
        point += 1
        await b.redis.flushall()
        b.account.poller.context.given_out = GivenOut()  # or the flush would be a loss
        await b.redis.restore(b.account.keys.token, 0, token)
        changed: set[str] = set()
        created: set[str] = set()
        if not first_read:
            await b.poll()
            changed = set(store.change(12))
            created = set(store.create(2))
        fate = victim.kill_at(point)
        assert fate in {"killed", "lived"}
        await succeed(b)
        await check(b, changed, created)
        for order in created:
            store.delete(order)
        if fate == "lived":
            return point - 1


@pytest.mark.slow
@pytest.mark.parametrize("first_read", [True, False], ids=["first read", "changes"])
async def test_killed_at_each_point(bench: BenchMaker, victim: Victim, *, first_read: bool) -> None:
    """SIGKILL between any two calls of a poll, during the first read and while changes are read."""
    async with bench(page_size=PAGE_SIZE) as b:
        assert await through_all_points(b, victim, first_read=first_read) > 25


def test_the_points_are_real(redis_url: str, victim: Victim) -> None:
    """At the first point nothing has been written; at a late one some pages have been committed, not all."""
    with redis.Redis.from_url(redis_url) as client:
        assert victim.kill_at(1) == "killed"
        assert client.keys("*") == []
        lengths: list[int] = []
        fate = "killed"
        while fate == "killed":
            client.flushall()
            fate = victim.kill_at(10 + 3 * len(lengths))
            lengths.append(client.xlen("ordersync:{default}:stream:orders"))
    assert set(range(0, ORDERS_AT_FIRST + 1, PAGE_SIZE)) >= set(lengths)
    assert len(set(lengths)) > 3
    assert (lengths[0], lengths[-1]) == (0, ORDERS_AT_FIRST)
    # Pages are asked for ahead: the same call is not at the same place in each life, by some pages on a busy machine.
    assert all(later >= before - 3 * PAGE_SIZE for before, later in pairwise(lengths))
