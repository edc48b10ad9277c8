"""A Redis that refuses writes still answers reads: commands that only read show their rows, and name the cause."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import redis

from tests.integration.redis.test_refusals import break_disk
from tests.support.commands import ordersync
from tests.support.page import page_of
from tests.support.servers import Server
from tests.support.worker import BenchMaker
from worker.app import announce
from worker.reporting import reporter

pytestmark = pytest.mark.anyio

DISK = "Redis cannot write to its disk and therefore refuses writes (MISCONF "
FULL = "Redis is full and refuses writes."
READING = {
    "groups": "warehouse",
    "groups show warehouse": "warehouse",
    "coverage": "orders",
    "runs": "complete",
    "history": "No command",
    "dead list": "no dead letters",
    "tail --no-follow": "snapshot",
    "timeline ID": "snapshot",
}
"""Commands that only read, and a word of their rows."""


@pytest.mark.parametrize("cause", [DISK, FULL], ids=["disk", "memory"])
async def test_reading_commands(bench: BenchMaker, tmp_path: Path, cause: str) -> None:
    """Each shows its rows, names the cause once and ends with 0; status, page and doctor name it too."""
    server = Server(tmp_path, None, "--dbfilename", "blocked")
    server.start()
    try:
        async with bench(url=server.url) as b:
            await announce(b.services)
            await b.poll()
            await reporter(b.services)()
            order = (await b.events())[0].subject
            with redis.Redis.from_url(server.url) as client:
                client.xgroup_create(b.account.keys.stream("orders"), "warehouse", id="0")
                client.delete(*client.keys("*:worker:*"))  # as after a while in which none can be written
                break_disk(server, client) if cause == DISK else client.config_set("maxmemory", 1)
            settings = {"redis__url": server.url, "api__base_url": "http://127.0.0.1:1"}
            settings |= {"api__client_id": "a", "api__client_secret": "b"}
            for words, row in READING.items():
                done = ordersync(*words.replace("ID", order).split(), cwd=tmp_path, **settings)
                assert done.returncode == 0, (words, done.stderr)
                assert row in done.stdout, words
                assert done.stderr.count(cause) == 1, words
                assert "Traceback" not in done.stderr
            done = ordersync("status", cwd=tmp_path, **settings)
            assert (done.returncode, done.stderr) == (0, "")
            first, *_ = done.stdout.splitlines()
            assert f"default/orders is {'failing' if cause == DISK else 'degraded'}: {cause}" in first
            assert "no worker is alive" not in done.stdout
            assert "no worker can write its heartbeat" in done.stdout
            (row,) = json.loads(ordersync("status", "--json", cwd=tmp_path, **settings).stdout)
            assert row["writes_refused"].startswith(cause)
            assert row["cause_code"] == ("redis_unavailable" if cause == DISK else "redis_full")
            assert row["records"] == 50
            done = ordersync("doctor", cwd=tmp_path, **settings)
            assert done.returncode == 3
            assert cause in done.stdout
            assert "lacks permissions" not in done.stdout
            async with page_of(server.url) as served, httpx.AsyncClient(trust_env=False) as browser:
                page = (await browser.get(served.url)).text
            assert cause in page
            assert "No worker can write its heartbeat" in page
    finally:
        server.stop(kill=True)


def test_a_redis_that_is_stopped(tmp_path: Path) -> None:
    """Every command names the address and what to check, in the same words, and ends with 3."""
    url = "redis://127.0.0.1:1/0"
    for words in ("status", "groups", "tail", "timeline X"):
        done = ordersync(*words.split(), cwd=tmp_path, redis__url=url)
        assert done.returncode == 3
        assert f"{url} cannot be reached: " in done.stderr
        assert done.stderr.rstrip().endswith(
            "Check that the server runs, and ORDERSYNC_REDIS__URL. To find the cause: ordersync doctor."
        )
    login = {"api__client_id": "a", "api__client_secret": "b"}
    done = ordersync("doctor", cwd=tmp_path, redis__url=url, **login)
    assert f"{url} (events and state) cannot be reached: " in done.stdout
