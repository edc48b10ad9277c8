"""The file that describes a running embedded server, which the worker writes and all commands read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from worker.errors import SettingsError
from worker.redis.connections import expect_peer
from worker.redis.embedded import private
from worker.redis.embedded.processes import Process, is_alive

INNER = "valkey"
_FILE = "running.json"


class Running(msgspec.Struct, frozen=True, omit_defaults=True):
    """An embedded server.

    `url`: the address, with the password of the worker if there is one. `process`: the server. `port`: the port of
    127.0.0.1 on which it listens too; 0 for none. `max_memory_bytes`: its limit. `ready`: it has answered. `shared`:
    another worker owns the server.
    """

    url: str
    process: Process
    port: int = 0
    max_memory_bytes: int = 0
    ready: bool = False
    shared: bool = False

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self.process.pid

    @property
    def socket(self) -> Path:
        """The Unix socket on which it listens."""
        return socket_of(self.url)


class Former(msgspec.Struct, frozen=True):
    """What older versions wrote down: a server that listens on a port of 127.0.0.1, without a password."""

    url: str
    pid: int


def socket_of(url: str) -> Path:
    """Return the path of the socket in an address."""
    return Path(unquote(urlsplit(url).path))


def folder(data_dir: Path) -> Path:
    """Return the folder with the data of the embedded server."""
    return data_dir / INNER


def password_file(data_dir: Path) -> Path:
    """Return the file with the password for programs that use the port."""
    return folder(data_dir) / "password"


def address_of(data_dir: Path, port: int | None) -> str:
    """Return the address of a port, and the file with its password, in words; "" without a port."""
    return f"redis://127.0.0.1:{port}/0, password in {password_file(data_dir)}" if port else ""


def find(data_dir: Path) -> Running | None:
    """Return the embedded server of a data folder from its file; None if there is none. The server may have ended.

    Every connection of this process to it is checked from now on.

    Raises:
        SettingsError: Another user could have written the file.

    """
    try:
        private.check(folder(data_dir), own=2)
    except OSError as error:
        raise SettingsError(
            f"ORDERSYNC_DATA_DIR: {error.filename or data_dir} cannot be used: {error.strerror}"
        ) from None
    found = read(folder(data_dir))
    if found is None or not found.ready:
        return None
    expect(found, folder(data_dir))
    return found


def read(directory: Path) -> Running | None:
    """Return what the file in the folder of the server says; None if it is missing or unreadable."""
    try:
        return msgspec.json.decode(private.read(directory / _FILE), type=Running)
    except (OSError, msgspec.DecodeError):
        return None


def read_former(directory: Path) -> Former | None:
    """Return what an older version wrote down; None if there is nothing."""
    try:
        return msgspec.json.decode(private.read(directory / _FILE), type=Former)
    except (OSError, msgspec.DecodeError):
        return None


def write(directory: Path, running: Running) -> None:
    """Write down the server."""
    private.write(directory / _FILE, msgspec.json.encode(running))


def remove(directory: Path) -> None:
    """Remove the file, and the password with it: the server ends."""
    for name in (_FILE, "password"):
        (directory / name).unlink(missing_ok=True)


def expect(running: Running, directory: Path) -> None:
    """Let this process talk to nothing else at the socket than to the server that is written down at that moment."""
    expect_peer(str(running.socket), partial(_objection, directory))


def _objection(directory: Path, pid: int) -> str:
    """Return why the process behind the socket is not the server; "" if it is."""
    found = read(directory)
    if found is None:
        return f"process {pid} answers there, and no embedded Valkey is written down in {directory}"
    if pid != found.pid:
        return f"process {pid} answers there, and the embedded Valkey was process {found.pid}"
    if not is_alive(found.process):
        return f"process {pid} answers there, which is not the program that the worker has started"
    return ""
