"""The consumer kit with each major version of redis-py, in an environment that has the kit's dependencies alone."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.distributions import distributions, python_with
from tests.support.paths import ROOT
from tests.support.servers import Server
from tests.support.tools import server_program
from tests.support.waiting import PATIENCE, wait_for

CORE = Path(__file__).with_name("core.py")
CLIENTS = {
    "5.0.1": "redis==5.0.1",
    "5": "redis==5.*",
    "6": "redis==6.*",
    "7": "redis==7.*",
    "newest": "redis>=8",
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A server of its own, since the checks empty it."""
    server = Server(tmp_path_factory.mktemp("clients"), server_program("embedded"))
    server.start()
    yield server.url
    server.stop(kill=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of one node."""
    server = Server(tmp_path_factory.mktemp("node"), None, "--cluster-enabled", "yes")
    server.start()
    with redis.Redis(port=server.port, decode_responses=True) as client:
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        wait_for(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
    yield f"redis+cluster://127.0.0.1:{server.port}"
    server.stop(kill=True)


@pytest.mark.parametrize("version", CLIENTS)
def test_each_major_version_of_redis_py(address: str, cluster: str, version: str) -> None:
    """Order, retries, claims, dead letters, replay, idempotency and the end: see core.py. No warning is given."""
    command, env = python_with(
        distributions(f"redis-py-{version}", CLIENTS[version], "anyio>=4.9", "msgspec>=0.20"),
        ROOT / "consumer",
    )
    done = subprocess.run(
        [*command, "-W", "error::DeprecationWarning", str(CORE), address, cluster],
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"\d+", version) is None or done.stdout.startswith(version)


def test_the_page_names_the_versions() -> None:
    """The documentation says what is tested here."""
    page = (ROOT / "docs" / "consume" / "python.md").read_text()
    assert f"redis-py {', '.join(name for name in CLIENTS if name != 'newest')} and the newest" in page
