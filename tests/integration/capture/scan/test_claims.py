"""What `complete` claims is so, whatever moves and whoever is killed: a property over lists that change while read."""

from __future__ import annotations

import time
from random import Random
from typing import Any, NamedTuple

import anyio
import pytest
import redis
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.campaign import Worker, worker_at
from tests.support.gateway import Gateway, Judge, Serving
from tests.support.servers import Server
from worker.capture.state.run import Outcome
from worker.capture.state.store import StateStore
from worker.errors import LeaseLost

SIZE = 5


class Kill:
    """Ends the worker before its next commit but so many: what it has committed stays, and nothing is added."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.after: int | None = None
        commit = StateStore.commit

        async def counted(store: StateStore, *args: Any) -> bool:
            if self.after is not None:
                self.after -= 1
                if self.after < 0:
                    raise LeaseLost("orders", 0)
            return await commit(store, *args)

        patch.setattr(StateStore, "commit", counted)


def unpublished(gateway: Gateway, judge: Judge, until: float, since: float) -> list[str]:
    """Orders whose state of the moment `until`, or a later one, was not told; one that is deleted need not be.

    `since`: when the first scan began. One that was created after then and was never told has slipped by in each scan
    since; the first scans do not promise it.
    """
    judge.take()
    found = []
    for subject, line in gateway.history.lines["orders"].items():
        held = [number for number, state in enumerate(line.states) if state.at < until]
        if not held or line.states[-1].content is None:
            continue
        told = [
            each.data for each in judge.told["orders"] if each.subject == subject and each.action != "deleted"
        ]
        if not told and line.states[0].at >= since:
            continue
        if not any(state.content in told for state in line.states[held[-1] :]):
            found.append(subject)
    return found


def mover(gateway: Gateway, chance: Random, *, deletes: bool) -> Any:
    """Let something happen before a page is served: an order changes, comes, or goes."""

    def move(_kind: str, _page: int) -> None:
        history = gateway.history
        match chance.choice(["nothing", "change", "change", "create", "delete"]):
            case "change":
                history.change("orders", [chance.choice(history.ids("orders"))])
            case "create" if not deletes:
                history.create("orders")
            case "delete" if deletes:
                history.delete("orders", [chance.choice(history.ids("orders"))])
            case _:
                pass

    return move


class Course(NamedTuple):
    """How the list is served, and the lives of the workers: commits before the end, and seconds until the next one.

    `deletes`: orders go while the list is read; otherwise they come.
    """

    order: Any
    total: str | None
    lives: list[tuple[int | None, float]]
    seed: int
    deletes: bool


async def live(url: str, course: Course) -> None:
    """Polls, some of which are killed, while the list moves."""
    chance = Random(course.seed)
    serving = Serving(total=course.total, order=course.order)
    with (
        Gateway(orders=32, serving=serving) as gateway,
        Judge(gateway, url) as judge,
        pytest.MonkeyPatch.context() as patch,
    ):
        kill, since = Kill(patch), time.time()
        async with worker_at(gateway, url, page_size=SIZE, max_concurrency=3) as worker:
            for after, wait in course.lives:
                gateway.history.change("orders", chance.sample(gateway.history.ids("orders"), 3))
                serving.before_page = mover(gateway, chance, deletes=course.deletes)
                kill.after = after
                run = await worker.poll()
                kill.after = None
                if run.outcome is Outcome.COMPLETE:
                    await check(gateway, judge, worker, since)
                worker.clock.offset += wait
            serving.before_page = None
            for _ in range(4):
                await worker.poll(complete=True)
                worker.clock.offset += 60
            judge.take()
            assert not judge.missed()


async def check(gateway: Gateway, judge: Judge, worker: Worker, since: float) -> None:
    """Everything of before `fresh_as_of` is published, or is read by its id as the next thing."""
    until = (await worker.cursor()).fresh_as_of - worker.clock.offset
    if unpublished(gateway, judge, until, since):
        await worker.poll(follow_ups_only=True)
    assert unpublished(gateway, judge, until, since) == []


@st.composite
def courses(draw: st.DrawFn) -> Course:
    """A way of serving, and what happens to the workers, one after the other."""
    kills = st.none() | st.integers(0, 8)
    total = draw(st.sampled_from(["totalCount", None]))
    return Course(
        draw(st.sampled_from(["created", "-created", "modified", "-modified"])),
        total,
        draw(st.lists(st.tuples(kills, st.sampled_from([0.0, 0.0, 0.5, 30.0])), min_size=3, max_size=8)),
        draw(st.integers(0, 1000)),
        # Without a total nothing tells that an order went while a first scan was under way.
        total is not None and draw(st.booleans()),
    )


@settings(max_examples=15)
@example(  # a worker was killed that had looked an order up, and not committed it
    course=Course(
        "modified", None, [(None, 0), (0, 0.5), (2, 0), (None, 30), (5, 0), (None, 30)], 770, deletes=False
    )
)
@given(course=courses())
def test_complete_is_complete(shared_server: Server, course: Course) -> None:
    """Killed before any commit, resumed or started over, with pages that move and totals that do or do not change."""
    with redis.Redis.from_url(shared_server.url) as client:
        client.flushall()
    anyio.run(live, shared_server.url, course)
