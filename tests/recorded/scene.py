"""The scene: a small OrderMesh, a Redis, a daemon, one group that works and one that fails."""

from __future__ import annotations

import getpass
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import httpx

from tests.recorded.page import Example, cut, readable
from tests.support.commands import ordersync
from tests.support.programs import login_settings, program_env
from tests.support.servers import Server
from tests.support.waiting import PATIENCE
from tests.support.webhooks import webhook_receiver
from worker.cli import cli
from worker.sandbox import SandboxServer

_WORKER = re.compile(rf"{re.escape(socket.gethostname())}-\d+-[0-9a-f]{{4}}")
_NUMBERS = re.compile(r"\[\s+\d+(?:,\s+\d+)+\s+\]")
FAILING = "cat > /dev/null; echo no ribbon left >&2; exit 1"


class Scene:
    """Plays it in a folder, and records what commands print. `redis_url`: of a Redis of any kind; `more`: settings."""

    def __init__(self, folder: Path, redis_url: str, sandbox: SandboxServer, **more: str) -> None:
        self._folder, self._sandbox = folder, sandbox
        polled = '{"orders": 1, "shipments": 1, "notes": 1}'
        self._settings = login_settings(
            sandbox, redis_url, folder / "data", poll__intervals=polled, reconcile__lag="0", **more
        )
        self._began = datetime.now(UTC)
        self.examples: list[Example] = []
        self._names = {
            sandbox.url: "http://127.0.0.1:8080",
            redis_url: "redis://127.0.0.1:6379/0",
            str(folder): "/var/lib/ordersync",
            f"{getpass.getuser()}@{socket.gethostname()}": "ann@ops-1",
        }

    def play(self) -> list[Example]:
        """From settings that are looked at to a daemon that ends."""
        self._before_the_start()
        order = self._first_reads()
        with self._daemon():
            self._consumers()
            self._looking(order)
            self._proven()
            self._dead_letters_and_replay()
            self._resyncs(order)
            self._pausing()
            self._erasing(order)
        return self.examples

    # The parts of it

    def _before_the_start(self) -> None:
        self._show("completion bash", keep=8)
        self._show_running("sandbox --orders 100", "sandbox", "--orders", "100", "--port", "0")
        self._show("config show", keep=12)
        self._show("schema", keep=12)
        self._show("contract show", keep=12)
        document = httpx.get(f"{self._sandbox.url}/openapi.json", timeout=PATIENCE)
        (self._folder / "vendor.json").write_bytes(document.content)
        self._show("contract import vendor.json --output contract.toml", keep=12)
        self._show("doctor")
        self._show("contract probe orders", keep=17)
        self._accounts()

    def _accounts(self) -> None:
        """One that is kept in Redis, and is gone before the worker starts."""
        self._settings["secret_key"] = os.urandom(16).hex()
        (self._folder / "acme.secret").write_text("made-up\n")
        (self._folder / "acme.secret").chmod(0o600)
        self._show("accounts add acme --client-id 4711 --client-secret-file acme.secret")
        self._show("accounts disable acme --reason 'contract ended'")
        self._show("accounts list")
        self._show("accounts enable acme")
        self._show("accounts remove acme --yes")
        del self._settings["secret_key"]

    def _first_reads(self) -> str:
        """Everything, and then what has changed; the id of the order that did."""
        self._show("run --once")
        order = max(self._sandbox.store.truth())
        self._sandbox.store.change([order], status="Customer Care Hold")
        self._show("run --once --json", pretty="jq '.[0]'")
        self._show("tail orders -n 3 --no-follow")
        self._show("tail orders -n 1 --no-follow --json", pretty="jq", keep=24)
        return order

    def _consumers(self) -> None:
        self._show_program("consume --group warehouse orders --once -- wc -l")
        with webhook_receiver() as receiver:
            self._names[receiver.url] = "http://127.0.0.1:8088/events"
            self._show(f"forward --group shop --once --to {receiver.url}")
        line = "consume --group gifts notes --once --name gifts-1 --max-deliveries 1 -- sh -c"
        self._call(*shlex.split(line), FAILING)
        self._show("groups")
        self._show("groups create search orders --from 1h")
        self._show("groups show warehouse")

    def _looking(self, order: str) -> None:
        self._show("status")
        self._show("status --json", pretty="jq '.[0]'", keep=90)
        self._show("health")
        self._until(lambda: len(json.loads(self._call("runs", "orders", "--json").stdout)) >= 3)
        self._show("runs orders --limit 3")
        (run, *_) = json.loads(self._call("runs", "orders", "--json").stdout)
        self._show(f"runs show {run['run_id']}")
        self._show(f"timeline {order}", keep=30)

    def _proven(self) -> None:
        """The calendar, when the first pass over the orders has ended."""

        def is_proven() -> bool:
            (row,) = json.loads(self._call("coverage", "orders", "--json").stdout)
            return bool(row["complete_until"]) and not row["under_way"]

        self._until(is_proven)
        self._show("coverage orders --days 1")

    def _dead_letters_and_replay(self) -> None:
        letters = json.loads(self._call("dead", "list", "--json").stdout)
        self._show("dead list")
        self._show(f"dead show {letters[0]['id']}", keep=20)
        self._show(f"dead replay {letters[0]['id']}")
        self._show(f"dead drop {letters[1]['id']} --yes")
        self._show("replay --group warehouse orders --since 2h --dry-run")
        self._show("groups drop gifts --yes")
        self._call("groups", "drop", "search", "--yes")
        self._show("history")
        self._show_running("ui", "ui", "--port", "0")

    def _erasing(self, order: str) -> None:
        self._show(f"erase {order} --dry-run")
        self._show(f"erase {order} --yes")

    def _resyncs(self, order: str) -> None:
        self._show(f"resync orders --id {order} --force --dry-run")
        self._show(f"resync orders --id {order} --force --wait")
        self._call("pause", "orders", "--reason", "so that it waits")
        self._show("resync orders --all")
        resync = next(
            each
            for each in json.loads(self._call("resyncs", "--json").stdout)
            if each["what"] == "all records"
        )
        self._show(f"resyncs cancel {resync['id']}")
        self._show(f"resyncs resume {resync['id']}")
        self._call("resyncs", "cancel", resync["id"])
        self._show("resyncs")
        self._call("resume", "orders")

    def _pausing(self) -> None:
        self._show("pause orders --reason 'the vendor migrates until noon'")
        self._until(lambda: "migrates" in self._call("health").stdout)
        self._show("health")
        self._show("resume")

    # How commands are called

    def _show(self, line: str, *, keep: int = 40, pretty: str = "") -> None:
        """Record a command. `pretty`: the call of jq behind it, which is done here."""
        done = self._call(*shlex.split(line))
        out = done.stdout
        if pretty:
            value = json.loads(out)
            out = json.dumps(value[0] if "[0]" in pretty else value, indent=2, ensure_ascii=False)
            out = _NUMBERS.sub(lambda found: re.sub(r"\s+", " ", found[0]), out)
        said = out + (done.stderr if done.returncode else "")
        self._record(line + (f" | {pretty}" if pretty else ""), said, done.returncode, keep)

    def _show_program(self, line: str) -> None:
        """Record a command that starts another one."""
        done = self._call(*shlex.split(line))
        self._record(line, done.stdout, done.returncode, 40)

    def _show_running(self, line: str, *words: str) -> None:
        """Record what a program that runs on says first, to its first empty pause."""
        with self._running(*words) as program:
            self._until(lambda: bool(program.read_text()))
            time.sleep(0.2)
            said = program.read_text()
        self._names |= dict.fromkeys(re.findall(r"http://127\.0\.0\.1:\d+", said), "http://127.0.0.1:8080")
        self._record(line, said, 0, 40)

    @contextmanager
    def _daemon(self) -> Iterator[None]:
        """While it runs, everything is being read; what it says first is recorded."""

        def all_is_well() -> bool:
            rows = json.loads(self._call("status", "--json").stdout)
            return all(row["workers"] and row["health"] == "ok" for row in rows)

        with self._running("run") as program:
            self._until(all_is_well)
            self._record("run", program.read_text(), 0, 40)
            yield

    @contextmanager
    def _running(self, *words: str) -> Iterator[Path]:
        """A program that runs while the block does; the file that its words go to."""
        said = self._folder / f"said-{words[0]}"
        with said.open("wb") as out, (self._folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker.cli", *words],
                cwd=self._folder,
                env=program_env(**self._settings),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )
            try:
                yield said
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE)

    def _call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return ordersync(*words, cwd=self._folder, **self._settings)

    def _record(self, line: str, output: str, code: int, keep: int) -> None:
        command, path = cli_command(shlex.split(line))
        text = readable(_WORKER.sub("ops-1-4711-9c1e", output), self._began, self._names)
        shown = readable(line, self._began, self._names)
        self.examples.append(
            Example(path, command.get_short_help_str(200), f"ordersync {shown}", cut(text, keep), code)
        )

    def _until(self, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not check():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not within {PATIENCE:.0f} s: {(self._folder / 'log').read_text()[-2000:]}"
                )
            time.sleep(0.1)


def cli_command(words: list[str]) -> tuple[click.Command, str]:
    """The command that these words call, and its own words."""
    command: click.Command = cli
    path: list[str] = []
    for word in words:
        inner = (
            command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        )
        if inner is None:
            break
        command = inner
        path.append(word)
    if isinstance(command, click.Group) and "list" in command.list_commands(click.Context(command)):
        inner = command.get_command(click.Context(command), "list")
        assert inner is not None
        return inner, " ".join([*path, "list"])
    return command, " ".join(path)


def record(folder: Path) -> list[Example]:
    """Play the scene in an empty folder, with a server and a sandbox of its own."""
    (folder / "server").mkdir()
    server = Server(folder / "server")
    server.start()
    try:
        with SandboxServer(orders=6) as sandbox:
            return Scene(folder, server.url, sandbox).play()
    finally:
        server.stop(kill=True)
