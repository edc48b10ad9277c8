"""The life of an account: how it begins, how its worker runs, and what must hold at its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

import msgspec
import redis
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from tests.support.convergence import look_once_more, missing_entries, take_new
from tests.support.faulty_gateway import MovedClock
from tests.support.mutations import ACTIONS, Happenings
from tests.support.oracle import Ledger
from tests.support.servers import Server
from tests.support.worker import Bench, BenchContext
from worker.capture.registry import CAPTURED, RESOURCES
from worker.ordermesh.contract.findings import UNKNOWN_LOG, Capabilities, LogPages, no, yes
from worker.redis.connections import answer
from worker.sandbox import SandboxServer, ServedContract
from worker.sandbox.state.index import Index

LAG = 1.0
CONTRACTS = [
    ServedContract(),
    ServedContract(descending=True),
    ServedContract(total=None, audit_shape="bare"),
    ServedContract(wrapper_key=None, max_page_size=4),
    ServedContract(since_honoured=True, sort_honoured=True),
    ServedContract(since_honoured=True),
    ServedContract(sort_honoured=True),
    ServedContract(total_extra=4000, audit_page_size=2),
    ServedContract(total_extra=-2, since_honoured=True, audit_page_size=3, audit_shape="bare"),
    ServedContract(index_lag=LAG),
    ServedContract(index_lag=LAG, since_honoured=True, sort_honoured=True),
]
TIMELY = tuple(action for action in ACTIONS if action not in {"back", "silently", "flip"})
"""What leaves no two states of a record with the same time: where a list lags behind, nothing else tells them apart."""


ROUNDS = 20
"""Rounds of polls after which everything must have been told. A few are enough unless many deletions wait."""

searches = [resource.search for resource in RESOURCES.values()]


class Interrupted:
    """Calls `then()` once, after the `at`-th answer of OrderMesh to this worker."""

    def __init__(self, b: Bench, at: int, then: Callable[[], Awaitable[None]]) -> None:
        self._client, self._at, self._then, self._count = b.account.client, at, then, 0
        self._call = self._client._with_retries

    async def __aenter__(self) -> None:
        self._client._with_retries = self._wrapped  # type: ignore[method-assign]

    async def __aexit__(self, *_exc: object) -> None:
        self._client._with_retries = self._call  # type: ignore[method-assign]

    async def _wrapped(self, *arguments: Any, **options: Any) -> Any:
        reply = await self._call(*arguments, **options)
        self._count += options[
            "signed"
        ]  # who logs in holds the lock of the token, on which another one would wait
        if self._count == self._at and options["signed"]:
            await self._then()
        return reply


class AccountLife(RuleBasedStateMachine):
    """An account with a worker, and how what was published is compared with the truth; subclasses say what happens."""

    server: Server

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.ready = False

    @initialize(
        contract=st.sampled_from(CONTRACTS),
        orders=st.integers(2, 4),
        page_size=st.sampled_from([2, 3, 2, 50]),
        concurrency=st.sampled_from([1, 4]),
        known=st.booleans(),
    )
    def begin(
        self, contract: ServedContract, orders: int, page_size: int, concurrency: int, known: bool
    ) -> None:
        """A small shop with its catalog, and a worker that knows how it is served and may have read it before."""
        with redis.Redis.from_url(self.server.url) as client:
            client.flushall()
        self.contract, self.now, self.clock = contract, 0.0, MovedClock()
        self.sandbox = SandboxServer(orders=orders, contract=contract)
        if contract.index_lag:
            lists = {each: Index(LAG, lambda: self.now) for each in searches}
            self.sandbox._sandbox.indexes.update(lists)
        self.stack.enter_context(self.sandbox)
        self.happenings = Happenings(self.sandbox, seed=orders)
        self.happenings.trim(3)
        self.ledger = Ledger(self.happenings)
        self.read: dict[str, str] = {}
        self.api = {"page_size": page_size, "max_concurrency": concurrency, "attempts": 1}
        self.portal: BlockingPortal = self.stack.enter_context(start_blocking_portal("asyncio"))
        self.work()
        self.ready = True
        if known:
            self.run(partial(look_once_more, self.b))

    def bench(self) -> BenchContext:
        """The parts of a worker."""
        intervals = dict.fromkeys(CAPTURED, 1.0)
        options = {**self.api, "intervals": intervals, "probe": True, "clock": self.clock}
        return BenchContext(self.sandbox, self.server.url, options)

    def work(self) -> None:
        """A worker begins."""
        self.worker: AbstractContextManager[Bench] = self.portal.wrap_async_context_manager(self.bench())
        self.b = self.stack.enter_context(self.worker)
        self.portal.call(know, self.b, self.contract)

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do some work of the worker, and hold what it has published against what was true."""
        self.ready = False  # what has failed once is not looked at again
        result = self.portal.call(work)
        self.portal.call(take_new, self.b, self.ledger, self.read)
        self.ready = True
        return result

    def let_happen(self, what: Sequence[tuple[str, str, int]]) -> None:
        """Things happen, one after the other."""
        for kind, action, pick in what:
            if self.contract.index_lag and action not in TIMELY:
                action = "change"  # noqa: PLW2901 - see TIMELY
            self.ledger.note(self.happenings.happen(kind, action, pick))

    async def poll_interrupted(self, name: str, at: int, then: Callable[[], Awaitable[None]]) -> None:
        """A poll in the middle of which something happens."""
        async with Interrupted(self.b, at, then):
            await self.b.poll(CAPTURED[name], complete=name in RESOURCES)

    def teardown(self) -> None:
        """When nothing happens any more, everything is told before long, and then nothing more."""
        try:
            if self.ready:
                self.settle()
        finally:
            self.stack.close()

    def settle(self) -> None:
        """Poll until nothing is new."""
        self.sandbox.faults.clear()
        for _ in range(ROUNDS):
            self.now += 2 * LAG
            restless = self.run(partial(look_once_more, self.b))
            if not restless and self.now > 6 * LAG:
                break
        else:
            raise AssertionError(f"it never settles: {restless}")
        missing = [each for kind in RESOURCES for each in self.ledger.missing(kind)]
        assert not missing, missing
        entries = self.portal.call(missing_entries, self.b, self.ledger)
        assert not any(entries.values()), entries


async def know(b: Bench, contract: ServedContract) -> None:
    """Let the worker know what a probe would find, so that its requests are the same in every run."""
    known = b.account.capabilities
    for name, resource in RESOURCES.items():
        field = resource.modified_fields[0]
        stem = field.removesuffix("At")
        sort = {"sortBy": field}
        found = Capabilities(
            resource=name,
            search=resource.search,
            at=b.services.clock.now(),
            configured=known.store.fingerprint,
            state="found",
            pages=yes("as the sandbox is set up"),
            filtering=yes("it is") if contract.since_honoured else no("it is not"),
            since=f"{stem}From" if contract.since_honoured else None,
            sorting=yes("it is") if contract.sort_honoured else no("it is not"),
            ascending={**sort, "sortDirection": "asc"} if contract.sort_honoured else {},
            descending={**sort, "sortDirection": "desc"} if contract.sort_honoured else {},
            single=yes("it can") if resource.single else no("there is no such operation"),
            single_alike=name != "order_items",  # alone they are served without the id of their order
            past_end="empty",
            log_pages=yes("logs have pages") if contract.audit_page_size else UNKNOWN_LOG,
            log_listing=LogPages(
                page_parameter="page",
                size_parameter="pageSize",
                first_page=1,
                largest_page=contract.audit_page_size,
            )
            if contract.audit_page_size
            else None,
        )
        await answer(b.redis.hset(b.account.keys.contract, name, msgspec.json.encode(found).decode()))
