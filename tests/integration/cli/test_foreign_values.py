"""Every command, on keys that another program has written into: no traceback, and a sentence that says what to do."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.cli.test_every_command import ARGUMENTS
from tests.support.commands import ordersync
from tests.support.garbage import kinds_for
from tests.support.programs import login_settings
from worker.keys import Keys, KeySpace
from worker.sandbox import SandboxServer

KEYS = Keys("default")
READERS: dict[str, tuple[str, ...]] = {
    KeySpace().accounts: ("status", "tail", "runs list", "groups", "doctor"),
    KEYS.budget: ("status", "run"),
    KEYS.cursor("orders"): ("status", "coverage", "timeline", "doctor", "run"),
    KEYS.coverage("orders"): ("coverage",),
    KEYS.layout: ("status", "doctor"),
    KEYS.paused: ("status", "pause", "resume"),
    KEYS.reconcile("orders"): ("coverage", "status"),
    KEYS.resyncs: ("resyncs", "resync"),
    KEYS.open_resyncs: ("resyncs", "status"),
    KEYS.runs: ("runs list", "status", "coverage"),
    KEYS.stream("orders"): ("tail", "timeline", "consume"),
    KEYS.dead("orders"): ("dead list", "status"),
    KEYS.workers: ("status",),
    KEYS.contract: ("doctor",),
}
"""Keys, and the commands that read them."""
CONSUME = ("--group", "g", "orders", "--once", "--", "cat")
EACH = 1
"""Ways to spoil a key that are tried with each of its commands, beside another type."""


@pytest.fixture
def settings(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> dict[str, str]:
    """A worker that has read, published and been paused, and whose keys there are."""
    result = login_settings(sandbox, redis_url, tmp_path / "data", log__level="error")
    for words in (
        ("run", "--once"),
        ("pause", "notes", "--reason", "x"),
        ("resync", "orders", "--all"),
        ("consume", "--group", "g", "orders", "--once", "--", "cat"),
    ):
        ordersync(*words, cwd=tmp_path, **result)
    with redis.Redis.from_url(redis_url) as client:
        client.xadd(KEYS.dead("orders"), {"reason": "x"})
        client.hset(KEYS.reconcile("orders"), "due_at", "1")
        client.xadd(KEYS.coverage("orders"), {"pass": "{}"})
        client.zadd(KEYS.workers, {"a": 1})
    return result


def test_spoiled_keys(
    settings: dict[str, str], redis_url: str, tmp_path: Path, sandbox: SandboxServer
) -> None:
    """Each command ends with a known status; where it fails, it says why on one line or more, without a traceback."""
    arguments = {**ARGUMENTS, "timeline": (max(sandbox.store.truth()),), "resync": ("orders", "--all")} | {
        "consume": CONSUME
    }
    with redis.Redis.from_url(redis_url) as client:
        for key, commands in READERS.items():
            kept: Any = client.dump(key)
            assert kept is not None, key
            ways = list(kinds_for(client.type(key).decode()))
            for command in commands:
                chosen = [ways[0], *random.Random(f"{key} {command}").sample(ways[1:], EACH)]
                for name, spoil in chosen:
                    spoil(client, key.encode())
                    words = (*command.split(), *arguments.get(command, ()))
                    done = ordersync(*words, cwd=tmp_path, **settings)
                    what = (key, name, command, done.stderr)
                    assert done.returncode in {0, 1, 2, 3}, what
                    assert "Traceback" not in done.stderr, what
                    assert not done.returncode or done.stderr or done.stdout, what
                    client.restore(key, 0, kept, replace=True)


def test_a_name_of_another_program_among_the_accounts(
    settings: dict[str, str], redis_url: str, tmp_path: Path
) -> None:
    """Commands go on with the accounts that there are; doctor names it, and says how to remove it."""
    with redis.Redis.from_url(redis_url) as client:
        client.sadd(KeySpace().accounts, b"\xff\x1b[2J")
    rows = json.loads(ordersync("status", "--json", cwd=tmp_path, **settings).stdout)
    assert {row["account"] for row in rows} == {"default"}
    assert ordersync("runs", cwd=tmp_path, **settings).returncode == 0
    said = ordersync("doctor", cwd=tmp_path, **settings).stdout
    assert r"ordersync:accounts contains a name that no account has: '\\xff\x1b[2J'" in said
    assert "SREM ordersync:accounts" in said


def test_a_cursor_that_cannot_be_read_is_named(
    settings: dict[str, str], redis_url: str, tmp_path: Path
) -> None:
    """By the commands that read it: its key, what is wrong, and what to do."""
    with redis.Redis.from_url(redis_url) as client:
        client.hset(KEYS.cursor("orders"), "sequence", "9" * 5_000)
    for command in ("run --once", "status", "doctor"):
        done = ordersync(*command.split(), cwd=tmp_path, **settings)
        assert f"the cursor {KEYS.cursor('orders')} cannot be read" in " ".join(
            (done.stdout + done.stderr).split()
        ), command


def test_run_once_reads_the_other_resources(
    settings: dict[str, str], redis_url: str, tmp_path: Path, sandbox: SandboxServer
) -> None:
    """A cursor that cannot be read stops its own resource only; the exit status says that not all was read."""
    sandbox.store.change(3, note="x")
    both = settings | {"poll__intervals": '{"orders": 1, "shipments": 1}'}
    with redis.Redis.from_url(redis_url) as client:
        client.hset(KEYS.cursor("orders"), "due_at", "nan")
        done = ordersync("run", "--once", cwd=tmp_path, **both)
        assert done.returncode == 1
        assert f"the cursor {KEYS.cursor('orders')} cannot be read: due_at is nan" in done.stderr
        assert "default/shipments: complete" in done.stdout
        client.delete(KEYS.cursor("orders"))
        client.rpush(KEYS.cursor("orders"), "x")
        done = ordersync("run", "--once", cwd=tmp_path, **both)
        assert done.returncode == 1
        assert "default/shipments: complete" in done.stdout
