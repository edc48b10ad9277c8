"""A daemon's settings, and a client of its Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.programs import login_settings
from worker.sandbox import SandboxServer


@pytest.fixture
def settings(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> dict[str, str]:
    return login_settings(sandbox, redis_url, tmp_path / "data")


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as made:
        yield made
