"""A sandbox, and a client of it."""

from collections.abc import Iterator

import pytest

from tests.support.sandbox_api import SandboxApi
from worker.sandbox import SandboxServer


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxServer]:
    """A sandbox with 60 orders."""
    with SandboxServer(orders=60) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: SandboxServer) -> Iterator[SandboxApi]:
    """A client of it."""
    with SandboxApi(server) as api:
        yield api
