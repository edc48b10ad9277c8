"""What `complete` claims is so, whatever moves and whoever is killed: a property over lists that change while read."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple, TypeAlias

import anyio
import pytest
import redis
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.campaign import Worker, worker_at
from tests.support.faulty_gateway import MovedClock
from tests.support.gateway import Gateway, Judge, Serving
from tests.support.host_clock import HostClock
from tests.support.servers import Server
from worker.capture.records.fingerprint import pack_id
from worker.capture.state.put_back import PutBack
from worker.capture.state.store import StateStore
from worker.clock import is_ahead
from worker.errors import LeaseLost
from worker.keys import KeySpace
from worker.redis.connections import answer
from worker.redis.embedded.launch import binary

SIZE = 5


class RedisTime(MovedClock):
    """The clock of Redis, which a test puts on or back: that of the server, and the worker's knowledge of it."""

    def __init__(self, url: str, server: HostClock | None) -> None:
        super().__init__()
        self._url = url
        self._server, self._jumped_at = server, -float("inf")

    def step(self, seconds: float) -> None:
        """Put it on, or back if negative, just after a worker has looked at it."""
        with redis.Redis.from_url(self._url) as client:
            client.hset(KeySpace().clock, "seen", f"{self.now():.6f}")
        self.offset += seconds
        if self._server is not None:
            self._server.set(self.offset)
        if seconds > 1:
            self._jumped_at = self.monotonic()

    def steady_for(self) -> float:
        """As the clock of a worker."""
        return self.monotonic() - self._jumped_at


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
    """Let something happen before a page is served: an order changes, comes, or goes; half of them go at most."""

    def move(_kind: str, _page: int) -> None:
        history = gateway.history
        few = len(history.ids("orders")) <= len(history.lines["orders"]) // 2
        match chance.choice(["nothing", "change", "change", "create", "delete"]):
            case "change":
                history.change("orders", [chance.choice(history.ids("orders"))])
            case "create" if not deletes:
                history.create("orders")
            case "delete" if deletes and not few:
                history.delete("orders", [chance.choice(history.ids("orders"))])
            case _:
                pass

    return move


Clock: TypeAlias = Literal["redis", "gateway"]


class Step(NamedTuple):
    """A clock is put on by `seconds`, or back, before page number `page` of a life is served; 0 for before the life."""

    clock: Clock
    seconds: float
    page: int = 0


class Course(NamedTuple):
    """How the list is served, and the lives of the workers: commits before the end, and seconds until the next one.

    The gateway's clock does not go on between two lives: that of the worker is ahead of it, which nothing says.
    `deletes`: orders go while the list is read; otherwise they come. `steps`: those of each life. `dates`: the gateway
    says what time it is. `filters`, `sorts`: as in `Serving`.
    """

    order: Any
    total: str | None
    lives: list[tuple[int | None, float]]
    seed: int
    deletes: bool
    steps: Sequence[Sequence[Step]] = ()
    dates: bool = True
    filters: bool = False
    sorts: bool = False


async def live(url: str, course: Course, server: HostClock | None = None) -> None:
    """Polls, some of which are killed, while the list moves and the clocks are put on or back."""
    chance = Random(course.seed)
    serving = Serving(
        total=course.total, order=course.order, dates=course.dates, filters=course.filters, sorts=course.sorts
    )
    clock = RedisTime(url, server)
    clock.step(0)
    with (
        Gateway(orders=32, serving=serving) as gateway,
        Judge(gateway, url) as judge,
        pytest.MonkeyPatch.context() as patch,
    ):
        kill, since = Kill(patch), time.time()
        async with worker_at(gateway, url, page_size=SIZE, max_concurrency=3, clock=clock) as worker:
            for number, (after, wait) in enumerate(course.lives):
                steps = course.steps[number] if number < len(course.steps) else ()
                for step in steps:
                    if not step.page:
                        put(step, gateway, clock)
                await tick(worker)
                await check(gateway, judge, worker, since)
                gateway.history.change("orders", chance.sample(gateway.history.ids("orders"), 3))
                move = mover(gateway, chance, deletes=course.deletes)
                serving.before_page = stepping(steps, move, gateway, clock)
                kill.after = after
                await worker.poll()
                kill.after = None
                await tick(worker)
                await check(gateway, judge, worker, since)
                clock.step(wait)
            serving.before_page = None
            for _ in range(4):
                await worker.poll(complete=True)
                await tick(worker)
                await check(gateway, judge, worker, since)
                clock.step(60)
            wrong = judge.verdict().counts
            wrong.pop("wrong_first", None)
            assert wrong == {}, judge.verdict()


def put(step: Step, gateway: Gateway, clock: RedisTime) -> None:
    """Put a clock on or back."""
    if step.clock == "gateway":
        gateway.history.step_clock(step.seconds)
    else:
        clock.step(step.seconds)


def stepping(steps: Sequence[Step], move: Any, gateway: Gateway, clock: RedisTime) -> Any:
    """Put clocks on or back before the pages of these steps, and let `move` happen before each."""
    served = 0

    def before(kind: str, page: int) -> None:
        nonlocal served
        served += 1
        for step in steps:
            if step.page == served:
                put(step, gateway, clock)
        move(kind, page)

    return before


async def tick(worker: Worker) -> None:
    """What a tick of the worker does about the clock of Redis."""
    put_back = PutBack(worker.place.redis, KeySpace())
    back = await put_back.look()
    await put_back.follow(worker.account.keys, ["orders"], back)


async def check(gateway: Gateway, judge: Judge, worker: Worker, since: float) -> None:
    """Everything of before `fresh_as_of` is published, or is read by its id as the next thing.

    A record whose time went back is published when a second read has confirmed it: meanwhile it is counted as stale.
    """

    async def missed() -> set[bytes]:
        cursor = await worker.cursor()
        as_of = 0.0 if is_ahead(cursor.fresh_as_of, worker.clock.now()) else cursor.fresh_as_of
        found = unpublished(gateway, judge, as_of - worker.clock.offset, since)
        stale = await answer(worker.place.redis.hkeys(worker.account.keys.stale("orders")))
        assert cursor.stale == len(stale)
        return {pack_id(each) for each in found} - set(stale)

    if await missed():
        await worker.poll(follow_ups_only=True)
    assert await missed() == set()


STEPS = (4.0, 10.0, 60.0, 300.0, 1200.0, 3600.0, 7200.0)


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


@st.composite
def courses_of_clocks(draw: st.DrawFn) -> Course:
    """Likewise, while one or two clocks are put on and back."""
    course = draw(courses())
    clocks = draw(st.sampled_from([["redis"], ["gateway"], ["redis", "gateway"]]))
    step = st.builds(
        Step,
        st.sampled_from(clocks),
        st.sampled_from(STEPS).map(float) | st.sampled_from(STEPS).map(lambda seconds: -seconds),
        st.sampled_from([0, 0, 0, 1, 2, 4, 7]),
    )
    return course._replace(
        steps=draw(st.lists(st.lists(step, max_size=2), max_size=len(course.lives))),
        dates=draw(st.booleans()),
        filters=draw(st.sampled_from([False, False, True])),
        sorts=draw(st.sampled_from([False, False, True])),
    )


@pytest.mark.slow
@settings(max_examples=15)
@example(  # a worker was killed that had looked an order up, and not committed it
    course=Course(
        "modified", None, [(None, 0), (0, 0.5), (2, 0), (None, 30), (5, 0), (None, 30)], 770, deletes=False
    )
)
@example(  # a worker's clock was ahead, so that what changed now seemed to have changed before the scan
    course=Course("modified", None, [(8, 0.0), (6, 30.0), (8, 0.0)], 271, deletes=False)
)
@example(  # likewise, and not in each run
    course=Course(
        "modified",
        None,
        [(None, 0.5), (None, 30.0), (8, 0.0), (4, 0.0), (None, 30.0), (0, 0.0)],
        277,
        deletes=False,
    )
)
@example(  # likewise, with a total
    course=Course("modified", "totalCount", [(1, 30.0), (7, 0.0), (5, 0.0)], 960, deletes=False)
)
@example(  # a known order had gone before the scan, and was counted instead of one that slipped by
    course=Course(
        "-modified",
        "totalCount",
        [(3, 30.0), (1, 0.0), (None, 30.0), (0, 30.0), (3, 0.0), (5, 0.5)],
        251,
        deletes=True,
    )
)
@given(course=courses())
def test_complete_is_complete(shared_server: Server, course: Course) -> None:
    """Killed before any commit, resumed or started over, with pages that move and totals that do or do not change."""
    with redis.Redis.from_url(shared_server.url) as client:
        client.flushall()
    anyio.run(live, shared_server.url, course)


@pytest.fixture(scope="module")
def stepped_server() -> Iterator[tuple[Server, HostClock]]:
    """A server whose clock a test puts on and back."""
    with tempfile.TemporaryDirectory() as folder:
        clock = HostClock(Path(folder))
        server = Server(Path(folder), clock.program(binary()))
        server.start()
        yield server, clock
        server.stop()


@pytest.mark.slow
@settings(max_examples=15)
@example(  # Redis is 20 minutes behind a gateway that does not say its time: moves seemed to lie in the future
    course=Course(
        "modified", None, [(None, 0.0)], 126, deletes=False, steps=[[Step("redis", -1200.0)]], dates=False
    )
)
@example(  # it is two hours ahead: moves seemed to be older than the scan
    course=Course(
        "modified",
        "totalCount",
        [(4, 0.0), (7, 0.0), (0, 0.0), (1, 0.0)],
        490,
        deletes=False,
        steps=[
            [Step("redis", 7200.0), Step("redis", 4.0)],
            [Step("redis", 3600.0, 2)],
            [Step("redis", -1200.0, 1)],
            [Step("redis", -10.0, 2), Step("redis", 3600.0)],
        ],
        dates=False,
        sorts=True,
    )
)
@example(  # the clock of Redis was put back, and what was read seemed to be as much younger
    course=Course(
        "created",
        None,
        [(None, 0.0), (None, 0.5), (None, 0.0), (None, 0.0)],
        800,
        deletes=False,
        steps=[[], [Step("redis", -60.0, 2)], [Step("redis", -300.0, 1)], [Step("redis", -4.0)]],
    )
)
@example(  # likewise, and the next complete read kept the later time
    course=Course(
        "-created",
        "totalCount",
        [(None, 0.0), (None, 0.0), (None, 0.0), (None, 0.0)],
        478,
        deletes=False,
        steps=[[], [], [], [Step("redis", -4.0)]],
    )
)
@given(course=courses_of_clocks())
def test_no_clock_makes_a_claim_lie(stepped_server: tuple[Server, HostClock], course: Course) -> None:
    """The clocks of Redis and of the gateway are put on and back, between two polls and while one reads."""
    server, clock = stepped_server
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    anyio.run(live, server.url, course, clock)
