"""Polls once for each kill point that it is told on standard input, each time in a child that is killed there.

Arguments: URL of Redis, URL of the sandbox, page size. A line is the number of the point, counted from 1; the
answer is `killed`, or `lived` if the poll has fewer points. A point stands before each call to Redis and each page
that is read from OrderMesh: who is killed between two calls leaves the same to both, wherever that happens. The engine
knows nothing of it: its calls are wrapped here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from pydantic import SecretStr
from redis.asyncio import Redis

from worker.app import open_services
from worker.capture.registry import ORDERS
from worker.capture.state import lease
from worker.clock import SystemClock
from worker.config.sections import Account, ApiSettings
from worker.ordermesh.client import OrderMeshClient
from worker.ordermesh.http import transport
from worker.ordermesh.http.tls import tls_context
from worker.sandbox import CLIENT_ID, CLIENT_SECRET
from worker.telemetry import log as logs

LEASE_SECONDS = 0.15
"""So that the successor need not wait long; nobody but the victim reads meanwhile."""


class Points:
    """Counts the points that are passed, and kills this process at one of them."""

    def __init__(self, deadly: int) -> None:
        self._deadly, self._passed = deadly, 0

    def __call__(self) -> None:
        """Pass one."""
        self._passed += 1
        if self._passed == self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """`call` with a point before it."""

        async def wrapped(*args: Any, **options: Any) -> Any:
            self()
            return await call(*args, **options)

        return wrapped


async def poll(redis_url: str, sandbox_url: str, page_size: int) -> None:
    """One poll, as the worker does it."""
    api = ApiSettings(
        base_url=sandbox_url,
        client_id=CLIENT_ID,
        client_secret=SecretStr(CLIENT_SECRET),
        requests_per_second=10_000,
        page_size=page_size,
    )
    account = Account(name="default", api=api, intervals={"orders": 1.0}, ignore_fields={})
    async with open_services([account], redis_url, SystemClock()) as place:
        await place.accounts["default"].poller.poll(ORDERS)


def victim(deadly: int, redis_url: str, sandbox_url: str, page_size: int) -> None:
    """Poll with the calls wrapped."""
    point = Points(deadly)
    for kind, name in ((Redis, "execute_command"), (OrderMeshClient, "read_page")):
        setattr(kind, name, point.before(getattr(kind, name)))
    lease.LEASE_SECONDS = LEASE_SECONDS
    asyncio.run(poll(redis_url, sandbox_url, page_size))


def warm_up() -> None:
    """Import the back end of anyio and read the authorities of this machine once: half of what each child would do."""
    anyio.run(anyio.sleep, 0)
    context = tls_context(ApiSettings())
    vars(transport)["tls_context"] = lambda _api: context


def main() -> None:
    """A child for each line: to start Python anew for each would take most of the time of the test."""
    logs.configure("json", "critical")
    warm_up()
    redis_url, sandbox_url, page_size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            victim(int(line), redis_url, sandbox_url, page_size)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            sys.stdout.write("killed\n")
        else:
            sys.stdout.write("lived\n" if os.waitstatus_to_exitcode(status) == 0 else "failed\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
