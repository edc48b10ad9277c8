"""The heartbeat file: who is alive, and how it goes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.support.commands import ordersync
from tests.support.paths import ROOT
from worker.service import heartbeat
from worker.service.heartbeat import Beat, ResourceBeat


def a_beat(at: float = 1000.0, pid: int | None = None, **more: object) -> Beat:
    return Beat(worker="w", pid=pid or os.getpid(), at=at, started=1.0, **more)  # type: ignore[arg-type] # fields of Beat


def a_dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_worker_that_is_alive() -> None:
    """What a restart would not mend is no matter of liveness; a heartbeat that is old, or missing, is."""
    beat = a_beat(resources=[ResourceBeat("a", "orders", "failing", "old")], problem="Redis does not answer")
    assert heartbeat.diagnose(beat, beat.at, live=True) == []
    assert heartbeat.diagnose(beat, beat.at + 16, live=True)
    assert heartbeat.diagnose(None, live=True)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Everything comes back; the folder is made, for its owner alone; nothing half-written is left."""
    beat = a_beat(resources=[ResourceBeat("a", "orders", "ok", fresh_as_of=5.0)], problem="p")
    heartbeat.write(tmp_path / "new", beat)
    assert heartbeat.newest(tmp_path / "new") == beat
    assert [file.name for file in heartbeat.folder(tmp_path / "new").iterdir()] == [f"{os.getpid()}.json"]
    assert heartbeat.folder(tmp_path / "new").stat().st_mode & 0o077 == 0


def test_each_worker_has_its_own_and_the_youngest_counts(tmp_path: Path) -> None:
    """A worker that ends takes away its own only (arq has one key for all, deleted by whoever exits)."""
    heartbeat.write(tmp_path, a_beat(at=1000.0))
    heartbeat.write(tmp_path, a_beat(at=2000.0, pid=1))
    newest = heartbeat.newest(tmp_path)
    assert newest is not None
    assert newest.pid == 1
    heartbeat.remove(tmp_path)
    assert [file.name for file in heartbeat.folder(tmp_path).iterdir()] == ["1.json"]
    heartbeat.remove(tmp_path)


def test_what_killed_workers_left_is_swept_out(tmp_path: Path) -> None:
    """Files of processes that are gone, and files of no process; never that of a living one."""
    heartbeat.write(tmp_path, a_beat())
    heartbeat.write(tmp_path, a_beat(pid=a_dead_pid()))
    (heartbeat.folder(tmp_path) / "x.json").write_text("{}")
    heartbeat.sweep_out(tmp_path)
    assert [file.name for file in heartbeat.folder(tmp_path).iterdir()] == [f"{os.getpid()}.json"]


def test_a_broken_file_is_passed_over(tmp_path: Path) -> None:
    """Half a file, or one of another version, is no heartbeat and no failure."""
    heartbeat.write(tmp_path, a_beat())
    (heartbeat.folder(tmp_path) / "9.json").write_bytes(b'{"worker": "w", "pid"')
    (heartbeat.folder(tmp_path) / "10.json").write_bytes(b"[]")
    assert heartbeat.newest(tmp_path) == a_beat()
    assert heartbeat.newest(tmp_path / "nowhere") is None


def test_a_planted_folder_is_not_believed(tmp_path: Path) -> None:
    """A folder that others may write, or a link, is neither read, written nor swept out, and `health` says why."""
    heartbeat.write(tmp_path / "own", a_beat(at=time.time()))
    theirs = heartbeat.folder(tmp_path / "own")
    (theirs / "settings.json").write_text("{}")
    (tmp_path / "link").mkdir()
    heartbeat.folder(tmp_path / "link").symlink_to(theirs)
    for data_dir in (tmp_path / "link", tmp_path / "own"):
        if data_dir.name == "own":
            theirs.chmod(0o777)
        with pytest.raises(OSError, match=r"Not a directory|every user may write it"):
            heartbeat.newest(data_dir)
        with pytest.raises(OSError, match=r"Not a directory|every user may write it"):
            heartbeat.write(data_dir, a_beat(at=1.0))
        heartbeat.sweep_out(data_dir)
        heartbeat.remove(data_dir)
        assert {file.name for file in theirs.iterdir()} == {f"{os.getpid()}.json", "settings.json"}
        done = ordersync("health", cwd=tmp_path, data_dir=str(data_dir))
        assert done.returncode == 1
        assert f"the heartbeat in {heartbeat.folder(data_dir)} is not read" in done.stdout
    theirs.chmod(0o700)
    assert heartbeat.diagnose(heartbeat.newest(tmp_path / "own")) == []


def test_a_dotenv_that_others_may_write_names_no_folder(tmp_path: Path) -> None:
    """`health` would believe the heartbeat there."""
    heartbeat.write(tmp_path / "data", a_beat(at=time.time()))
    (tmp_path / ".env").write_text(f"ORDERSYNC_DATA_DIR={tmp_path / 'data'}\n")
    words = (sys.executable, "-m", "worker.cli", "health")
    env = {name: value for name, value in os.environ.items() if not name.startswith("ORDERSYNC_")}
    env["PYTHONPATH"] = str(ROOT)
    for mode, code in ((0o644, 0), (0o646, 2)):
        (tmp_path / ".env").chmod(mode)
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    assert "every user may write it" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_file_of_another_user_is_not_believed(tmp_path: Path) -> None:
    """Root reads the folder of any user, and in it the files of its owner and of root alone."""
    heartbeat.write(tmp_path, a_beat(at=1000.0))
    place = heartbeat.folder(tmp_path)
    (place / "1.json").write_bytes(msgspec.json.encode(a_beat(at=2000.0)))
    os.chown(place / "1.json", 65534, 65534)
    assert heartbeat.newest(tmp_path) == a_beat(at=1000.0)
    os.chown(place, 65534, 65534)
    assert heartbeat.newest(tmp_path) == a_beat(at=2000.0)
    with pytest.raises(PermissionError, match="belongs to another user"):
        heartbeat.write(tmp_path, a_beat(at=3000.0))


def test_a_link_or_pipe_of_a_former_worker_is_not_followed(tmp_path: Path) -> None:
    """Neither when it is read nor in place of the file that is about to be written."""
    heartbeat.write(tmp_path, a_beat())
    place, other = heartbeat.folder(tmp_path), tmp_path / "other"
    other.write_bytes(msgspec.json.encode(a_beat(at=9000.0)))
    (place / "7.json").symlink_to(other)
    os.mkfifo(place / "8.json")
    (place / f".{os.getpid()}.new").symlink_to(other)
    assert heartbeat.newest(tmp_path) == a_beat()
    heartbeat.write(tmp_path, a_beat(at=1001.0))
    assert heartbeat.newest(tmp_path) == a_beat(at=1001.0)
    assert msgspec.json.decode(other.read_bytes(), type=Beat).at == 9000.0


@pytest.mark.parametrize(
    ("beat", "now", "words"),
    [
        (None, 1000, ["no worker has written a heartbeat"]),
        (a_beat(), 1000 + heartbeat.MAX_AGE, []),
        (a_beat(), 1016, ["worker w wrote its last heartbeat 16 s ago"]),
        (a_beat(problem="Redis cannot be reached"), 1000, ["Redis cannot be reached"]),
        (a_beat(resources=[ResourceBeat("a", "orders", "ok")]), 1000, []),
        (a_beat(resources=[ResourceBeat("a", "orders", "degraded", "slow")]), 1000, []),
        (a_beat(resources=[ResourceBeat("a", "orders", "failing", "old")]), 1000, ["a/orders: old"]),
    ],
)
def test_diagnosis(beat: Beat | None, now: float, words: list[str]) -> None:
    """Healthy is: alive within the last seconds, Redis there, and nothing published too late."""
    found = heartbeat.diagnose(beat, now)
    assert len(found) == len(words)
    assert all(sentence.startswith(start) for sentence, start in zip(found, words, strict=True))


@pytest.mark.parametrize(
    ("offset", "words"), [(3600.0, "3600 s ahead of"), (-60.0, "60 s behind"), (4.9, ""), (0.0, "")]
)
def test_health_tells_of_a_clock_that_is_off(tmp_path: Path, offset: float, words: str) -> None:
    """It is no reason for a restart."""
    heartbeat.write(tmp_path, a_beat(at=time.time(), clock_offset=offset))
    done = ordersync("health", cwd=tmp_path, data_dir=str(tmp_path))
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "healthy")
    assert (f"the clock of w is {words} that of Redis" in done.stdout) == bool(words)
