"""A command in the process of the test ends as in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.commands import ordersync
from tests.support.programs import login_settings, ordersync_process
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ("--version", {}),
        ("nosuch", {}),
        ("tail \udcff", {}),
        ("config show", {"api__client_secret": "hunter2-hunter2"}),
        ("status", {"api__page_size": "x"}),
        ("status", {"redis__url": "redis://:hunter2-hunter2@127.0.0.1:1/0"}),
        ("health", {"data_dir": "."}),
        ("contract show --diff", {"contract_file": "nosuch.toml"}),
    ],
)
async def test_the_same_as_a_process(tmp_path: Path, arguments: str, settings: dict[str, str]) -> None:
    """Output, errors and exit code, although the event loop of the test runs."""
    here, process = (
        start(*arguments.split(), cwd=tmp_path, **settings) for start in (ordersync, ordersync_process)
    )
    assert (here.returncode, here.stdout, here.stderr) == (process.returncode, process.stdout, process.stderr)
    assert here.stdout or here.stderr


async def test_commands_with_a_redis(redis_url: str, sandbox: SandboxServer, tmp_path: Path) -> None:
    """A worker that reads everything once, a list of what it did, and a command that starts another one."""
    settings = login_settings(sandbox, redis_url, tmp_path / "data")
    assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
    for arguments in ("runs --json", "groups", "tail --no-follow --json"):
        here, process = (
            start(*arguments.split(), cwd=tmp_path, redis__url=redis_url)
            for start in (ordersync, ordersync_process)
        )
        assert (here.returncode, here.stderr) == (process.returncode, process.stderr)
        assert here.stdout == process.stdout != ""
    for group, start in (("a", ordersync), ("b", ordersync_process)):
        words = (
            "consume",
            "--group",
            group,
            "--name",
            "c1",
            "--once",
            "--",
            "sh",
            "-c",
            "wc -l; echo done >&2",
        )
        done = start(*words, cwd=tmp_path, redis__url=redis_url)
        assert (done.returncode, done.stdout) == (0, "50\n")
        assert "done" in done.stderr.splitlines()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Environment, folder, arguments, streams, descriptors and signals of the test are as before."""

    def now() -> tuple[object, ...]:
        descriptors = sorted(path.name for path in Path("/proc/self/fd").iterdir())
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        streams = [id(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)]
        return dict(os.environ), Path.cwd(), sys.argv, descriptors, handlers, streams

    ordersync("status", cwd=tmp_path, redis__url="redis://127.0.0.1:1/0")
    before = now()
    ordersync("status", cwd=tmp_path, redis__url="redis://127.0.0.1:1/0")
    assert now() == before
