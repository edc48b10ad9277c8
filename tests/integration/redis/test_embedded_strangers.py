"""Nothing is sent to a process that has taken the address of the embedded Valkey, and none but it gets a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisGone

from tests.support.commands import ordersync
from tests.support.impostor import Impostor
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.waiting import eventually
from worker.redis import embedded
from worker.redis.connections import connect, expect_peer
from worker.redis.embedded import lifecycle
from worker.redis.embedded.processes import Process, is_alive, look, send
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

NOBODY = 65534
LISTEN_AS_NOBODY = """
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
os.setgid(65534)
os.setuid(65534)
server.listen()
print("listening", flush=True)
while True:
    print("heard", server.accept()[0].recv(1000), flush=True)
"""


@pytest.fixture
def never_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded server is not started again while the test looks."""
    monkeypatch.setattr(lifecycle, "_CHECK_SECONDS", 600)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with it."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


async def test_a_process_that_took_the_socket(tmp_path: Path, never_restarted: None) -> None:
    """Not a byte is sent to it, by a new connection and by one that comes again; the error names both processes."""
    async with embedded.server(tmp_path) as running:
        client = connect(running.url)
        await client.set("a", "secret")
        os.kill(running.pid, signal.SIGKILL)
        with Impostor(running.socket) as stranger:
            await eventually(running.socket.exists)
            for each in (client, connect(running.url)):
                with pytest.raises(
                    RedisGone, match=rf"process {os.getpid()} answers.*was process {running.pid}"
                ):
                    await each.set("a", "secret")
                await each.aclose()
        assert stranger.visits >= 2
        assert stranger.heard == b""


def test_the_same_on_uvloop(tmp_path: Path, never_restarted: None) -> None:
    """Its sockets are not those of asyncio."""
    uvloop.run(test_a_process_that_took_the_socket(tmp_path, None))


async def test_a_process_of_another_user(tmp_path: Path) -> None:
    """Even if it had the right number."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a process of another user")
    path = tmp_path / "s"
    with Program(tmp_path, sys.executable, "-c", LISTEN_AS_NOBODY, str(path)) as stranger:
        await eventually(lambda: "listening" in stranger.out)
        expect_peer(str(path), lambda _pid: "")
        client = connect(f"unix://{path}")
        with pytest.raises(RedisGone, match=f"user {NOBODY} answers there"):
            await client.ping()
        await client.aclose()
        await eventually(lambda: "heard b''" in stranger.out)


async def test_the_daemon_and_the_commands(sandbox: SandboxServer, tmp_path: Path) -> None:
    """A stranger that holds the socket gets nothing; health, status and log say so."""
    settings = login_settings(sandbox, "", tmp_path / "data", grace_seconds="0")

    def says(command: str, code: int, words: str) -> bool:
        done = ordersync(command, cwd=tmp_path, data_dir=str(tmp_path / "data"))
        return done.returncode == code and words in done.stdout + done.stderr

    with Program(tmp_path, **settings) as daemon:
        await daemon.logged("poll_done")
        running = embedded.find(tmp_path / "data")
        assert running is not None
        directory = embedded.folder(tmp_path / "data")
        manifest = next((directory / "appendonlydir").glob("*.manifest"))
        manifest.write_bytes(b"not a manifest\n")  # so that the worker cannot start its server again
        os.kill(running.pid, signal.SIGKILL)
        with Impostor(running.socket) as stranger:
            await eventually(lambda: says("health", 1, "Redis cannot be reached"))
            await eventually(lambda: says("status", 3, "Nothing was sent to it"))
            await eventually(lambda: "does not lead to the worker's own server" in daemon.err)
            assert stranger.visits >= 3
        assert stranger.heard == b""


@pytest.mark.parametrize("layout", ["today's", "older"])
async def test_a_planted_note(
    tmp_path: Path, own_server: Server, bystander: subprocess.Popen[bytes], layout: str
) -> None:
    """It names a stranger's server and a process of somebody: neither is used, and neither gets a signal."""
    place = embedded.folder(tmp_path)
    place.mkdir(mode=0o700)
    victims = [bystander.pid, own_server._process.pid if own_server._process else 0]
    for pid in victims:
        process = look(pid)
        assert process is not None
        other = msgspec.structs.replace(process, started="1")
        running = embedded.Running(f"unix://{tmp_path}/s", other, max_memory_bytes=1_073_741_824, ready=True)
        former = {"url": own_server.url, "pid": pid}
        (place / "running.json").write_bytes(msgspec.json.encode(running if layout == "today's" else former))
        async with embedded.server(tmp_path) as own:
            assert own.url == f"unix://{place}/valkey.sock"
        assert is_alive(process)


def test_only_the_same_process_gets_a_signal(bystander: subprocess.Popen[bytes]) -> None:
    """Number, start time and program must be those that were written down."""
    process = look(bystander.pid)
    assert process is not None
    for other in (
        msgspec.structs.replace(process, started=str(int(process.started) + 1)),
        msgspec.structs.replace(process, program="/usr/bin/other"),
        Process(2**22 + 1, process.started, process.program),
    ):
        assert not send(other, signal.SIGKILL)
    assert is_alive(process)
    assert send(process, signal.SIGKILL)
    assert bystander.wait() == -signal.SIGKILL
    assert not send(process, signal.SIGKILL)
