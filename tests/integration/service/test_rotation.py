"""A secret that is rotated while the daemon runs: the new one is read from where the old one came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from jobs.schedule import CLAIMED, poll_id
from tests.support.programs import Program, login_settings
from tests.support.waiting import eventually
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, SandboxServer

pytestmark = pytest.mark.anyio

CURSOR = "ordersync:{default}:cursor:orders"
POLLS, POLL = "ordersync:queue:polls", poll_id("default", "orders")
NEW = "a-secret-that-is-new"
ACCOUNTS = """
[accounts.default.api]
client_id = "{name}"
{secret}
"""


def secret_file(folder: Path, secret: str) -> dict[str, Any]:
    """A file in the folder of secrets."""
    (folder / "secrets").mkdir(exist_ok=True)
    (folder / "secrets" / "ORDERSYNC_API__CLIENT_SECRET").write_text(f"{secret}\n", encoding="utf-8")
    return {"secrets_dir": str(folder / "secrets")}


def dot_env(folder: Path, secret: str) -> dict[str, Any]:
    """The file `.env`."""
    (folder / ".env").write_text(f"ORDERSYNC_API__CLIENT_SECRET={secret}\n", encoding="utf-8")
    return {}


def accounts_file(folder: Path, secret: str) -> dict[str, Any]:
    """The accounts file itself."""
    text = ACCOUNTS.format(name=CLIENT_ID, secret=f'client_secret = "{secret}"')
    (folder / "accounts.toml").write_text(text, encoding="utf-8")
    return {"accounts_file": str(folder / "accounts.toml")}


def named_file(folder: Path, secret: str) -> dict[str, Any]:
    """A file that the accounts file names."""
    (folder / "the-secret").write_text(secret, encoding="utf-8")
    text = ACCOUNTS.format(name=CLIENT_ID, secret='client_secret_file = "the-secret"')
    (folder / "accounts.toml").write_text(text, encoding="utf-8")
    return {"accounts_file": str(folder / "accounts.toml")}


def was_brought_forward(client: Any) -> bool:
    """Let the poll be due now; false as long as it runs. After a refused login it would wait for a minute."""
    if client.zscore(POLLS, POLL) >= CLAIMED:
        return False
    client.hset(CURSOR, "due_at", "0")
    client.zadd(POLLS, {POLL: 0})
    return True


@pytest.mark.parametrize(
    ("source", "first"),
    [
        (secret_file, "the gateway"),
        (secret_file, "the file"),
        (dot_env, "the file"),
        (accounts_file, "the file"),
        (named_file, "the file"),
    ],
)
async def test_a_rotated_secret_is_read(
    sandbox: SandboxServer,
    redis_url: str,
    tmp_path: Path,
    source: Callable[[Path, str], dict[str, Any]],
    first: str,
) -> None:
    """Whichever of the two has it first: the daemon goes on without a restart, and no secret is in its log."""
    settings = login_settings(sandbox, redis_url, tmp_path / "data", **source(tmp_path, CLIENT_SECRET))
    del settings["api__client_secret"]
    stream = "ordersync:{default}:stream:orders"
    with redis.Redis.from_url(redis_url) as client, Program(tmp_path, **settings) as program:
        await eventually(lambda: client.xlen(stream) == 50)
        if first == "the file":
            source(tmp_path, NEW)
        sandbox.auth.credentials = replace(sandbox.auth.credentials, client_secret=NEW)
        sandbox.auth.revoke()
        if first == "the gateway":
            await program.logged("poll_failed")
            source(tmp_path, NEW)
            await eventually(lambda: was_brought_forward(client))
        sandbox.store.change(1, status="Fulfilled")
        await eventually(lambda: client.xlen(stream) == 51)
        (line,) = program.logs("secrets_read_anew")
        assert (line["account"], line["changed"]) == ("default", ["client_secret"])
        assert CLIENT_SECRET not in program.err
        assert NEW not in program.err
        program.process.terminate()
        assert await program.ended() == 0
        assert len(program.logs("worker_started")) == 1
