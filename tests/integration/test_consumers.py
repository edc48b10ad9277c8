"""Consumers of other kinds read the events: `redis-cli`, and a program in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import BenchMaker, program_env, run_beside
from worker.queue.envelope import FIELDS

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
STREAM = "ordersync:{default}:stream:orders"


async def test_redis_cli(bench: BenchMaker, redis_url: str) -> None:
    """Plain XREAD shows the documented fields in their order, and the record as it was served."""
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli is not on PATH")
    async with bench() as b:
        await b.poll()
        truth = b.sandbox.store.truth()
    command = ("redis-cli", "-u", redis_url, "--json", "XREAD", "COUNT", "1", "STREAMS", STREAM, "0")
    done = await run_beside(*command, cwd=ROOT, env=program_env())
    assert (done.returncode, done.stderr) == (0, "")
    ((_, flat),) = json.loads(done.stdout)[STREAM]
    event = dict(zip(flat[::2], flat[1::2], strict=True))
    assert flat[::2] == list(FIELDS)
    assert event["type"] == "io.ordermesh.order.snapshot"
    assert event["data"].encode() == truth[event["subject"]]


@pytest.fixture
def ioredis(pytestconfig: pytest.Config) -> Path:
    """A folder with ioredis in it, installed once."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not on PATH")
    if pytestconfig.cache is None:
        pytest.skip("pytest runs without its cache folder, where ioredis is kept")
    folder = pytestconfig.cache.mkdir("ioredis-5")
    if not (folder / "node_modules" / "ioredis" / "package.json").exists():
        install = ("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder))
        try:
            subprocess.run([*install, "ioredis@5"], capture_output=True, timeout=60, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"ioredis cannot be installed: {type(error).__name__}")
    return folder


async def test_a_node_program(bench: BenchMaker, redis_url: str, ioredis: Path) -> None:
    """deploy/examples/read.mjs reads every event once, fields in the documented order, and parses the records."""
    async with bench() as b:
        await b.poll()
        events = await b.events()
    script = ioredis / "read.mjs"  # node looks for packages beside the script
    shutil.copy(ROOT / "deploy" / "examples" / "read.mjs", script)
    command = ("node", str(script), redis_url, "default", "orders", "--once")
    done = await run_beside(*command, cwd=ioredis, env=program_env())
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["entry"] for line in lines] == [event.entry_id for event in events]
    assert all(line["fields"] == list(FIELDS) for line in lines)
    assert [line["subject"] for line in lines] == [event.subject for event in events]
