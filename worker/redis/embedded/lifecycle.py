"""The life of the embedded server: started or taken over, kept running, ended with its owner."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from worker.cancellation import end
from worker.config.sections import EmbeddedSettings
from worker.config.urls import hide_password
from worker.errors import RedisUnavailable, SettingsError
from worker.redis.embedded import launch, private, record
from worker.redis.embedded.processes import Process, is_alive, look, send, works_in
from worker.redis.embedded.record import Running
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


_STOP_SECONDS = 4.0
_CHECK_SECONDS, _RETRY_SECONDS = 0.5, 5.0


@asynccontextmanager
async def server(data_dir: Path, settings: EmbeddedSettings | None = None) -> AsyncIterator[Running]:
    """Provide an embedded server while the block runs; it is restarted if it dies.

    The server is started, or taken over from a worker that was killed. A server that a live worker owns is shared, and
    left running at the end.

    Args:
        data_dir: The data folder.
        settings: The settings of the server.

    Raises:
        SettingsError: The data folder cannot be used, or the program is not installed.
        RedisUnavailable: The server does not start; the message contains the last lines of its log.

    """
    settings = settings or EmbeddedSettings()
    directory = private.make(data_dir, record.INNER)
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield await _shared(data_dir)
            return
        owned = await _take_over(directory, settings) or await _start(directory, settings)
        keeper = asyncio.ensure_future(_keep_running(owned, directory, settings))
        try:
            yield owned.running
        finally:
            with anyio.CancelScope(shield=True):
                await end(keeper)
                await _stop(owned, directory)
    finally:
        os.close(lock)


class _Owned(msgspec.Struct):
    """A server that this worker stops; `child` is None if it was taken over."""

    child: subprocess.Popen[bytes] | None
    running: Running
    inode: int
    """That of its socket: another one in its place is not the server's."""

    @property
    def ended(self) -> bool:
        if self.child is not None:
            return self.child.poll() is not None
        return not is_alive(self.running.process)

    @property
    def reachable(self) -> bool:
        return _inode(self.running) == self.inode


def _inode(running: Running) -> int:
    try:
        return running.socket.lstat().st_ino
    except OSError:
        return 0


async def _start(directory: Path, settings: EmbeddedSettings) -> _Owned:
    url = launch.choose_address(directory, settings)
    try:
        started = await launch.start(directory, url, settings)
    except BaseException:
        record.remove(directory)
        launch.discard_socket(record.socket_of(url), directory)
        raise
    _log("embedded_server_started", started.running)
    return _Owned(started.process, started.running, _inode(started.running))


async def _take_over(directory: Path, settings: EmbeddedSettings) -> _Owned | None:
    """Return the server of a worker that was killed; None if there is none. One with other settings is ended first."""
    found = record.read(directory)
    if found is None:
        await _end_former(directory)
        return None
    same = (found.port, found.max_memory_bytes) == (settings.port or 0, settings.max_memory_bytes)
    if is_alive(found.process):
        owned = _Owned(None, found, _inode(found))
        if same and found.ready and owned.reachable:
            record.expect(found, directory)
            _log("embedded_server_taken_over", found)
            return owned
        await _stop(owned, directory)
    record.remove(directory)
    launch.discard_socket(found.socket, directory)
    return None


async def _end_former(directory: Path) -> None:
    """End a server of an older version: only one whose program and working folder say that it is this folder's.

    Two servers would write one append-only file.
    """
    former = record.read_former(directory)
    if former is None:
        return
    process = look(former.pid)
    if process is not None and works_in(former.pid, directory) and _is_valkey(process):
        await _end(process, lambda: not is_alive(process))
    record.remove(directory)


def _is_valkey(process: Process) -> bool:
    return Path(process.program).name == Path(launch.binary()).name


async def _keep_running(owned: _Owned, directory: Path, settings: EmbeddedSettings) -> None:
    """Restart the server at the same address when it has died; acknowledged writes are in its append-only file."""
    while True:
        await asyncio.sleep(_CHECK_SECONDS)
        if owned.ended or not owned.reachable:
            get_logger().error(
                "embedded_server_died" if owned.ended else "embedded_socket_lost",
                pid=owned.running.pid,
                advice="The worker starts it again. If this repeats, check the memory and disk of this machine."
                if owned.ended
                else f"The worker starts the server again. If this repeats, find out who removes files in "
                f"{owned.running.socket.parent}.",
            )
            try:
                if not owned.ended:
                    await _end(owned.running.process, lambda: owned.ended)
                started = await launch.start(directory, owned.running.url, settings, again=True)
            except (RedisUnavailable, SettingsError, OSError) as error:
                get_logger().error("embedded_server_not_started", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                owned.child, owned.running = started.process, started.running
                owned.inode = _inode(owned.running)
                _log("embedded_server_started", owned.running)


async def _shared(data_dir: Path) -> Running:
    """Return the server that another worker owns, after waiting until it has started."""
    for _ in range(100):
        running = record.find(data_dir)
        if running is not None and is_alive(running.process):
            return msgspec.structs.replace(running, shared=True)
        await asyncio.sleep(0.1)
    raise RedisUnavailable(f"another worker uses {data_dir}, but its embedded server does not answer")


async def _stop(owned: _Owned, directory: Path) -> None:
    await _end(owned.running.process, lambda: owned.ended)
    record.remove(directory)
    launch.discard_socket(owned.running.socket, directory)


async def _end(process: Process, ended: Callable[[], bool]) -> None:
    """End a server: it writes its append-only file to disk first, and is killed only if it does not end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if number is signal.SIGKILL:
            get_logger().warning("embedded_server_killed", pid=process.pid, waited_s=_STOP_SECONDS)
        send(process, number)
        for _ in range(int(_STOP_SECONDS / 0.02)):
            if ended():
                return
            await asyncio.sleep(0.02)


def _log(event: str, running: Running) -> None:
    get_logger().info(event, url=hide_password(running.url), pid=running.pid)
