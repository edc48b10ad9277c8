"""A stream that `ordersync consume` reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.consume_command import Shop
from tests.support.consuming import Stage
from worker.redis.connections import connect


@pytest.fixture
async def shop(redis_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    client = connect(redis_url)
    yield Shop(Stage(client), redis_url, tmp_path)
    await client.aclose()
