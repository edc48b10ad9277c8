"""What holds for every command: help with an example, exit codes, no colours off a terminal, completion."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import click
import pytest
import redis
from click.testing import CliRunner

from tests.support.commands import COMMANDS, LEAVES, ordersync
from tests.support.programs import program_env
from tests.support.servers import free_port
from tests.support.streams import KEYS, fields_of
from tests.support.waiting import PATIENCE
from worker.cli import cli
from worker.config.resources import RESOURCES
from worker.keys import KeySpace

RUNNER = CliRunner()
ORDERSYNC = Path(sys.executable).with_name("ordersync")


WITHOUT_JSON = {
    "run",
    "consume",
    "forward",
    "completion",
    "dead replay",
    "dead drop",
    "groups create",
    "groups drop",
    "contract import",
    "sandbox",
    "schema",
    "resyncs cancel",
    "resyncs resume",
    "ui",
    "accounts add",
    "accounts disable",
    "accounts enable",
    "accounts remove",
}
"""Those that print no data, or say what they have done. (`run --once` and `sandbox` have it for their first words.)"""
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "consume": ("--group", "g", "--", "cat"),
    "forward": ("--group", "g", "--to", "http://127.0.0.1:9/"),
    "accounts add": ("acme", "--client-id", "x", "--client-secret-file", __file__),
    "accounts disable": ("acme", "--reason", "x"),
    "accounts enable": ("acme",),
    "accounts remove": ("acme", "--yes"),
    "dead show": ("1-1",),
    "dead replay": ("1-1",),
    "dead drop": ("1-1", "--yes"),
    "groups create": ("g", "orders"),
    "groups drop": ("g", "--yes"),
    "groups show": ("g",),
    "replay": ("--group", "g", "--since", "1h"),
    "runs show": ("a",),
    "timeline": ("a",),
    "erase": ("a", "--offline"),
    "pause": ("--reason", "x"),
    "tail": ("--no-follow",),
    "run": ("--once",),
    "resync": ("orders", "--all"),
    "resyncs cancel": ("a",),
    "resyncs resume": ("a",),
}
"""What a command needs at least, to get as far as Redis."""
WITHOUT_REDIS = {
    "sandbox", "health", "config show", "schema", "contract show", "contract import", "completion", "doctor",
}  # fmt: skip
"""Those that need none. (`doctor` tells what is wrong with it, and that is its work.)"""


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_has_an_example(path: tuple[str, ...]) -> None:
    """Ready to copy: it begins with the command, and every option in it is one that the command has."""
    done = RUNNER.invoke(cli, [*path, "--help"], prog_name="ordersync")
    assert done.exit_code == 0
    assert "\\b" not in done.output
    _, _, examples = done.output.rpartition("Example")
    (first, *_) = [line for line in examples.splitlines() if "ordersync" in line]
    assert " ".join(("ordersync", *path)) in first.replace('", "', " ")
    assert all(len(line) <= 120 for line in done.output.splitlines())


def test_every_command_that_prints_data_has_json() -> None:
    """For machines; what has none is listed here, with why."""
    without = {
        " ".join(path)
        for path, command in COMMANDS.items()
        if not isinstance(command, click.Group)
        and not any("--json" in param.opts for param in command.params)
    }
    assert without <= WITHOUT_JSON


LOGIN = {"api__client_id": "client", "api__client_secret": "hunter2-hunter2"}


@pytest.mark.parametrize("path", LEAVES)
def test_wrong_use_is_exit_2(tmp_path: Path, path: str) -> None:
    """An option that there is none of: said on standard error, with nothing on standard output."""
    done = ordersync(*path.split(), "--nosuch", cwd=tmp_path, data_dir=str(tmp_path), **LOGIN)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--nosuch" in done.stderr


@pytest.mark.parametrize("path", [path for path in LEAVES if path not in WITHOUT_REDIS])
def test_a_redis_that_cannot_be_reached_is_exit_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Its address is named, its password never; nothing on standard output, and no trace."""
    monkeypatch.setattr("worker.cli.run.command.PATIENCE", 0.0)
    address = f"127.0.0.1:{free_port()}"
    away = {
        "api__base_url": f"http://127.0.0.1:{free_port()}",
        "redis__url": f"redis://:hunter2-hunter2@{address}/0",
    }
    words = (*path.split(), *ARGUMENTS.get(path, ()))
    done = ordersync(*words, cwd=tmp_path, data_dir=str(tmp_path), **LOGIN, **away)
    assert (done.returncode, done.stdout) == (3, "")
    assert address in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


# --- completion -------------------------------------------------------------------------------------


@pytest.fixture
def two_accounts(redis_url: str) -> str:
    """A Redis with two accounts, whose orders different groups read."""
    with redis.Redis.from_url(redis_url) as client:
        client.sadd(KeySpace().accounts, "default", "acme")
        client.xadd(KEYS.stream("orders"), fields_of(1))
        client.xgroup_create(KEYS.stream("orders"), "warehouse", id="0")
        client.xgroup_create(KEYS.stream("notes"), "billing", id="0", mkstream=True)
    return redis_url


def completed(shell: str, folder: Path, *words: str, **settings: str) -> list[str]:
    """What the program answers to a shell that asks what may be in place of the last word."""
    before, last = words[:-1], words[-1]
    asked = {"COMP_WORDS": " ".join(("ordersync", *before, last)), "COMP_CWORD": str(len(words))}
    if shell == "fish":
        asked["COMP_CWORD"] = last
    with patch.dict(os.environ, {**asked, "_ORDERSYNC_COMPLETE": f"{shell}_complete"}):
        done = ordersync(cwd=folder, **settings)
    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    if shell == "zsh":
        return lines[1::3]
    return [line.partition(",")[2].partition("\t")[0] for line in lines if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(two_accounts: str, tmp_path: Path, shell: str) -> None:
    """Commands, options, resources, accounts, and groups of the account of the settings."""

    def offers(*words: str, **settings: str) -> list[str]:
        return completed(shell, tmp_path, *words, redis__url=two_accounts, **settings)

    assert offers("pau") == ["pause"]
    assert offers("contract", "pr") == ["probe"]
    assert offers("pause", "orders", "order_i") == [name for name in RESOURCES if name.startswith("order_i")]
    assert offers("runs", "sho") == ["show"]
    assert offers("runs", "shipments") == ["shipments"]
    assert offers("runs", "orders", "--fai") == ["--failed"]
    assert offers("tail", "--account", "a") == ["acme"]
    assert offers("consume", "--group", "") == ["billing", "warehouse"]
    assert offers("groups", "drop", "w") == ["warehouse"]
    assert offers("groups", "drop", "w", account="acme") == []


def test_completion_never_fails(tmp_path: Path) -> None:
    """Without a Redis, without a worker, with bad settings: there is nothing to offer, and no word of why."""
    for settings in ({"redis__url": f"redis://127.0.0.1:{free_port()}"}, {"api__page_size": "x"}):
        assert completed("bash", tmp_path, "groups", "drop", "", data_dir=str(tmp_path), **settings) == []


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_completion_in_a_real_bash(tmp_path: Path) -> None:
    """What `ordersync completion bash` prints makes bash ask, and take the answer."""
    script = (
        'eval "$(ordersync completion bash)"; COMP_WORDS=(ordersync pause sh); COMP_CWORD=2; '
        '_ordersync_completion ordersync; echo "${COMPREPLY[@]}"'
    )
    env = program_env() | {"PATH": f"{ORDERSYNC.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "shipments" in done.stdout.split()
    assert done.returncode == 0


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_of_other_shells(shell: str) -> None:
    """It asks under the name that the program listens to."""
    done = RUNNER.invoke(cli, ["completion", shell])
    assert f"_ORDERSYNC_COMPLETE={shell}_complete" in done.output


def test_listing_commands_imports_none() -> None:
    """`ordersync <TAB>` answers as fast as `--help`."""
    script = (
        "import sys; from worker.cli import cli; import click\n"
        "names = [item.value for item in cli.shell_complete(click.Context(cli), '')]\n"
        "assert 'status' in names and not {'pydantic', 'redis', 'rich'} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_help_does_not_import_rich() -> None:
    """It would take a third of the time that help may."""
    script = (
        "import sys; from worker.cli import cli; cli(['--help'], standalone_mode=False)\n"
        "sys.exit('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0
