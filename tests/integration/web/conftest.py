"""A page, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.page import Served, page_of
from tests.support.waiting import PATIENCE


@pytest.fixture
async def served(redis_url: str) -> AsyncIterator[Served]:
    async with page_of(redis_url) as page:
        yield page


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE) as client:
        yield client
