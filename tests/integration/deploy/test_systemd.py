"""deploy/systemd: the unit is one that systemd understands, is as closed as it says, and lets the daemon work."""

from __future__ import annotations

import ctypes.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deployment.deployed import DEPLOY, make_secrets
from tests.support.programs import Program, program_env
from worker.config.settings import Settings, secret_names
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, SandboxServer
from worker.service import daemon, watchdog

pytestmark = pytest.mark.anyio

UNIT = DEPLOY / "systemd" / "ordersync.service"
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not on PATH")

OTHERS = {"ORDERSYNC_FORWARD__SECRET"}
"""The secret settings of programs beside the daemon."""

CONFINED = """
import ctypes, errno, json, os, sys
names, words = json.loads(sys.argv[1]), sys.argv[2:]
libc, lib = ctypes.CDLL(None), ctypes.CDLL("libseccomp.so.2")
libc.prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE, from Linux 6.3 on: MemoryDenyWriteExecute=
lib.seccomp_init.restype = ctypes.c_void_p
filter = ctypes.c_void_p(lib.seccomp_init(0x00050000 | errno.EPERM))
for name in names:
    number = lib.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        lib.seccomp_rule_add_array(filter, 0x7FFF0000, number, 0, None)
assert lib.seccomp_load(filter) == 0
try:
    os.setpriority(os.PRIO_PROCESS, 0, 1)
except PermissionError:
    print("confined", flush=True)
os.execv(words[0], words)
"""
"""Gives itself the system calls of the unit alone, and becomes another program."""


def directives(name: str) -> list[str]:
    """The values of a directive, in order."""
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with the daemon of the tests in place of the one that is installed."""
    copy = tmp_path / UNIT.name
    copy.write_text(
        UNIT.read_text().replace(
            "/opt/ordersync/bin/ordersync", str(Path(sys.executable).parent / "ordersync")
        )
    )
    return copy


@needs_systemd
def test_systemd_understands_it(unit: Path) -> None:
    """No unknown directive, no value that would be ignored."""
    done = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    assert (done.returncode, said) == (0, [])


@needs_systemd
def test_it_is_closed(unit: Path) -> None:
    """Exposure by systemd's own measure, 0 to 10: at most 1.5. A service without any of it has 9.6."""
    done = subprocess.run(
        [str(ANALYZE), "security", "--offline=true", "--threshold=15", "--no-pager", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd is older than 250")
    assert done.returncode == 0, done.stdout


def test_its_times_fit_those_of_the_daemon() -> None:
    """Our watchdog, which says what stands still, comes first; the end may take the grace time and the closing."""
    assert directives("Type") == ["notify"]
    assert directives("ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert int(directives("WatchdogSec")[0]) >= watchdog.HANG_SECONDS * 1.25
    grace = Settings.model_fields["grace_seconds"].default
    assert int(directives("TimeoutStopSec")[0]) >= grace + daemon.CLOSING_SECONDS
    assert directives("TimeoutStartSec") == ["infinity"]  # READY comes with Redis
    assert directives("KillMode") == ["mixed"]  # the embedded server must outlive the last commit
    assert directives("RestartPreventExitStatus") == ["2"]  # wrong settings


def test_secrets_come_as_credentials_alone(tmp_path: Path) -> None:
    """Each is a file named like its setting, of those that make-secrets makes or asks for; none in the environment."""
    loaded = dict(value.split(":", 1) for value in directives("LoadCredential"))
    make_secrets(tmp_path / "made", "--sandbox")
    assert set(loaded) == {file.name for file in (tmp_path / "made" / "worker").iterdir()}
    assert secret_names() - OTHERS <= set(loaded)
    assert all(path == f"/etc/ordersync/secrets/worker/{name}" for name, path in loaded.items())
    assert "ORDERSYNC_SECRETS_DIR=%d" in directives("Environment")
    assert not [line for line in directives("Environment") if re.match("ORDERSYNC_(REDIS|API)", line)]
    secrets = tmp_path / "made" / "worker"
    for name, text in {
        "REDIS__URL": "redis://worker:secret-word@localhost/0",
        "API__CLIENT_ID": "given",
    }.items():
        (secrets / f"ORDERSYNC_{name}").unlink()
        (secrets / f"ORDERSYNC_{name}").write_text(f"{text}\n")
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli", "config", "show", "--json"],
        cwd=tmp_path, env=program_env(secrets_dir=str(secrets)), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["api"]["client_id"] == "given"
    assert "secret-word" not in done.stdout


def permitted() -> list[str]:
    """The system calls that the unit permits, as this systemd knows its groups."""
    told = subprocess.run(
        [str(ANALYZE), "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True
    )
    groups: dict[str, list[str]] = {}
    for line in told.stdout.splitlines():
        if line.startswith("@"):
            members = groups.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.strip().startswith("#") and groups:
            members.append(line.strip())

    def expand(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        return set().union(*(expand(member) for member in groups[name]))

    allowed, *denied = directives("SystemCallFilter")
    found = set().union(*(expand(name) for name in allowed.split()))
    for value in denied:
        assert value.startswith("~")
        found -= set().union(*(expand(name) for name in value[1:].split()))
    return sorted(found)


@needs_systemd
@pytest.mark.skipif(not ctypes.util.find_library("seccomp"), reason="libseccomp is not installed")
async def test_the_daemon_works_with_the_system_calls_that_it_permits(
    sandbox: SandboxServer, tmp_path: Path
) -> None:
    """The daemon and the embedded server, on nothing but those calls, without memory that is written and run."""
    ordersync = str(Path(sys.executable).parent / "ordersync")
    command = (sys.executable, "-c", CONFINED, json.dumps(permitted()), ordersync, "run")
    login = {"api__client_id": CLIENT_ID, "api__client_secret": CLIENT_SECRET, "api__base_url": sandbox.url}
    data = str(tmp_path / "data")
    with Program(tmp_path, *command, data_dir=data, log__format="json", **login) as program:
        await program.logged("poll_done")
        assert program.out.startswith("confined")
        assert program.logs("embedded_server_started")
        program.process.terminate()
        assert await program.ended() == 0
        assert not [line for line in program.logs() if line["level"] in {"error", "critical"}]
