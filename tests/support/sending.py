"""What the worker sends requests with, at a gateway of a test."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.support.scripted_server import Lab
from worker.config.sections import ApiSettings
from worker.ordermesh.http.transport import Http, make_http


@asynccontextmanager
async def sender(url: str, verify: ssl.SSLContext | None = None, **api: float) -> AsyncIterator[Http]:
    """What the worker sends with, at a gateway."""
    settings = ApiSettings(base_url=url, **{"timeout": 5, **api})
    made = make_http(settings) if verify is None else Http(settings, verify=verify)
    try:
        yield made
    finally:
        await made.aclose()
        await asyncio.sleep(0)  # lets the transports that were closed say goodbye


async def ask(served: Lab, path: str, timeout: float = 5) -> httpx.Response:  # noqa: ASYNC109 - the setting's
    async with sender(served.url, timeout=timeout) as made:
        return await made.send("GET", served.url + path, headers={})
