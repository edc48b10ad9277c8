"""What `make install` leaves, apart from the packages."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import cache_from_source
from typing import TYPE_CHECKING

from tools.environments import ROOT

if TYPE_CHECKING:
    from pathlib import Path

LOCKED = ("requirements-dev.lock", "pyproject.toml", "hatch_build.py", "native/content.c", "native/xxh3.h")


def test_installed_modules_are_compiled(tmp_path: Path) -> None:
    """Also where Python writes no bytecode by itself; and again after a module has changed."""
    for name in (*LOCKED, "consumer/pyproject.toml", "worker/one.py", "consumer/ordersync_consumer/two.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / ".venv" / ".installed").touch()
    compiled = [
        tmp_path / cache_from_source(name) for name in ("worker/one.py", "consumer/ordersync_consumer/two.py")
    ]

    def install() -> list[bytes]:
        command = ["make", "--silent", "--file", str(ROOT / "Makefile"), "install"]
        subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, check=True)
        return [file.read_bytes() for file in compiled]

    first = install()
    (tmp_path / "worker" / "one.py").write_text("CHANGED = True\n")
    os.utime(tmp_path / ".venv" / ".compiled", (1_700_000_000, 1_700_000_000))
    second = install()
    assert b"CHANGED" in second[0]
    assert second[1] == first[1]
