"""The commands as installed: what they print, for people and for programs, and what they end with."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.commands import ordersync
from tests.support.programs import login_settings
from tests.support.servers import Server, free_port
from worker.cli import COMMANDS
from worker.sandbox import FaultRule, SandboxServer

pytestmark = pytest.mark.anyio

SECRET = "hunter2-hunter2"


@dataclass(frozen=True, slots=True)
class World:
    """A gateway with 20 orders, and two databases that hold their events: of one account, and of two."""

    sandbox: SandboxServer
    one: str
    two: str
    folder: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Filled by `run --once`, as people would."""
    folder = tmp_path_factory.mktemp("world")
    with tempfile.TemporaryDirectory() as data, SandboxServer(orders=20) as sandbox:
        server = Server(Path(data))
        server.start()
        try:
            one, two = server.url, server.url.removesuffix("0") + "1"
            settings = login_settings(sandbox, one, folder / "data")
            done = ordersync("run", "--once", cwd=folder, **settings)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("default/orders: complete: 20 records read, 20 events published")
            login = f'client_id = "{settings["api__client_id"]}"\nclient_secret_file = "secret"\n'
            (folder / "secret").write_text(settings.pop("api__client_secret"))
            (folder / "accounts.toml").write_text(
                f"[accounts.acme.api]\n{login}[accounts.globex.api]\n{login}"
            )
            settings |= {"redis__url": two, "accounts_file": "accounts.toml"}
            done = ordersync("run", "--once", "--json", cwd=folder, **settings)
            assert done.returncode == 0, done.stderr
            assert [summary["account"] for summary in json.loads(done.stdout)] == ["acme", "globex"]
            yield World(sandbox, one, two, folder)
        finally:
            server.stop(kill=True)


# --- version and help -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS), ("config", "show")])
def test_help_shows_examples(tmp_path: Path, words: tuple[str, ...]) -> None:
    """`--help` of every command ends with 0, even with bad settings; its examples stand a line each, ready to copy."""
    done = ordersync(*words, "--help", cwd=tmp_path, api__page_size="x")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\b" not in done.stdout
    examples = re.search(r"^ *Examples?\b.*:\n((?: +\S.*\n)+)", done.stdout, re.MULTILINE)
    assert examples is not None, done.stdout
    calls = [line.replace('", "', " ").replace('"', " ") for line in examples[1].splitlines()]
    assert [line for line in calls if " ".join(("ordersync", *words)) not in line] == []


# --- exit codes -------------------------------------------------------------------------------------------


def test_exit_1_is_a_failure(world: World, tmp_path: Path) -> None:
    """A gateway that is ill fails the read; no sign of life fails the health check: the reason is told."""
    with SandboxServer(orders=5, faults=(FaultRule("status", operation="orders.search", code=500),)) as ill:
        more = {"api__attempts": "1", "account": "ill"}
        settings = login_settings(ill, world.one.removesuffix("0") + "2", tmp_path, **more)
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
    assert done.returncode == 1
    assert done.stdout.startswith("ill/orders: failed: 0 records read")
    assert "500" in done.stderr.splitlines()[-1]
    done = ordersync("health", cwd=tmp_path, data_dir=str(tmp_path))
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "no worker has written a heartbeat. To start one: ordersync run\n"
    found = json.loads(ordersync("health", "--json", cwd=tmp_path, data_dir=str(tmp_path)).stdout)
    assert found == {"healthy": False, "problems": [done.stdout.strip()], "heartbeat": None}


@pytest.mark.parametrize(
    ("words", "settings", "told"),
    [
        (("nosuch",), {}, "No such command 'nosuch'"),
        (("run",), {}, "ORDERSYNC_API__CLIENT_ID"),
        (("run",), {"api__pagesize": "1"}, "Did you mean ORDERSYNC_API__PAGE_SIZE?"),
        (("status",), {"api__page_size": "x"}, "ORDERSYNC_API__PAGE_SIZE"),
        (("tail", "parcels"), {}, "Known resources: orders"),
        (("tail", "--from", "soon"), {}, "--from: 'soon' is neither a time"),
        (("tail", "-n", "-1"), {}, "-n"),
        (("tail", "orders", "extra"), {}, "extra"),
        (("sandbox", "--port", "99999"), {}, "--port"),
        (("sandbox", "--faults", "missing.toml"), {}, "--faults"),
    ],
)
def test_exit_2_is_wrong_use(
    tmp_path: Path, words: tuple[str, ...], settings: dict[str, str], told: str
) -> None:
    """Wrong words and settings are named on stderr; nothing on stdout, no traceback."""
    done = ordersync(*words, cwd=tmp_path, data_dir=str(tmp_path), **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_exit_3_is_not_reached(world: World, tmp_path: Path) -> None:
    """No worker, no Redis, no gateway, no such login: what cannot be reached is named, a password never."""
    for command in ("status", "tail"):
        done = ordersync(command, cwd=tmp_path, data_dir=str(tmp_path))
        assert (done.returncode, done.stdout) == (3, "")
        assert "ordersync run --sandbox" in done.stderr
        done = ordersync(command, cwd=tmp_path, redis__url=f"redis://:{SECRET}@127.0.0.1:{free_port()}/0")
        assert (done.returncode, done.stdout) == (3, "")
        assert "redis://:***@127.0.0.1" in done.stderr
        assert SECRET not in done.stderr
    unused = world.one.removesuffix("0") + "3"
    login = login_settings(world.sandbox, unused, tmp_path, api__attempts="1", account="other")
    away = f"http://127.0.0.1:{free_port()}"
    # A refused login does not become right by another try.
    for wrong, told, code in (
        ({"api__base_url": away}, away, 3), ({"api__client_secret": SECRET}, "401", 2)
    ):  # fmt: skip
        done = ordersync("run", "--once", cwd=tmp_path, **(login | wrong))
        assert (done.returncode, done.stdout) == (code, "")
        assert told in done.stderr
        assert SECRET not in done.stderr
        assert "Traceback" not in done.stderr
