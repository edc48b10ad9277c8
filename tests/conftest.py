"""What every test stands on: a real Valkey over a socket, the sandbox over HTTP, a worker built of real parts."""

from __future__ import annotations

import functools
import os
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests.support.order import dealt
from tests.support.servers import Server
from tests.support.worker import BenchContext, BenchMaker
from worker.config.sections import ApiSettings
from worker.ordermesh.http import token_cipher, transport
from worker.ordermesh.http.tls import tls_context
from worker.sandbox import SandboxServer
from worker.telemetry import log as logs
from worker.telemetry.catalog.conformity import conformity

# How fast examples are made says how busy the machine is, and nothing about what is tested.
hypothesis_settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Whether a change lands does not depend on the examples of the day. By hand, each run makes others.
hypothesis_settings.register_profile(
    "ci", hypothesis_settings.get_profile("patient"), derandomize=True, database=None, print_blob=True
)
hypothesis_settings.load_profile("ci" if os.environ.get("CI") else "patient")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each worker of `--dist worksteal`, which gets one part of the list, begin with its share of slow tests.

    Begun last, they would run while the other workers have nothing left to do. A module that is marked as a whole stays
    together: its tests share a fixture, which each further worker would have to make again.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = dealt(items, _slow_group, workers)


def _slow_group(item: pytest.Item) -> str | None:
    """The module of a test if it is marked as slow, the test itself if that alone is."""
    module = item.getparent(pytest.Module)
    if module is not None and module.get_closest_marker("slow"):
        return module.nodeid
    return item.nodeid if item.get_closest_marker("slow") else None


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def redis_url(shared_server: Server) -> str:
    """An empty database."""
    with redis.Redis.from_url(shared_server.url) as client:
        client.flushall()
    return shared_server.url


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, to be stopped and killed."""
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop(kill=True)


@pytest.fixture
def sandbox() -> Iterator[SandboxServer]:
    """An OrderMesh with 50 orders that change only when the test says so."""
    with SandboxServer(orders=50) as server:
        yield server


@pytest.fixture(autouse=True)
def quiet_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logs go to stderr as JSON, where pytest shows them for a failed test only.

    Every line is held against the catalogue of log events (`worker.telemetry.catalog`): one that it does not know fails
    the test, also where the code under test swallows the error.
    """
    logs.configure("json", "debug")
    monkeypatch.setattr(conformity, "strict", True)
    conformity.found.clear()
    yield
    logs.redaction.forget_all()
    assert conformity.found == []


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logins in the process of the tests take no time; those of programs that it starts take what they take."""
    monkeypatch.setattr(token_cipher, "SCRYPT_COST", 2)


@pytest.fixture(autouse=True)
def authorities_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The authorities of this machine, which take as long to read as a short test, are read once for all tests."""
    monkeypatch.setattr(transport, "tls_context", _tls_context)
    monkeypatch.setattr("httpx._transports.default.create_ssl_context", _context_of_httpx)


def _tls_context(api: ApiSettings) -> ssl.SSLContext:
    if api.ca_file is not None or api.client_cert_file is not None:
        return tls_context(api)
    return _usual_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


def _context_of_httpx(*, verify: Any, cert: Any, trust_env: bool) -> ssl.SSLContext:
    if verify is not True or cert is not None:
        return httpx.create_ssl_context(verify, cert, trust_env)
    return _usual_context_of_httpx(trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.cache
def _usual_context_of_httpx(trust_env: bool, _file: str | None, _folder: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=trust_env)


@functools.cache
def _usual_context(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    return tls_context(ApiSettings())


@pytest.fixture
def bench(redis_url: str, sandbox: SandboxServer) -> BenchMaker:
    """Builds a worker for `async with`; its options, such as `page_size=10`, are those of `ApiSettings`.

    `privacy`, `events`, `reconcile` and `intervals` are those parts of the settings.
    It believes what the profile says, as after a probe, so that a test sees its own requests alone; with
    `probe=True` it asks the gateway first, as a worker does. `clock` is what it takes for the time, and
    `given_out` what it knows of its earlier lives.
    """

    def make(server: SandboxServer = sandbox, url: str = redis_url, **api: Any) -> BenchContext:
        return BenchContext(server, url, api)

    return make


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
