"""A model of the whole: anything happens to any record while it is read; what was told is what was true."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import hypothesis
import msgspec
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from xxhash import xxh3_64_intdigest

from tests.support.account_life import LAG, AccountLife, searches
from tests.support.mutations import ACTIONS
from tests.support.servers import Server
from worker.capture.registry import AUDIT_LOGS, CAPTURED, RESOURCES
from worker.capture.resources import AuditLog
from worker.capture.resync.requests import ResyncRequest, ResyncState
from worker.capture.state.store import StateStore
from worker.redis.connections import answer
from worker.sandbox import FaultRule, ServedContract
from worker.sandbox.data.orders import TICKS_PER_SECOND, format_ticks
from worker.telemetry import log as logs

SPOILED = ("status", "busy", "drop", "truncate", "garbage", "empty", "not_a_list", "no_content")
kinds = st.sampled_from(list(RESOURCES))
picks = st.integers(0, 9)
names = st.sampled_from(list(CAPTURED))
happenings = st.tuples(kinds, st.sampled_from(ACTIONS), picks)
to_the_kind = st.lists(st.tuples(st.sampled_from(ACTIONS), picks), min_size=1, max_size=3)
others = ["*", *(each.single for each in RESOURCES.values() if each.single)]
others += [each.operation for each in AUDIT_LOGS.values()] + ["shipments.for_order"]


class Life(AccountLife):
    """Records, faults, workers that come and go, and people who ask for resyncs."""

    @rule(what=st.lists(happenings, min_size=1, max_size=4))
    def something_happens(self, what: list[tuple[str, str, int]]) -> None:
        """Records come, change and go."""
        self.let_happen(what)

    @rule(
        action=st.sampled_from(SPOILED),
        operation=st.sampled_from(searches + others),
        page=st.none() | st.integers(1, 3),
        times=st.integers(1, 2),
    )
    def something_goes_wrong(self, action: str, operation: str, page: int | None, times: int) -> None:
        """One or two of the next answers are spoiled, in a way that shows."""
        shows = self.contract.total and self.contract.wrapper_key
        if action in {"empty", "not_a_list", "no_content"} and (operation not in searches or not shows):
            action = "garbage"
        page = page if operation in searches else None
        given: dict[str, Any] = {"code": 500}
        if action == "no_content":
            action, given = "status", {"code": 204}
        if action == "busy":
            action, given = "status", {"code": 429, "retry_after": 0.01}
        fault = FaultRule(action, operation=operation, page=page, times=times, **given)
        self.sandbox.faults.replace([*self.sandbox.faults.rules[-1:], fault])

    @rule(name=names, follow_ups_only=st.booleans(), stop=st.sampled_from([1, 2, 99]))
    def poll(self, name: str, follow_ups_only: bool, stop: int) -> None:
        """A poll, which may be stopped behind a page."""
        asked = iter(range(10_000))
        only = follow_ups_only and name in RESOURCES
        self.run(partial(self.b.poll, CAPTURED[name], follow_ups_only=only, stop=lambda: next(asked) >= stop))

    @rule(kind=kinds)
    def read_completely(self, kind: str) -> None:
        """All of a resource, and the audit logs that are due of it."""
        self.run(partial(self.b.poll, RESOURCES[kind], complete=True))
        for log in AUDIT_LOGS.values():
            if log.parent.name == kind:
                self.run(partial(self.b.poll, log))

    @rule(name=names, at=st.integers(1, 4), what=to_the_kind, told=st.booleans())
    def records_move(self, name: str, at: int, what: list[tuple[str, int]], told: bool) -> None:
        """Records come, change and go while they, or their logs, are read; it may even be told of meanwhile."""
        kind = _kind(name)

        async def meanwhile() -> None:
            self.let_happen([(kind, action, pick) for action, pick in what])
            if told and name != kind:
                await self.b.poll(RESOURCES[kind])

        self.run(partial(self.poll_interrupted, name, at, meanwhile))

    @rule(kind=kinds, pick=picks)
    def a_log_moves(self, kind: str, pick: int) -> None:
        """A record changes, and is told of, while its log is read because of the change before."""
        (log, *_) = [each for each in AUDIT_LOGS.values() if each.parent.name == kind]

        async def change() -> None:
            self.let_happen([(kind, "change", pick)])
            await self.b.poll(RESOURCES[kind], complete=True)

        self.run(change)
        self.run(partial(self.poll_interrupted, log.name, 1, change))

    @rule(kind=kinds, pick=picks)
    def pages_overlap(self, kind: str, pick: int) -> None:
        """A record that has changed is shown on two pages, of which the second is looked at before the first one."""
        client, search = self.b.account.client, RESOURCES[kind].search
        ask, look = client._with_retries, StateStore.differing
        came, looked = anyio.Event(), anyio.Event()
        first: list[Any] = []

        async def overlapping(request: Any, *arguments: Any, **options: Any) -> Any:
            if request.key != search or looked.is_set():
                return await ask(request, *arguments, **options)
            if came.is_set():
                return first[0]
            first.append(await ask(request, *arguments, **options))
            came.set()
            with anyio.move_on_after(1):  # where no second page is asked for before the first one is here
                await looked.wait()
            return first[0]

        async def looking(*arguments: Any, **options: Any) -> Any:
            found = await look(*arguments, **options)
            looked.set()
            return found

        async def poll() -> None:
            client._with_retries = overlapping  # type: ignore[method-assign]
            StateStore.differing = looking  # type: ignore[method-assign]
            try:
                await self.b.poll(RESOURCES[kind], complete=True)
            finally:
                StateStore.differing = look  # type: ignore[method-assign]
                client._with_retries = ask  # type: ignore[method-assign]

        self.let_happen([(kind, "change", pick)])
        self.run(poll)

    @rule(name=names, at=st.integers(1, 3), what=to_the_kind)
    def a_worker_is_overtaken(self, name: str, at: int, what: list[tuple[str, int]]) -> None:
        """It stands still beyond its lease while another one reads, and then may commit nothing any more."""
        left: list[object] = []

        async def cursor() -> object:
            return await answer(self.b.redis.hgetall(self.b.account.keys.cursor(name)))

        async def meanwhile() -> None:
            self.let_happen([(_kind(name), action, pick) for action, pick in what])
            await answer(self.b.redis.hset(self.b.account.keys.lease(name), "until", "0"))
            async with self.bench() as other:
                await other.poll(CAPTURED[name])
            left.append(await cursor())

        async def overtaken() -> None:
            await self.poll_interrupted(name, at, meanwhile)
            assert left in ([], [await cursor()])

        self.run(overtaken)

    @rule(kind=kinds, picked=st.lists(picks, min_size=1, max_size=3))
    def answers_are_old(self, kind: str, picked: list[int]) -> None:
        """The pages of a list are those of a while ago, when what came after has been told."""
        client, resource = self.b.account.client, RESOURCES[kind]
        ask = client._with_retries
        kept: dict[str, Any] = {}

        async def keep(request: Any, *arguments: Any, **options: Any) -> Any:
            kept[request.url] = await ask(request, *arguments, **options)
            return kept[request.url]

        async def repeat(request: Any, *arguments: Any, **options: Any) -> Any:
            is_list = request.key == resource.search and request.url in kept
            return kept[request.url] if is_list else await ask(request, *arguments, **options)

        async def read(how: Any) -> None:
            client._with_retries = how  # type: ignore[method-assign]
            await self.b.poll(resource, complete=True)
            client._with_retries = ask  # type: ignore[method-assign]

        self.run(partial(read, keep))
        self.let_happen([(kind, "change", pick) for pick in picked])
        self.run(partial(read, ask))
        self.run(partial(read, repeat))

    @rule(name=names, at=st.integers(1, 3))
    def a_worker_dies(self, name: str, at: int) -> None:
        """In the middle of a poll; another one begins."""

        async def dying() -> None:
            with anyio.CancelScope() as life:

                async def die() -> None:
                    life.cancel()

                await self.poll_interrupted(name, at, die)

        self.run(dying)
        self.restart()

    @rule()
    def restart(self) -> None:
        """The worker ends, and another one begins on the same Redis."""
        self.worker.__exit__(None, None, None)
        self.work()

    @rule(
        kind=kinds,
        ids=st.none() | st.lists(picks, min_size=1, max_size=3),
        force=st.booleans(),
        cancelled=st.booleans(),
    )
    def resync(self, kind: str, ids: list[int] | None, force: bool, cancelled: bool) -> None:
        """Somebody asks for some records, or for all; it may be given up after a slice."""
        known = self.ledger.ever(kind)
        wanted = tuple(known[each % len(known)] for each in ids or ()) if known else ()
        request = ResyncRequest(resource=kind, ids=wanted, all=not wanted, force=force)

        async def slices() -> None:
            resyncs = self.b.account.resyncer.resyncs
            asked = await resyncs.create(request, self.b.services.clock.now())
            for _ in range(3):
                await self.b.account.resyncer.slice(RESOURCES[kind], asked.id)
            found = await resyncs.get(asked.id)
            if cancelled and found is not None and found.state is not ResyncState.DONE:
                await resyncs.cancel(asked.id, self.b.services.clock.now())

        self.run(slices)

    @rule(offset=st.sampled_from([-3600.0, -5.0, 0.0, 5.0, 3600.0]))
    def the_clock_of_the_host_jumps(self, offset: float) -> None:
        """It is so many seconds ahead from now on."""
        self.clock.offset = offset

    @rule(ahead=st.sampled_from([-3600.0, -2.0, 2.0, 3600.0]))
    def the_clock_of_the_gateway_jumps(self, ahead: float) -> None:
        """What changes from now on has other times; not where lists lag behind, and nothing else tells states apart."""
        if not self.contract.index_lag:
            self.happenings.step_clock(ahead)

    @rule()
    def time_passes(self) -> None:
        """The lists show what happened a while ago."""
        self.now += LAG / 2


def _kind(name: str) -> str:
    captured = CAPTURED[name]
    return captured.parent.name if isinstance(captured, AuditLog) else name


def lives(server: Server, examples: int, steps: int = 25, *, seed: int | None = None) -> None:
    """Live through so many examples, which are always the same ones unless a seed is given."""
    logs.configure("json", "warning")  # a line for each page would take longer than the page
    machine: Any = type("Life", (Life,), {"server": server})
    if seed is not None:
        machine = hypothesis.seed(seed)(machine)
    run_state_machine_as_test(
        machine,
        settings=hypothesis.settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=seed is None,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] if seed is None else list(Phase),
        ),
    )


@pytest.mark.timeout(1200)  # half a minute on an idle machine, and more where others work as well
def test_published_state_is_the_truth(shared_server: Server) -> None:
    """Whatever happens: each version once, in order, as it was at some time, and at the end as it is."""
    lives(shared_server, examples=8)


def test_a_time_with_an_equal_fingerprint_is_not_named(shared_server: Server) -> None:
    """A changed time whose 16 bits stay the same is missing from `changed`, and the model expects just that."""
    life: Any = type("Life", (Life,), {"server": shared_server})()
    try:
        life.begin(contract=ServedContract(), orders=2, page_size=50, concurrency=1, known=False)
        now = life.happenings.world.orders._stamps._clock() // 100
        first, second = (
            now + TICKS_PER_SECOND,
            now + 2 * TICKS_PER_SECOND,
        )  # the times of the next two changes
        life.happenings._ahead += 100 * next(
            ahead for ahead in range(TICKS_PER_SECOND) if _mark(first + ahead) == _mark(second + ahead)
        )
        for what in ([], [("categories", "change", 0)], [("categories", "change", 0)]):
            life.let_happen(what)
            life.run(partial(life.b.poll, RESOURCES["categories"], complete=True))
        *_, last = life.portal.call(life.b.events, "categories")
        assert (last.action, last.version, last.changed) == ("updated", 3, ("description",))
    finally:
        life.stack.close()


def _mark(ticks: int) -> int:
    """The fingerprint of a time."""
    return xxh3_64_intdigest(msgspec.msgpack.encode(format_ticks(ticks))) & 0xFFFF
