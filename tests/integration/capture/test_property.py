"""What was published equals what changed, whatever happens between the polls."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from random import Random

import anyio
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ordersync_consumer.envelope import Event
from tests.support.polling import after_pages
from tests.support.servers import Server
from tests.support.worker import Bench, BenchContext
from worker.capture.state.refresh_queue import record
from worker.capture.state.run import Outcome, Run
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
FINAL = {"Fulfilled", "Cancelled"}
"""Statuses that the plan `open` does not read, as the settings have it."""
SPOILED = ["garbage", "not_a_list", "truncate", "drop", "status"]


class Model:
    """What consumers have been told, held against what is true."""

    def __init__(self, b_sandbox: SandboxServer) -> None:
        self.store = b_sandbox.store
        self.told: dict[str, str] = {}
        self.ids: set[str] = set()
        self.versions = Counter[str]()
        self.sequence = 0

    def take(self, events: list[Event]) -> None:
        """Each new event is the next one of its entity, says something new, and is what is served now."""
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

    def untold(self) -> dict[str, set[str | None]]:
        """The records of which something else is served than was told; of each its statuses, as told and as served."""
        return {
            each: {status_of(self.told.get(each, "{}")), status_of(raw)}
            for each, raw in self.store.truth().items()
            if self.told.get(each) != canonical(raw)
        }


def canonical(raw: bytes) -> str:
    """The content of a record, without the order of its keys."""
    return json.dumps(json.loads(raw), sort_keys=True)


def status_of(raw: bytes | str) -> str | None:
    """The status of a record, None where it has none."""
    found: str | None = json.loads(raw).get("status")
    return found


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


async def live(seed: int, contract: ServedContract, url: str, *, probe: bool = False) -> None:
    """A life of a worker: things happen, polls fail, are stopped and resumed, workers come and go.

    With `probe` they ask the gateway first, and find that it chooses orders by their status.
    """
    rng = Random(seed)
    with SandboxServer(orders=rng.randint(1, 30), seed=seed, contract=contract) as sandbox:
        model = Model(sandbox)
        for _ in range(rng.randint(1, 3)):
            size = rng.choice([2, 3, 5, 10, 50])
            async with BenchContext(sandbox, url, {"page_size": size, "attempts": 1, "probe": probe}) as b:
                for _ in range(rng.randint(1, 5)):
                    happen(rng, sandbox)
                    spoil(rng, sandbox)
                    stop_after = rng.choice([1, 2, 4, 100, 100])
                    await step(b, model, stop_after)
                sandbox.faults.clear()
                await settle(b, model)


async def step(b: Bench, model: Model, stop_after: int = 100) -> Run:
    """One poll, and what it told. A complete one has told all that its plan reads, as README.md says of the plans."""
    before = await b.cursor()
    run = await b.poll(stop=after_pages(stop_after))
    model.take(await b.events())
    if run.outcome is not Outcome.COMPLETE:
        return run
    untold = model.untold()
    if run.plan.endswith("open"):
        # It reads the open statuses that the last complete read has seen. What has left them is due by its id.
        read, due = set(before.statuses.split("\n")) - FINAL, await waiting(b)
        assert all(record(each) in due for each, statuses in untold.items() if statuses & read)
        assert not any(status_of(model.store.truth()[each]) in read for each in untold)
    elif not before.scan.started:
        # A sweep that it took over says nothing of what changed behind its back.
        assert not untold
    return run


async def waiting(b: Bench) -> list[str]:
    """What is due by its id, now or later."""
    members = await answer(b.redis.zrange(b.account.keys.refresh_queue("orders"), 0, -1))
    return [member.decode() for member in members]


async def settle(b: Bench, model: Model) -> None:
    """When nothing happens any more, a few polls bring all that they read, and then a complete read the rest."""
    await settle_polls(b, model)
    b.adjust(complete_every=0.0)
    await settle_polls(b, model)
    assert not model.untold()
    there = {subject for subject, content in model.told.items() if "createdAt" in json.loads(content)}
    assert there == set(model.store.ids())


async def settle_polls(b: Bench, model: Model) -> None:
    """Poll until a complete poll has left nothing to be read by its id; what follows publishes nothing."""
    due, absent = b.account.keys.refresh_queue("orders"), b.account.keys.unconfirmed_deletes("orders")
    for _ in range(8):
        before = await b.cursor()
        if before.held_back:  # of so few orders 2 % are one
            await answer(b.redis.hset(b.account.keys.accepted, "orders", "1"))
        if later := await waiting(b):  # what is to be confirmed later is so now
            await answer(b.redis.zadd(due, dict.fromkeys(later, 1)))
        run = await step(b, model)
        # What is held back waits for a full scan, whatever is accepted meanwhile.
        fresh = run.plan.endswith("open") or not (before.scan.started or before.held_back or run.missing)
        if run.outcome is Outcome.COMPLETE and fresh and not await answer(b.redis.exists(due, absent)):
            break
    else:
        raise AssertionError("it never settles")
    # The first one may see by the list what was told long ago: that a record has left the open statuses.
    assert [(await step(b, model)).published for _ in range(2)] == [0, 0]
    assert await answer(b.redis.exists(due, absent)) == 0


@settings(
    max_examples=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 10**6), contract=st.sampled_from(CONTRACTS), probe=st.booleans())
# A record in a final status has changed, and a poll under the plan `open` is complete: while things happen, at the end.
@example(seed=2088, contract=CONTRACTS[0], probe=False)
@example(seed=2088, contract=CONTRACTS[1], probe=False)
# Under that plan a deletion waits for its second answer, and the run says of no record that it is missing.
@example(seed=41371, contract=CONTRACTS[0], probe=False)
@example(seed=41371, contract=CONTRACTS[6], probe=False)
# A poll that fails has told of a record as open, which leaves the open statuses before the next one.
@example(seed=200031, contract=CONTRACTS[6], probe=True)
# A record that was open has been told as final by sweeps, and then the plan is `open`.
@example(seed=200153, contract=CONTRACTS[5], probe=True)
# Deletions are held back when the last full scan has ended, and the plan is `open` until the next one.
@pytest.mark.slow
@example(seed=400039, contract=CONTRACTS[4], probe=True)
def test_published_equals_changed(
    seed: int, contract: ServedContract, probe: bool, shared_server: Server
) -> None:
    """Per order, what is published is the sequence of its distinct states; versions and sequence have no gaps."""
    _flush(shared_server)
    anyio.run(partial(live, probe=probe), seed, contract, shared_server.url)


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
