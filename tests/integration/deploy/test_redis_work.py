"""The users of deploy/redis do their work: the daemon, consumers, examples and every command of an operator."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.deployment.deployed import DEAD, DEPLOY, STREAM, DeployedServer
from tests.support.node import example
from tests.support.page import page_of
from tests.support.programs import Program, program_env, run_beside
from tests.support.streams import fields_of
from tests.support.waiting import PATIENCE, eventually
from tests.support.webhooks import webhook_receiver
from worker.config.resources import RESOURCES
from worker.keys import Keys
from worker.redis.connections import connect
from worker.redis.functions import load_functions
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

SEVERAL = """
import json, sys
from worker import cli
for words in json.loads(sys.argv[1]):
    sys.argv = ["ordersync", *words]
    try:
        cli.main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    print(f"[{status}] {' '.join(words)}", flush=True)
"""
"""Runs commands of `ordersync` one after the other in one process: most of the time of one is its imports."""


async def commands(server: DeployedServer, user: str, folder: Path, *wanted: tuple[str, ...]) -> str:
    """What commands of `ordersync` write under a user, when all of them have succeeded and nothing was refused."""
    env = program_env(secrets_dir=str(server.secrets / user), account="shop", data_dir=str(folder / "data"))
    done = await run_beside(sys.executable, "-c", SEVERAL, json.dumps(wanted), cwd=folder, env=env)
    ends = re.findall(r"^\[(\d+)\] (.*)$", done.stdout, re.MULTILINE)
    assert ends == [("0", " ".join(words)) for words in wanted], done.stdout + done.stderr
    assert server.refusals() == []
    return done.stdout


@pytest.fixture
def small() -> Iterator[SandboxServer]:
    """An OrderMesh with few orders: a failing consumer starts its command for each."""
    with SandboxServer(orders=8) as running:
        yield running


@pytest.mark.slow
async def test_everybody_can_do_their_work(
    server: DeployedServer, admin: Any, small: SandboxServer, tmp_path: Path
) -> None:
    """The daemon over all resources, a consumer that fails and one that does not, and every command of an operator.

    The server's own log of refusals is empty after each, but for the worker's look at the configuration of memory.
    """
    worker = {
        "secrets_dir": str(server.secrets / "worker"),
        "account": "shop",
        "data_dir": str(tmp_path / "data"),
        "api__base_url": small.url,
        "api__requests_per_second": "1000",
        "poll__intervals": json.dumps(dict.fromkeys(RESOURCES, 1)),
        "events__groups": '{"early": ["orders"]}',
        "events__previous": "true",
        "retention__every": "1",
        "retention__max_entries": "2",
    }
    with Program(tmp_path, **worker) as program:
        await eventually(lambda: admin.xlen(STREAM) == 8)
        await program.logged("poll_done", len(RESOURCES) * 2, 60)
        small.store.change(1, status="Fulfilled")
        await eventually(lambda: admin.xlen(STREAM) == 9)
        program.process.terminate()
        assert await program.ended() == 0
        assert program.logs("stream_trimmed")
        errors = {line["event"] for line in program.logs() if line["level"] not in {"info", "debug"}}
        assert errors <= {"retention_held_back", "jobs_cut_short"}
    assert [refused["object"] for refused in server.refusals()] == ["config|get"]
    assert {group["name"] for group in admin.xinfo_groups(STREAM)} == {b"early"}

    consume = ("consume", "--once", "--batch", "50")
    sink = ("--", "sh", "-c", "cat > /dev/null")
    failing = ("--", "sh", "-c", "cat > /dev/null; exit 3")
    await commands(
        server, "consumer", tmp_path,
        (*consume, "--group", "warehouse", "orders", *sink),
        (*consume, "--group", "failing", "--max-deliveries", "1", "orders", *failing),
    )  # fmt: skip
    letters = [entry_id.decode() for entry_id, _ in admin.xrange(DEAD)]
    subject = admin.xrange(DEAD)[0][1][b"subject"].decode()
    assert len(letters) == 9

    replay = ("replay", "--group", "warehouse", "orders", "--since", "2h")
    told = await commands(
        server, "operator", tmp_path,
        ("status",), ("status", "--json"), ("groups",), ("groups", "--json"),
        ("pause", "orders", "--reason", "stocktaking"), ("status",), ("resume", "orders"),
        ("runs",), ("history",), ("timeline", subject), ("coverage",), ("coverage", "orders", "--json"),
        ("dead", "list"), ("dead", "show", letters[0]), ("dead", "replay", letters[0]),
        ("dead", "drop", "--yes", letters[1]), (*replay, "--dry-run"), replay,
        ("groups", "create", "late", "orders", "--from", "1h"), ("groups", "show", "late"),
        ("groups", "drop", "--yes", "failing"), ("accounts", "list"),
        ("history", "--json"),
    )  # fmt: skip
    async with (
        page_of(server.url("operator")) as page,
        httpx.AsyncClient(base_url=page.url, timeout=PATIENCE) as http,
    ):
        assert "shop" in (await http.get("/")).text
        assert "v1 " in (await http.get("/timeline", params={"id": subject})).text
    assert server.refusals() == []
    assert "stocktaking" in told
    assert "9 events redelivered" in told
    assert "could not be written" not in told
    assert '"redis_user": "operator", "command": "pause orders' in told
    assert admin.xlen(DEAD) == 7
    await commands(server, "worker", tmp_path, ("erase", subject, "--offline", "--yes"))
    left = [fields for _, fields in admin.xrange(STREAM) if fields[b"subject"].decode() == subject]
    assert [fields[b"type"] for fields in left] == [b"io.ordermesh.order.erased"]
    with Program(
        tmp_path, sys.executable, "-m", "worker.cli", "tail", "orders",
        secrets_dir=str(server.secrets / "operator"), account="shop",
    ) as tail:  # fmt: skip
        await eventually(lambda: len(tail.out.splitlines()) >= 5)
    await commands(server, "consumer", tmp_path, (*consume, "--group", "warehouse", "orders", *sink))
    assert admin.xpending(STREAM, "warehouse")["pending"] == 0


async def test_the_examples_run_as_a_consumer(server: DeployedServer, admin: Any, tmp_path: Path) -> None:
    """Python, Node and shell need no more than the consumer's rights."""
    worker = connect(server.url("worker"))
    await load_functions(worker)  # a consumer may not send scripts
    await worker.aclose()
    stream, url = Keys("examples").stream("orders"), server.url("consumer")
    for number in range(3):
        admin.xadd(stream, fields_of(number))
    shell = (str(DEPLOY / "examples" / "consume.sh"), url, stream, "sh", "one", "sh", "-c", "cat >> taken")
    if shutil.which("redis-cli"):
        done = await run_beside(*shell, cwd=tmp_path, env={**program_env(), "EVENTS": "2"})
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "taken").read_text().count('{"id":"a"}') == 2
    database = str(tmp_path / "orders.db")
    kit = (sys.executable, str(DEPLOY / "examples" / "consumer.py"), url, database)
    done = await run_beside(
        *kit, "--group", "kit", "--account", "examples", "--once", cwd=tmp_path, env=program_env()
    )
    assert done.returncode == 0, done.stderr
    admin.xadd(stream, fields_of(3, b'{"id":"a","status":"Odd"}'))
    plain = (sys.executable, str(DEPLOY / "examples" / "plain.py"), url, str(tmp_path / "plain.db"))
    words = ("--account", "examples", "--refuse", "Odd", "--max-deliveries", "1", "--once")
    done = await run_beside(*plain, *words, cwd=tmp_path, env=program_env())
    assert done.returncode == 0, done.stderr
    assert admin.xlen(Keys("examples").dead("orders")) == 1
    admin.sadd("ordersync:accounts", "examples")
    with webhook_receiver() as receiver:
        forward = ("forward", "--group", "http", "--account", "examples", "--once", "--to", receiver.url)
        await commands(server, "consumer", tmp_path, forward)
        assert len(receiver.taken) == 4
    admin.srem("ordersync:accounts", "examples")
    assert server.refusals() == []


async def test_node_runs_as_a_consumer(server: DeployedServer, admin: Any, tmp_path: Path) -> None:
    """The client of Node would like to see INFO; it does without."""
    stream = Keys("node").stream("orders")
    admin.xadd(stream, fields_of(1))
    words = ("--events", "1", "--json")
    done = await run_beside(
        *example(tmp_path), server.url("consumer"), stream, *words, cwd=tmp_path, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert admin.xpending(stream, "warehouse")["pending"] == 0
    assert {refused["object"] for refused in server.refusals()} <= {"info"}
