"""The embedded Valkey: started, shared, taken over, kept running, ended with its owner."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import msgspec
import psutil
import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from tests.support.programs import Program
from tests.support.servers import Server
from tests.support.waiting import eventually
from worker.config.sections import EmbeddedSettings
from worker.errors import RedisUnavailable, SettingsError
from worker.redis import embedded
from worker.redis.connections import connect
from worker.redis.embedded import launch

pytestmark = pytest.mark.anyio

OWNER = """
import asyncio, pathlib, sys
from worker.redis import embedded
async def main():
    async with embedded.server(pathlib.Path(sys.argv[1])) as running:
        print(running.url, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


FORBIDDEN = (
    ("MODULE", "LOAD", "/x.so"),
    ("DEBUG", "SLEEP", "0"),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("MIGRATE", "127.0.0.1", "1", "a", "0", "1"),
    ("CONFIG", "SET", "dir", "/"),
)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def say(url: str, *command: str) -> object:
    async with connect(url) as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def test_it_runs_while_the_block_does(tmp_path: Path) -> None:
    """On a socket, durable, never evicting; `find` tells where; ended behind the block, with its socket."""
    async with embedded.server(tmp_path) as running:
        assert running.url == f"unix://{embedded.folder(tmp_path)}/valkey.sock"
        assert embedded.find(tmp_path) == running
        async with connect(running.url) as client:
            config = await client.config_get("*")
        assert (config["appendonly"], config["appendfsync"]) == ("yes", "everysec")
        assert config["maxmemory-policy"] == "noeviction"
        assert Path(config["dir"]) == embedded.folder(tmp_path)
        process = psutil.Process(running.pid)
        assert [each for each in process.net_connections() if each.family.name != "AF_UNIX"] == []
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert process.terminal() is None
    assert not is_alive(running.pid)
    assert embedded.find(tmp_path) is None
    assert not running.socket.exists()


async def test_nothing_of_it_is_open_to_others(tmp_path: Path) -> None:
    """Folder, socket, log and append-only files belong to this user alone, whatever the umask of the worker is."""
    before = os.umask(0)
    try:
        async with embedded.server(tmp_path / "data", EmbeddedSettings(port=None)) as running:
            await say(running.url, "SET", "a", "1")
            modes = {path: path.lstat().st_mode & 0o077 for path in (tmp_path / "data").rglob("*")}
            assert len(modes) >= 7
            assert {path for path, mode in modes.items() if mode} == set()
            assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


async def test_commands_that_nobody_needs(tmp_path: Path) -> None:
    """They run code, or copy the data elsewhere."""
    async with embedded.server(tmp_path) as running:
        for command in FORBIDDEN:
            with pytest.raises(ResponseError, match=r"unknown command|protected config"):
                await say(running.url, *command)


async def test_a_long_data_folder(tmp_path: Path) -> None:
    """A socket's path has 107 bytes at most: it is in a short folder, which is private and ends with the server."""
    data_dir = tmp_path / ("long" * 40)
    async with embedded.server(data_dir) as running:
        place = running.socket.parent
        assert len(str(running.socket)) < 60
        assert place.stat().st_mode & 0o777 == 0o700
        assert await say(running.url, "PING")
        found = embedded.find(data_dir)
        assert found is not None
        assert found.socket == running.socket
    assert not place.exists()


async def test_a_folder_with_odd_letters(tmp_path: Path) -> None:
    """Spaces, quotes and what has a meaning in addresses."""
    async with embedded.server(tmp_path / 'a "b" #c?d%41é') as running:
        assert await say(running.url, "PING")


async def fill(url: str) -> None:
    """Write 40 MB."""
    for number in range(40):
        await say(url, "SET", f"big-{number}", "x" * 1_000_000)


async def test_full_memory(tmp_path: Path) -> None:
    """At its limit it refuses writes and evicts nothing."""
    async with embedded.server(tmp_path, EmbeddedSettings(max_memory_bytes=16_777_216)) as running:
        await say(running.url, "SET", "first", "1")
        with pytest.raises(OutOfMemoryError):
            await fill(running.url)
        assert await say(running.url, "GET", "first") == b"1"


async def test_data_survives_a_restart(tmp_path: Path) -> None:
    """What was written is there when the next worker starts the server."""
    async with embedded.server(tmp_path) as running:
        await say(running.url, "SET", "a", "1")
    async with embedded.server(tmp_path) as running:
        assert await say(running.url, "GET", "a") == b"1"


async def test_a_second_worker_shares_it_and_leaves_it_running(tmp_path: Path) -> None:
    """Who came second uses the server and does not end it; who started it does."""
    async with embedded.server(tmp_path) as first:
        async with embedded.server(tmp_path) as second:
            assert (second.url, second.pid, second.shared) == (first.url, first.pid, True)
        assert is_alive(first.pid)
        assert await say(first.url, "PING")
    assert not is_alive(first.pid)


async def left_behind(folder: Path) -> embedded.Running:
    """A server whose owner was killed. It has a key."""
    with Program(folder, sys.executable, "-c", OWNER, str(folder)) as owner:
        await eventually(lambda: "unix://" in owner.out)
        running = embedded.find(folder)
        assert running is not None
        await say(running.url, "SET", "a", "1")
        owner.process.kill()
        await owner.ended()
    return running


async def test_it_is_taken_over_from_a_killed_owner_and_ended(tmp_path: Path) -> None:
    """After SIGKILL of its owner it goes on; the next worker takes it over with its data, and ends it."""
    before = await left_behind(tmp_path)
    assert is_alive(before.pid)
    async with embedded.server(tmp_path) as running:
        assert running == before
        assert running.pid == before.pid
        assert await say(running.url, "GET", "a") == b"1"
    assert not is_alive(before.pid)


async def test_other_settings_end_a_server_that_was_left(tmp_path: Path) -> None:
    """A server of a killed worker has the settings of that worker: with others it is started again."""
    before = await left_behind(tmp_path)
    async with embedded.server(tmp_path, EmbeddedSettings(max_memory_bytes=20_000_000)) as running:
        assert not is_alive(before.pid)
        assert await say(running.url, "GET", "a") == b"1"
        assert await say(running.url, "CONFIG", "GET", "maxmemory") == [b"maxmemory", b"20000000"]


async def test_a_folder_of_an_older_version(tmp_path: Path, own_server: Server) -> None:
    """Its server, which a killed worker left on a port, is ended; its data are there on the socket."""
    place = embedded.folder(tmp_path)
    place.mkdir()
    older = Server(place)
    older.start()
    assert older._process is not None
    await say(older.url, "SET", "a", "1")
    file = place / "running.json"
    file.write_bytes(msgspec.json.encode({"url": older.url, "pid": older._process.pid}))
    assert embedded.find(tmp_path) is None
    async with embedded.server(tmp_path) as running:
        assert older._process.wait() == 0
        assert await say(running.url, "GET", "a") == b"1"
        assert psutil.Process(running.pid).net_connections("tcp") == []


async def test_it_is_started_again_when_it_dies(tmp_path: Path) -> None:
    """Killed under its owner, it is back on the same port within seconds, with its data."""
    async with embedded.server(tmp_path) as running:
        await say(running.url, "SET", "a", "1")
        await say(running.url, "CONFIG", "SET", "appendfsync", "always")
        await say(running.url, "SET", "b", "2")
        os.kill(running.pid, signal.SIGKILL)

        async def is_back() -> bool:
            found = embedded.find(tmp_path)
            return found is not None and found.pid != running.pid and is_alive(found.pid)

        await eventually(is_back)
        found = embedded.find(tmp_path)
        assert found is not None
        assert found.url == running.url
        assert await say(running.url, "MGET", "a", "b") == [b"1", b"2"]
    assert not is_alive(found.pid)


async def test_it_is_started_again_when_its_socket_is_removed(tmp_path: Path) -> None:
    """Such as by a program that cleans up: no new connection would reach it."""
    async with embedded.server(tmp_path) as running:
        await say(running.url, "SET", "a", "1")
        running.socket.unlink()

        async def is_back() -> bool:
            found = embedded.find(tmp_path)
            return found is not None and found.pid != running.pid and found.socket.exists()

        await eventually(is_back)
        assert not is_alive(running.pid)
        assert await say(running.url, "GET", "a") == b"1"


async def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """It is a wrong setting, named with the system's reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"ORDERSYNC_DATA_DIR: .* cannot be used: Not a directory"):
        async with embedded.server(tmp_path / "file"):
            pass


async def test_no_program_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, or without its program for this machine, the message says what to do instead."""
    monkeypatch.setattr("platform.machine", lambda: "z80")
    with pytest.raises(SettingsError, match=r"Unsupported architecture.*ORDERSYNC_REDIS__URL"):
        async with embedded.server(tmp_path):
            pass
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match=r"ORDERSYNC_REDIS__URL.*ordermesh-sync\[embedded\]"):
        async with embedded.server(tmp_path):
            pass


async def test_a_program_that_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that the system refuses to run, and one that ends at once: exit 3 with the last words."""
    monkeypatch.setattr(launch, "binary", lambda: str(tmp_path / "none"))
    with pytest.raises(RedisUnavailable, match=r"cannot be started: .*No such file"):
        async with embedded.server(tmp_path):
            pass
    monkeypatch.undo()
    (embedded.folder(tmp_path) / "appendonlydir").write_text("in the way")
    with pytest.raises(RedisUnavailable, match=r"did not start: .*append.*Full log: "):
        async with embedded.server(tmp_path):
            pass
    assert embedded.find(tmp_path) is None


async def test_a_note_of_another_version_is_no_server(tmp_path: Path) -> None:
    """What cannot be read is passed over."""
    embedded.folder(tmp_path).mkdir()
    (embedded.folder(tmp_path) / "running.json").write_text(json.dumps({"url": 5}))
    assert embedded.find(tmp_path) is None
    async with embedded.server(tmp_path) as running:
        assert await say(running.url, "PING")
