"""A small sandbox for each test, whose catalog it may change."""

from collections.abc import Iterator

import pytest

from tests.support.sandbox_api import SandboxApi
from worker.sandbox import SandboxServer


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(orders=5) as running:
        yield running


@pytest.fixture
def api(server: SandboxServer) -> Iterator[SandboxApi]:
    with SandboxApi(server) as client:
        yield client
