"""The examples on the embedded Valkey: over its socket, and over its port with the password in the environment."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.support.node import example
from tests.support.paths import ROOT
from tests.support.programs import program_env, run_beside
from tests.support.servers import free_port
from tests.support.streams import STREAM, Writer
from worker.config.sections import EmbeddedSettings
from worker.redis import embedded
from worker.redis.connections import connect
from worker.redis.embedded import record
from worker.redis.functions import load_functions

pytestmark = pytest.mark.anyio

EXAMPLES = ROOT / "deploy" / "examples"


def commands(url: str, folder: Path) -> dict[str, tuple[str, ...]]:
    """The command of each example that can be run here, by its group."""
    found: dict[str, tuple[str, ...]] = {}
    for name in ("consumer", "plain"):
        program = (sys.executable, str(EXAMPLES / f"{name}.py"), url, str(folder / f"{name}.db"))
        found[name] = (*program, "--group", name, "--name", "w", "--once")
    if shutil.which("redis-cli"):
        words = ("sh", "-c", "cat > /dev/null")
        found["sh"] = ("sh", str(EXAMPLES / "consume.sh"), url, STREAM, "sh", "w", *words)
    if shutil.which("node") and shutil.which("npm"):
        found["node"] = (*example(folder), url, STREAM, "--group", "node", "--events", "3")
    return found


@pytest.mark.parametrize("over", ["socket", "port"])
async def test_each_reaches_it(tmp_path: Path, over: str) -> None:
    """Each reads and acknowledges all events, with no more than the address and the password that are printed."""
    settings = EmbeddedSettings(port=free_port() if over == "port" else None)
    env = program_env() | {"EVENTS": "3"}
    async with embedded.server(tmp_path / "data", settings) as running, connect(running.url) as own:
        url = running.url
        if over == "port":
            url = f"redis://127.0.0.1:{settings.port}/0"
            env["REDISCLI_AUTH"] = record.password_file(tmp_path / "data").read_text().strip()
        await load_functions(own)  # as the worker does: a program at the port may not send scripts
        await Writer(own).add(3, data=b'{"id":"a"}')  # plain.py must not refuse it
        for group, command in commands(url, tmp_path).items():
            done = await run_beside(*command, cwd=tmp_path, env=env)
            assert done.returncode == 0, done.stderr  # ioredis notes there that it may not call INFO
            (found,) = [each for each in await own.xinfo_groups(STREAM) if each["name"].decode() == group]
            assert (found["entries-read"], found["pending"]) == (3, 0), group
