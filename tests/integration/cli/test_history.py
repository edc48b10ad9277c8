"""`ordersync history`: every command that changes something leaves a trace."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.commands import ordersync
from tests.support.programs import login_settings
from tests.support.streams import KEYS, fields_of
from worker.admin.operator_log import login_name
from worker.keys import KeySpace
from worker.sandbox import SandboxServer

CHANGES: dict[str, str] = {
    "pause --reason x --by night-shift": "done",
    "resume": "done",
    "resync orders --all": "done",
    "resync orders --accept-deletes": "done",
    "resyncs cancel nosuch": "Unknown resync 'nosuch'.",
    "dead replay --all": "done",
    "dead drop --all --yes": "done",
    "replay --group g --since 9999d": "done",
    "groups drop g --yes": "done",
    "contract probe orders": "done",
}
"""Commands, as they are typed, and the outcome."""


def fill(client: Any) -> None:
    client.sadd(KeySpace().accounts, "default")
    client.xadd(KEYS.stream("orders"), fields_of(1))
    client.xgroup_create(KEYS.stream("orders"), "g", id="0")


def history(folder: Path, settings: dict[str, str], *words: str) -> list[dict[str, Any]]:
    done = ordersync("history", *words, "--json", cwd=folder, **settings)
    assert done.returncode == 0, done.stderr
    entries: list[dict[str, Any]] = json.loads(done.stdout)
    return entries


def test_every_change_is_written_down(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """Who, as which Redis user, with which command, and how it ended; the latest first."""
    settings = login_settings(sandbox, redis_url, tmp_path)
    with redis.Redis.from_url(redis_url) as client:
        fill(client)
    for command in CHANGES:
        ordersync(*command.split(), cwd=tmp_path, **settings)
    entries = history(tmp_path, settings)
    assert [entry["command"] for entry in reversed(entries)] == list(CHANGES)
    assert all(entry["outcome"].startswith(CHANGES[entry["command"]]) for entry in entries)
    assert [entry["by"] for entry in entries] == [login_name()] * (len(CHANGES) - 1) + ["night-shift"]
    assert {entry["redis_user"] for entry in entries} == {"default"}
    assert [entry["command"] for entry in history(tmp_path, settings, "-n", "1")] == [list(CHANGES)[-1]]
    (row, *_) = json.loads(ordersync("status", "--json", cwd=tmp_path, **settings).stdout)
    assert row["operator_log"] == entries[:3]
    screen = ordersync("status", cwd=tmp_path, **settings).stdout
    assert [line for line in screen.splitlines() if "replay --group g --since 9999d: done" in line]
    assert "resyncs cancel nosuch" not in screen
    text = ordersync("history", cwd=tmp_path, **settings).stdout
    assert "night-shift" in text
    assert "groups drop g --yes" in text


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "runs",
        "replay --group g --since 9999d --dry-run",
        "contract probe --kept",
        "groups",
        "pause",
        "dead list",
    ],
)
def test_what_changes_nothing_leaves_no_trace(redis_url: str, tmp_path: Path, command: str) -> None:
    """Commands that look, dry runs, and wrong usage."""
    with redis.Redis.from_url(redis_url) as client:
        fill(client)
        ordersync(*command.split(), cwd=tmp_path, redis__url=redis_url, data_dir=str(tmp_path))
        assert not client.exists(KEYS.operator_log)


def test_a_secret_in_an_argument_is_hidden(redis_url: str, tmp_path: Path) -> None:
    """A reason is text of a person, who may paste anything."""
    settings = {"redis__url": redis_url, "data_dir": str(tmp_path)}
    with redis.Redis.from_url(redis_url) as client:
        fill(client)
    ordersync("pause", "--reason", "Bearer abcdef123456 of jane@example.com", cwd=tmp_path, **settings)
    (entry,) = history(tmp_path, settings)
    assert entry["command"] == "pause --reason '[hidden] of [hidden]'"


def test_what_cannot_be_written_down_is_said(redis_url: str, tmp_path: Path) -> None:
    """The change is made, the exit code is that of the change, and stderr says what is missing where."""
    with redis.Redis.from_url(redis_url) as client:
        fill(client)
        client.set(KEYS.operator_log, "of another program")
        done: subprocess.CompletedProcess[str] = ordersync(
            "pause", "--reason", "x", cwd=tmp_path, redis__url=redis_url, data_dir=str(tmp_path)
        )
        assert done.returncode == 0
        assert client.hexists(KEYS.paused, "*")
    assert "could not be written into the operator log" in done.stderr
    assert "WRONGTYPE" in done.stderr.splitlines()[-1]
    assert "operator_log_not_written" in done.stderr


def test_a_refused_command_says_why_once(redis_url: str, tmp_path: Path) -> None:
    """Nothing was changed, so nothing is missing in the log: the error of the command is all that is said."""
    with redis.Redis.from_url(redis_url) as client:
        fill(client)
        client.config_set("maxmemory", 1)
        try:
            done: subprocess.CompletedProcess[str] = ordersync(
                "pause", "--reason", "x", cwd=tmp_path, redis__url=redis_url, data_dir=str(tmp_path)
            )
        finally:
            client.config_set("maxmemory", 0)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert "Redis is full and refuses writes." in line
