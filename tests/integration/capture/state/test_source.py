"""An account belongs to one gateway: another address is refused, unless the settings say that it has moved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import ordersync
from tests.support.programs import login_settings
from tests.support.worker import BenchMaker
from worker.capture.state.run import Outcome
from worker.capture.state.source import address
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://API.Example.com:443/v1/", "https://api.example.com/v1"),
        ("http://api.example.com:80", "http://api.example.com"),
        ("http://api.example.com:443", "http://api.example.com:443"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_one_spelling(url: str, same: str) -> None:
    assert address(url) == same


async def test_records_of_two_gateways_are_not_mixed(bench: BenchMaker) -> None:
    """The second one is not asked for its list, and the error says both ways out."""
    async with bench() as b:
        await b.poll()
    with SandboxServer(orders=31, seed=7) as other:
        async with bench(other) as b:
            run = await b.poll()
            assert (run.outcome, run.error_code, run.usage.requests) == (Outcome.FAILED, "source_moved", 0)
            assert "ORDERSYNC_API__MOVED_FROM=" in run.error
            assert len(await b.events()) == 50


async def test_a_gateway_that_has_moved(
    bench: BenchMaker, redis_url: str, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """`run` and `doctor` refuse the new address with exit code 2; with the old one beside it, they go on."""
    before = login_settings(sandbox, redis_url, tmp_path)
    assert ordersync("run", "--once", cwd=tmp_path, **before).returncode == 0
    with SandboxServer(orders=50) as moved:
        settings = login_settings(moved, redis_url, tmp_path)
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        assert (done.returncode, f"ORDERSYNC_API__MOVED_FROM={sandbox.url}" in done.stderr) == (2, True)
        report = ordersync("doctor", "--json", cwd=tmp_path, **settings)
        (problem,) = [found for found in json.loads(report.stdout)["findings"] if found["level"] == "problem"]
        assert (report.returncode, "come from" in problem["text"]) == (2, True)
        done = ordersync("run", "--once", cwd=tmp_path, **settings, api__moved_from=sandbox.url)
        assert (done.returncode, "50 unchanged" in done.stdout) == (0, True), done.stdout + done.stderr
        assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
    async with bench() as b:
        assert (await b.poll()).error_code == "source_moved"  # the old address
