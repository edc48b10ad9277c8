"""A server as it is deployed, and a client that may do everything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.deployment.deployed import DeployedServer, deployed


@pytest.fixture(scope="module", params=["valkey", "redis"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DeployedServer]:
    with deployed(request.param, tmp_path_factory.mktemp(request.param)) as running:
        with running.client("root") as admin:
            admin.flushall()
        yield running


@pytest.fixture
def admin(server: DeployedServer) -> Iterator[Any]:
    with server.client("root") as client:
        server.refusals()
        yield client
