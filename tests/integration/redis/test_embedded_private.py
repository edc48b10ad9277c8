"""The data folder of the embedded Valkey: one that another user may change is refused, with what to type."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import ordersync
from worker.errors import SettingsError
from worker.redis import embedded
from worker.redis.embedded import private

pytestmark = pytest.mark.anyio

STRANGER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


def give(path: Path) -> None:
    """Let another user own it."""
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


def writable_folder(data: Path) -> None:
    """Others may write into the data folder."""
    data.mkdir()
    data.chmod(0o777)


def writable_inner(data: Path) -> None:
    """Others may write into the folder of the server."""
    (data / "valkey").mkdir(parents=True)
    (data / "valkey").chmod(0o775)
    os.chown(data / "valkey", -1, STRANGER) if os.geteuid() == 0 else (data / "valkey").chmod(0o777)


def writable_parent(data: Path) -> None:
    """Others may replace the data folder, although they may not write into it."""
    data.mkdir(mode=0o700)
    data.parent.chmod(0o777)


def link_in_it(data: Path) -> None:
    """The file with the password leads to another file."""
    (data / "valkey").mkdir(parents=True, mode=0o700)
    (data / "valkey" / "password").symlink_to(data.parent / "victim")


def link_for_the_log(data: Path) -> None:
    """So does the log."""
    (data / "valkey").mkdir(parents=True, mode=0o700)
    (data / "valkey" / "valkey.log").symlink_to(data.parent / "victim")


def planted_folder(data: Path) -> None:
    """Another user has made the data folder."""
    data.mkdir(mode=0o755)
    give(data)


def planted_inner(data: Path) -> None:
    """Another user has made the folder of the server, closed as it should be."""
    (data / "valkey").mkdir(parents=True, mode=0o700)
    give(data / "valkey")


def planted_link(data: Path) -> None:
    """A link of another user leads to a folder of ours."""
    (data.parent / "ours").mkdir(mode=0o700)
    data.symlink_to(data.parent / "ours")
    give(data)


def planted_link_to_nowhere(data: Path) -> None:
    """Nothing may be created where a link of another user leads."""
    data.symlink_to(data.parent / "created")
    give(data)


def planted_file(data: Path) -> None:
    """A file of another user in a folder that was open once."""
    (data / "valkey" / "appendonlydir").mkdir(parents=True, mode=0o700)
    (data / "valkey" / "appendonlydir" / "x.aof").write_text("")
    give(data / "valkey" / "appendonlydir" / "x.aof")


def as_it_is(folder: Path) -> dict[Path, tuple[float, ...]]:
    """Return what tells a change of the files below a folder. Reading one may move its time of access."""
    found = {path: path.lstat() for path in folder.rglob("*")}
    return {
        path: (one.st_ino, one.st_mode, one.st_uid, one.st_gid, one.st_size, one.st_mtime_ns)
        for path, one in found.items()
    }


OPEN = [writable_folder, writable_inner, writable_parent, link_in_it, link_for_the_log]
PLANTED = [planted_folder, planted_inner, planted_link, planted_link_to_nowhere, planted_file]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder that does not exist, and a file that nobody may touch."""
    (tmp_path / "place").mkdir(mode=0o755)
    (tmp_path / "place" / "victim").write_text("untouched")
    return tmp_path / "place" / "data"


@pytest.mark.parametrize(
    "plant",
    [*OPEN, *(pytest.param(each, marks=as_root) for each in PLANTED)],
    ids=lambda each: each.__name__,
)
async def test_it_is_refused(data: Path, plant: Callable[[Path], None]) -> None:
    """With exit code 2, by `run`; what was there is not touched, and nothing is created."""
    plant(data)
    before = as_it_is(data.parent)
    with pytest.raises(SettingsError, match=r"^ORDERSYNC_DATA_DIR: ") as refused:
        async with embedded.server(data):
            pass
    assert re.search(r"chmod go-w |Move it away: mv |Run the command as the owner", str(refused.value))
    assert as_it_is(data.parent) == before
    assert (data.parent / "victim").read_text() == "untouched"


@pytest.mark.parametrize(
    "plant",
    [*OPEN[:3], *(pytest.param(each, marks=as_root) for each in PLANTED[:3])],
    ids=lambda each: each.__name__,
)
def test_commands_refuse_it_as_well(data: Path, plant: Callable[[Path], None], tmp_path: Path) -> None:
    """They would show, and hand to a program, what a stranger's server says."""
    plant(data)
    done = ordersync("tail", "orders", "--no-follow", cwd=tmp_path, data_dir=str(data))
    assert (done.returncode, done.stdout) == (2, "")
    assert "ORDERSYNC_DATA_DIR" in done.stderr


def test_what_it_says_helps(data: Path) -> None:
    """The command in the message, typed as it stands there, makes the folder usable."""
    writable_folder(data)
    with pytest.raises(SettingsError) as refused:
        private.make(data, "valkey")
    found = re.search(r"type: ([^,]+),", str(refused.value))
    assert found is not None
    subprocess.run(shlex.split(found[1]), check=True)
    private.make(data, "valkey")


@pytest.fixture
def usual(data: Path) -> Path:
    """A link of one's own to a folder that others may read, below one that everybody shares, like /tmp."""
    shared = data.parent / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "own").mkdir(mode=0o755)
    data.symlink_to("shared/../shared/own")
    return shared / "own"


async def test_usual_folders(data: Path, usual: Path) -> None:
    """Nobody but this user may change what is in it. The folder of the server is closed.

    The name of the test is short, since it is a part of the path of the socket.
    """
    async with embedded.server(data) as running:
        assert running.socket == usual / "valkey" / "valkey.sock"
        assert embedded.find(data) == running
    assert (usual / "valkey").stat().st_mode & 0o777 == 0o700


def test_a_group_of_one_is_no_other_user(tmp_path: Path) -> None:
    """Many systems give each user a group of his own, and let it write."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o775)
    try:
        private.check(tmp_path / "data", own=1)
    except SettingsError:
        assert not private._is_private((tmp_path / "data").stat().st_gid, os.geteuid())
    else:
        assert private._is_private((tmp_path / "data").stat().st_gid, os.geteuid())
    assert not private._is_private(99_999, os.geteuid())


def test_links_without_end(tmp_path: Path) -> None:
    """They end, with the setting and the reason."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(SettingsError, match=r"ORDERSYNC_DATA_DIR: .* Too many levels of symbolic links"):
        private.make(tmp_path / "a", "valkey")


def test_a_file_is_replaced_and_never_followed(tmp_path: Path) -> None:
    """A link where a file is written is replaced, even if it comes at the last moment; a link is not read."""
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "password").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic"):
        private.read(tmp_path / "password")
    private.write(tmp_path / "password", b"new")
    assert private.read(tmp_path / "password") == b"new"
    assert (tmp_path / "password").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "victim").read_text() == "untouched"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
