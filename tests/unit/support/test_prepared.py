"""A process that was prepared is as one that has imported the program itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.prepared import PreparedProcess, can_start
from tests.support.programs import ordersync_process, program_env
from tests.support.waiting import PATIENCE, wait_for


def imported(*words: str, cwd: Path, env: dict[str, str], **streams: Any) -> subprocess.Popen[bytes]:
    """Start a process that imports the program."""
    command = (sys.executable, "-m", "worker.cli", *words)
    return subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, **streams)


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("--version", {}),
        ("nosuch", {}),
        ("tail \udcff", {}),
        ("config show", {"api__client_secret": "hunter2-hunter2"}),
        ("status", {"redis__url": "redis://:hunter2-hunter2@127.0.0.1:1/0"}),
        ("health", {"data_dir": "."}),
    ],
)
def test_output_and_exit_code(tmp_path: Path, words: str, settings: dict[str, str]) -> None:
    """They say the same, and end the same."""
    env = program_env(**settings)
    prepared = ordersync_process(*words.split(), cwd=tmp_path, **settings)
    pipe = subprocess.PIPE
    other = imported(*words.split(), cwd=tmp_path, env=env, stdout=pipe, stderr=pipe)
    out, err = other.communicate(timeout=PATIENCE)
    assert (prepared.returncode, prepared.stdout.encode(), prepared.stderr.encode()) == (
        other.returncode,
        out,
        err,
    )
    assert out or err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_it_has_and_how_it_ends(tmp_path: Path, number: int) -> None:
    """Folder, environment and descriptors are its own, and a signal ends it as it ends the other one."""
    env, found = program_env(log__level="warning"), []
    for name, start in (("prepared", PreparedProcess), ("imported", imported)):
        out, err = tmp_path / f"{name}.out", tmp_path / f"{name}.err"
        with out.open("wb") as to, err.open("wb") as errors:
            words = ("sandbox", "--port", "0", "--orders", "1", "--json")
            process = start(*words, cwd=tmp_path, env=env, stdout=to, stderr=errors)
        wait_for(lambda out=out: out.read_text().endswith("\n"))  # type: ignore[misc] # a default is bound now
        descriptors = sorted(path.name for path in Path(f"/proc/{process.pid}/fd").iterdir())
        assert process.poll() is None
        process.send_signal(number)
        code = process.wait(PATIENCE)
        assert not psutil.pid_exists(process.pid)
        found.append((sorted(json.loads(out.read_text())), err.read_text(), descriptors, code))
    assert found[0] == found[1]


def test_what_only_another_process_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are read when the program runs; what counts while it is imported needs a process that imports it."""
    assert can_start(program_env(api__base_url="http://127.0.0.1:1"))
    assert not can_start(program_env() | {"LD_PRELOAD": "/nowhere"})
    assert not can_start(program_env(compiled="off"))
    monkeypatch.setenv("PYTHONPATH", os.devnull)
    assert not can_start(program_env())
