"""Pools of connections that accounts share: a TLS configuration alone takes half a megabyte."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from worker.ordermesh.http.transport import make_http

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import httpx

    from worker.config.sections import ApiSettings
    from worker.ordermesh.http.transport import Http

CONNECTIONS = 256
"""Connections that a pool opens at most. What an account may use at a time is limited by its request budget."""
KEPT_POOLS = 16
"""Pools that stay open although no account uses them."""
_OF_ONE_ACCOUNT = {
    "client_id", "client_secret", "username", "password", "headers", "requests_per_second", "max_concurrency",
    "page_size", "attempts", "moved_from",
}  # fmt: skip
"""Settings that have nothing to do with connections."""


class Connections(Protocol):
    """What sends requests: a pool, or a share in one."""

    async def send(
        self, method: str, url: str, *, headers: dict[str, str], content: bytes | None = None
    ) -> httpx.Response:
        """Send one request and return the response; see `Http.send`."""

    async def aclose(self) -> None:
        """Close all connections that nobody else uses."""


class SharedHttp:
    """The share of one account in a pool, with the methods of `Http`. It is given up when nobody refers to it."""

    def __init__(self, pool: Http) -> None:
        self._pool = pool

    async def send(
        self, method: str, url: str, *, headers: dict[str, str], content: bytes | None = None
    ) -> httpx.Response:
        """Send one request and return the response; see `Http.send`."""
        return await self._pool.send(method, url, headers=headers, content=content)

    async def aclose(self) -> None:
        """Do nothing: the other accounts use the pool. `Pools` closes it."""


class _Pool:
    def __init__(self, http: Http) -> None:
        self.http = http
        self.users = WeakSet[SharedHttp]()


class Pools:
    """Opens one pool of connections for all accounts whose settings of the gateway are the same."""

    def __init__(self, make: Callable[[ApiSettings], Http] = make_http) -> None:
        self._make = make
        self._pools: dict[Hashable, _Pool] = {}
        self._closing = set[asyncio.Task[None]]()

    def open(self, api: ApiSettings) -> SharedHttp:
        """Return a share in the pool for these settings.

        Raises:
            SettingsError: The proxy, or a file of certificates, cannot be used.

        """
        key = tuple((name, value) for name, value in api if name not in _OF_ONE_ACCOUNT)
        pool = self._pools.get(key)
        if pool is None:
            self._close_unused()
            pool = self._pools[key] = _Pool(
                self._make(api.model_copy(update={"max_concurrency": CONNECTIONS}))
            )
        share = SharedHttp(pool.http)
        pool.users.add(share)
        return share

    def _close_unused(self) -> None:
        if len(self._pools) < KEPT_POOLS:
            return
        for key, pool in list(self._pools.items()):
            if not pool.users:
                del self._pools[key]
                task = asyncio.ensure_future(pool.http.aclose())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close all connections."""
        pools = [pool.http.aclose() for pool in self._pools.values()]
        self._pools.clear()
        await asyncio.gather(*self._closing, *pools, return_exceptions=True)
