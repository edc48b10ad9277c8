"""The heartbeat file: who is alive, and how it goes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.service import heartbeat
from worker.service.heartbeat import Beat, ResourceBeat


def a_beat(at: float = 1000.0, pid: int | None = None, **more: object) -> Beat:
    return Beat(worker="w", pid=pid or os.getpid(), at=at, started=1.0, **more)  # type: ignore[arg-type] # fields of Beat


def a_dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Everything comes back; the folder is made, for its owner alone; nothing half-written is left."""
    beat = a_beat(resources=[ResourceBeat("a", "orders", "ok", "", 5.0)], problem="p")
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
