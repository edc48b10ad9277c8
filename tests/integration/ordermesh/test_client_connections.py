"""The connections of the client: callers that go, and connections that run dry."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest

from tests.support.order_search import SEARCH, SEARCH_PATH
from tests.support.scripted_server import Lab, OwnClock, at_work, lab_account
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import account_for
from worker.ordermesh.client import OrderMeshClient
from worker.ordermesh.contract.profile import ContractProfile
from worker.ordermesh.http.transport import Http
from worker.ordermesh.http.usage import Usage
from worker.sandbox import SandboxServer, ServedContract

pytestmark = pytest.mark.anyio


async def test_cancelled_callers(redis_url: str) -> None:
    """Three hundred callers cancelled at any moment: their requests run to an end, and the next one works."""
    with SandboxServer(orders=20, contract=ServedContract(latency=0.002)) as sandbox:
        async with at_work(account_for(sandbox, max_concurrency=4), redis_url) as desk:
            await desk.client.tokens.get()
            for number in range(50):
                calls = [asyncio.create_task(desk.client.read_page(SEARCH, 0, 20, Usage())) for _ in range(6)]
                await asyncio.wait(calls, timeout=number * 0.0001)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            await asyncio.gather(*(desk.client.read_page(SEARCH, 0, 20, Usage()) for _ in range(8)))
            await eventually(lambda: desk.client.statistics().in_flight == 0)
            sent = desk.client.statistics().requests
        assert sandbox.requests.count(SEARCH, 200) + sandbox.requests.count("clients.token") == sent
        assert sandbox.requests.count(SEARCH) > 8


async def test_abandoned_requests_count_as_under_way(redis_url: str, served: Lab) -> None:
    """A request that nobody waits for still holds its place: the gateway never has more than permitted."""
    served.handlers[SEARCH_PATH] = served.held
    async with at_work(lab_account(served, max_concurrency=2), redis_url) as desk:
        await desk.client.tokens.get()
        for _ in range(5):
            calls = [asyncio.create_task(desk.client.read_page(SEARCH, 0, 1, Usage())) for _ in range(2)]
            await eventually(lambda: desk.client.statistics().in_flight == 2)
            await asyncio.wait(calls, timeout=0.02)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        assert desk.client.statistics().in_flight == 2
        assert served.most_open <= 3  # the login's connection is kept
        served.release.set()
        await desk.client.read_page(SEARCH, 0, 1, Usage())
        assert desk.client.statistics().in_flight == 0


async def test_closing_ends_abandoned_requests(redis_url: str, served: Lab) -> None:
    """Closing the client does not wait for a gateway that never answers."""
    served.handlers[SEARCH_PATH] = served.held
    async with at_work(lab_account(served, timeout=600), redis_url) as desk:
        call = asyncio.create_task(desk.client.read_page(SEARCH, 0, 1, Usage()))
        await eventually(lambda: desk.client.statistics().in_flight == 1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        async with asyncio.timeout(PATIENCE):
            await desk.client.aclose()
        assert desk.client.statistics().in_flight == 0


class Failing:
    """Connections that fail when the test says so."""

    def __init__(self) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def send(self, *_: object, **__: object) -> httpx.Response:
        """The connection is reset."""
        self.asked.set()
        await self.go.wait()
        raise httpx.ReadError("reset")


async def test_an_abandoned_request_that_fails_is_not_reported(
    redis_url: str, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller has gone, so its error is neither logged by asyncio nor raised anywhere."""
    reports = list[dict[str, Any]]()
    monkeypatch.setattr(asyncio.get_running_loop(), "call_exception_handler", reports.append)
    async with at_work(account_for(sandbox), redis_url) as desk:
        await desk.client.tokens.get()
        failing = Failing()
        monkeypatch.setattr(desk.client._sender, "http", failing)
        call = asyncio.create_task(desk.client.read_page(SEARCH, 0, 1, Usage()))
        await failing.asked.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert desk.client.statistics().in_flight == 1
        failing.go.set()
        await eventually(lambda: desk.client.statistics().in_flight == 0)
        gc.collect()
        monkeypatch.undo()
    assert reports == []


class Dry:
    """Connections that have run dry for four requests at once: httpx's pool says so, ours never should."""

    def __init__(self) -> None:
        self.closed, self.waiting = False, asyncio.Barrier(4)

    async def send(self, *_: object, **__: object) -> httpx.Response:
        """No connection in time."""
        await self.waiting.wait()
        raise httpx.PoolTimeout("dry")

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True


class Fresh(Dry):
    """Connections that work."""

    async def send(self, *_: object, **__: object) -> httpx.Response:
        """An answer."""
        return httpx.Response(200, content=b"[]", request=httpx.Request("GET", "http://x"))


async def test_connections_that_ran_dry_are_replaced(redis_url: str, sandbox: SandboxServer) -> None:
    """When no connection comes free, all are replaced: once, however many requests find out together."""
    made = [Dry(), Fresh(), Fresh()]
    rest = iter(made)
    account = account_for(sandbox)
    async with at_work(account, redis_url) as desk:
        client = OrderMeshClient(
            api=account.api,
            profile=ContractProfile(),
            budget=desk.client.budget,
            clock=OwnClock(),
            make_http=cast("Callable[[], Http]", lambda: next(rest)),
        )
        client.tokens = desk.client.tokens
        bodies = await asyncio.gather(*(client.read_page(SEARCH, 0, 1, Usage()) for _ in range(4)))
        assert bodies == [b"[]"] * 4
        assert client.statistics().rebuilt == 1
        await eventually(lambda: made[0].closed)
        await client.aclose()
        assert [each.closed for each in made] == [True, True, False]
