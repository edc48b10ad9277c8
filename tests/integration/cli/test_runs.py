"""`ordersync runs`: what polls have done."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ordersync
from tests.support.worker import Bench, BenchMaker
from worker.app import announce
from worker.sandbox import FaultRule

pytestmark = pytest.mark.anyio


@pytest.fixture
async def three_runs(bench: BenchMaker) -> AsyncIterator[Bench]:
    """A first read, one that fails, and one that finds two changes."""
    async with bench(attempts=1) as b:
        await announce(b.services)
        await b.poll()
        b.sandbox.faults.replace((FaultRule("status", operation="orders.search", code=500, times=1),))
        await b.poll()
        b.sandbox.store.change(2)
        await b.poll(reason="resync")
        yield b


def call(tmp_path: Path, redis_url: str, *words: str) -> Any:
    done = ordersync("runs", *words, cwd=tmp_path, redis__url=redis_url)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout


async def test_the_list(three_runs: Bench, redis_url: str, tmp_path: Path) -> None:
    """The latest first; of one resource, those that failed, so many, since a time; for people and for programs."""
    runs = call(tmp_path, redis_url, "--json")
    assert [(run["outcome"], run["reason"], run["records"], run["events"]) for run in runs] == [
        ("complete", "resync", 50, 2),
        ("failed", "poll", 0, 0),
        ("complete", "poll", 50, 50),
    ]
    assert runs[0]["started_at"] <= runs[0]["ended_at"]
    assert runs[1]["error_code"] == "server_error"
    head, *lines = call(tmp_path, redis_url).splitlines()
    assert head.split()[:4] == ["ended", "run", "resource", "plan"]
    assert [line.split()[:3] for line in lines] == [
        [run["ended_at"], run["run_id"], "orders"] for run in runs
    ]
    assert "status 500" in lines[1]
    assert call(tmp_path, redis_url, "orders", "--failed", "--json") == runs[1:2]
    assert call(tmp_path, redis_url, "-n", "1", "--json") == runs[:1]
    assert call(tmp_path, redis_url, "list", "--since", "1h", "--json") == runs
    assert call(tmp_path, redis_url, "notes") == "No runs match.\n"
    assert call(tmp_path, redis_url, "--since", "2100-01-01T00:00:00Z") == "No runs match.\n"


async def test_one_run(three_runs: Bench, redis_url: str, tmp_path: Path) -> None:
    """By its id or its beginning, all that is kept of it; an id that is none, or several, is said to be so."""
    latest, failed, _ = call(tmp_path, redis_url, "--json")
    assert call(tmp_path, redis_url, "show", latest["run_id"], "--json") == latest
    assert call(tmp_path, redis_url, "show", failed["run_id"][:12], "--json") == failed
    shown = dict(
        line.split(maxsplit=1) for line in call(tmp_path, redis_url, "show", failed["run_id"]).splitlines()
    )
    assert (shown["outcome"], shown["records"], shown["error"]) == ("failed", "0", failed["error"])
    done = ordersync("runs", "show", "nosuch", cwd=tmp_path, redis__url=redis_url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Unknown run 'nosuch'" in done.stderr
    done = ordersync("runs", "show", "", cwd=tmp_path, redis__url=redis_url)
    assert done.returncode == 1
    assert "3 runs begin with ''" in done.stderr


async def test_a_redis_without_runs(redis_url: str, tmp_path: Path) -> None:
    """Nothing to show is no failure."""
    assert call(tmp_path, redis_url) == "There are no runs yet.\n"
    assert call(tmp_path, redis_url, "--json") == []
