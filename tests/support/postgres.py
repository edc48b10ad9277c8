"""A PostgreSQL of the system in a folder of its own, reachable through a Unix socket alone."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.tools import missing
from tests.support.waiting import PATIENCE


def _programs() -> Path:
    """The folder of the newest server that is installed; the test ends without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    elsewhere = shutil.which("initdb")
    return (found[-1] if found else Path(elsewhere or missing("PostgreSQL is not installed"))).parent


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server until the end of the block. The value is how psycopg connects to its database `postgres`."""
    programs = _programs()
    root = os.getuid() == 0
    user = "nobody" if root else pwd.getpwuid(os.getuid()).pw_name  # the server refuses to run as root
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name:
        folder = Path(name)
        if root:
            shutil.chown(folder, user)

        def run(*command: str) -> None:
            subprocess.run(
                command,
                user=user if root else None,
                extra_groups=[] if root else None,
                cwd=folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                stdout=subprocess.DEVNULL,
                timeout=PATIENCE,
                check=True,
            )

        data, log = str(folder / "data"), str(folder / "log")
        run(
            str(programs / "initdb"),
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "--no-instructions",
        )
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        run(str(programs / "pg_ctl"), "-D", data, "-l", log, "-w", "-o", options, "start")
        try:
            yield f"host={folder} user=postgres dbname=postgres"
        finally:
            run(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
