"""A worker that is killed while it takes over the keys of an earlier layout: its successor goes on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.chaos.test_killed import Victim
from tests.support import layouts
from tests.support.streams import KEYS, STREAM
from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker
from worker.capture.state.given_out import GivenOut
from worker.capture.state.layout import LAYOUT, TAKING_OVER
from worker.capture.state.run import Outcome
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """The orders come from what was recorded."""
    with SandboxServer(orders=0) as server:
        yield server


async def is_complete(b: Bench, records: int) -> bool:
    """A successor reads all records, and publishes none of them; false as long as the dead one has the lease."""
    run = await b.poll(complete=True)
    assert run.outcome in {Outcome.HELD, Outcome.COMPLETE}, run.error
    assert (run.published, run.missing) == (0, 0)
    return run.outcome is Outcome.COMPLETE and run.unchanged == records


@pytest.mark.slow
@pytest.mark.parametrize("layout", [name for name in layouts.LAYOUTS if name != LAYOUT])
async def test_killed_while_it_takes_over(
    layout: str, bench: BenchMaker, redis_url: str, sandbox: SandboxServer
) -> None:
    """SIGKILL between any two calls, until the layout is that of this version. Nothing is published again."""
    victim = Victim(redis_url, sandbox.url)
    seen = list[str]()
    async with bench() as b:
        await b.account.client.tokens.get()
        kept = {name: await b.redis.dump(name) for name in (KEYS.token, KEYS.contract)}
        while LAYOUT not in seen:
            await b.redis.flushall()
            b.account.poller.context.given_out = GivenOut()  # or the flush would be a loss
            for name, value in kept.items():
                await b.redis.restore(name, 0, value)
            events = await layouts.restore(b.redis, layout)
            layouts.serve(sandbox, events)
            count = await b.redis.xlen(STREAM)
            assert victim.kill_at(len(seen) + 1) == "killed"
            seen.append((await b.redis.get(KEYS.layout)).decode())
            await eventually(partial(is_complete, b, len(events)))
            assert (await b.redis.xlen(STREAM), await b.redis.get(KEYS.layout)) == (count, LAYOUT.encode())
            assert (await b.cursor()).places == len(events)
    victim.end()
    assert seen[0] == layout
    assert seen == sorted(seen, key=["1", TAKING_OVER, "2", LAYOUT].index)
