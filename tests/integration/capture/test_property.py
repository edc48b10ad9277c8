"""What was published equals what changed, whatever happens between the polls."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from random import Random

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.servers import Server
from tests.support.worker import Bench, _Bench
from worker.capture.state.run import Outcome, Run
from worker.queue.envelope import Event
from worker.redis.connections import answer
from worker.sandbox import FaultRule, SandboxServer, ServedContract

CONTRACTS = [
    ServedContract(),
    ServedContract(total=None),
    ServedContract(wrapper_key=None),
    ServedContract(wrapper_key="items", total="totalCount", paging=False),
    ServedContract(max_page_size=4),
    ServedContract(max_page_size=7, total=None),
    ServedContract(descending=True),
    ServedContract(descending=True, wrapper_key=None, max_page_size=5),
    ServedContract(gzip=True),
]
SPOILED = ["garbage", "not_a_list", "truncate", "drop", "status"]


class Model:
    """What consumers have been told, held against what is true."""

    def __init__(self, b_sandbox: SandboxServer) -> None:
        self.store = b_sandbox.store
        self.told: dict[str, str] = {}
        self.ids: set[str] = set()
        self.versions = Counter[str]()
        self.sequence = 0

    def take(self, events: list[Event], *, whole: bool) -> None:
        """Each new event is the next one of its entity, says something new, and is what is served now.

        `whole`: the resource was read from its beginning to its end, so everything has been told.
        """
        truth = self.store.truth()
        for event in events[self.sequence :]:
            self.sequence += 1
            self.versions[event.subject] += 1
            assert (event.sequence, event.version) == (self.sequence, self.versions[event.subject])
            assert event.id not in self.ids
            if event.action == "deleted":
                assert event.subject not in truth
                assert json.loads(event.data) == {"id": event.subject}
            else:
                assert event.data == truth[event.subject]
            content = canonical(event.data)
            assert self.told.get(event.subject) != content
            self.ids.add(event.id)
            self.told[event.subject] = content
        if whole:
            assert {each: canonical(raw) for each, raw in truth.items()}.items() <= self.told.items()


def canonical(raw: bytes) -> str:
    """The content of a record, without the order of its keys."""
    return json.dumps(json.loads(raw), sort_keys=True)


def happen(rng: Random, sandbox: SandboxServer) -> None:
    """Some of what may happen to orders."""
    store = sandbox.store
    for _ in range(rng.randrange(4)):
        some = rng.randint(1, 3)
        match rng.randrange(7):
            case 0:
                store.create(some)
            case 1:
                store.change(some)
            case 2:
                store.change_silently(some)
            case 3:
                store.reorder_keys(some)
            case 4:
                store.touch(some)
            case 5:
                order = rng.choice(store.ids())
                known = store.truth()[order]
                store.change_silently(order, safeId="THERE")
                if rng.random() < 0.3:
                    store.replace(order, known)  # and back, before anybody has looked
            case _:
                if len(store) > 5 and rng.random() < 0.3:
                    store.delete(rng.choice(store.ids()))


def spoil(rng: Random, sandbox: SandboxServer) -> None:
    """Some of what may go wrong in the next poll."""
    actions = SPOILED if sandbox.options.contract.total is None else [*SPOILED, "empty"]
    if sandbox.options.contract.wrapper_key is None:
        actions = ["garbage", "truncate", "drop", "status"]
    rules = []
    if rng.random() < 0.5:
        rules.append(
            FaultRule(
                rng.choice(actions), operation="orders.search", page=rng.randint(2, 7), times=1, code=500
            )
        )
    sandbox.faults.replace(rules)


async def live(seed: int, contract: ServedContract, url: str) -> None:
    """A life of a worker: things happen, polls fail, are stopped and resumed, workers come and go."""
    rng = Random(seed)
    with SandboxServer(orders=rng.randint(1, 30), seed=seed, contract=contract) as sandbox:
        model = Model(sandbox)
        for _ in range(rng.randint(1, 3)):
            size = rng.choice([2, 3, 5, 10, 50])
            async with _Bench(sandbox, url, {"page_size": size, "attempts": 1}) as b:
                for _ in range(rng.randint(1, 5)):
                    happen(rng, sandbox)
                    spoil(rng, sandbox)
                    stop_after = rng.choice([1, 2, 4, 100, 100])
                    await step(b, model, stop_after)
                sandbox.faults.clear()
                await settle(b, model)


def _reached(asked: list[int], stop_after: int) -> bool:
    asked[0] += 1
    return asked[0] > stop_after


async def step(b: Bench, model: Model, stop_after: int = 100) -> Run:
    """One poll, and what it told. A sweep that it took over says nothing of what changed behind its back."""
    resumed = (await b.cursor()).sweep_started > 0
    run = await b.poll(stop=partial(_reached, [0], stop_after))
    model.take(await b.events(), whole=run.outcome is Outcome.COMPLETE and not resumed)
    return run


async def settle(b: Bench, model: Model) -> None:
    """When nothing happens any more, a few polls bring everything, and another one publishes nothing."""
    for _ in range(8):
        before = await b.cursor()
        if before.held_back:  # of so few orders 2 % are one
            await answer(b.redis.hset(b.desk.keys.accepted, "orders", "1"))
        due = b.desk.keys.refresh_queue("orders")  # what is to be confirmed later is so now
        if waiting := await answer(b.redis.zrange(due, 0, -1)):
            await answer(b.redis.zadd(due, dict.fromkeys(waiting, 1)))
        run = await step(b, model)
        fresh = not before.sweep_started and not before.held_back
        if run.outcome is Outcome.COMPLETE and fresh and not run.missing:
            break
    else:
        raise AssertionError("it never settles")
    assert (await step(b, model)).published == 0
    assert (
        await answer(
            b.redis.exists(b.desk.keys.refresh_queue("orders"), b.desk.keys.unconfirmed_deletes("orders"))
        )
        == 0
    )
    there = {subject for subject, content in model.told.items() if "createdAt" in json.loads(content)}
    assert there == set(model.store.ids())


@settings(
    max_examples=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 10**6), contract=st.sampled_from(CONTRACTS))
def test_published_equals_changed(seed: int, contract: ServedContract, shared_server: Server) -> None:
    """Per order, what is published is the sequence of its distinct states; versions and sequence have no gaps."""
    _flush(shared_server)
    anyio.run(live, seed, contract, shared_server.url)


def _flush(server: Server) -> None:
    import redis  # noqa: PLC0415 - the blocking client, here alone

    with redis.Redis.from_url(server.url) as client:
        client.flushall()


@pytest.mark.parametrize("seed", range(2))
def test_published_equals_changed_under_every_contract(seed: int, shared_server: Server) -> None:
    """As above, with each contract in turn."""
    for contract in CONTRACTS:
        _flush(shared_server)
        anyio.run(live, seed, contract, shared_server.url)
