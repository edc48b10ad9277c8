"""Commands that only look import what they need: the time of a command is the time of its imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOOKING = ("status", "runs", "coverage", "groups", "history", "dead", "tail", "pause", "timeline")
ENGINE = (
    *("aiohttp", "arq", "httpx", "httpx_aiohttp", "hypothesis", "jinja2", "jwt.api_jwk", "prometheus_client"),
    *("rich", "starlette", "structlog", "uvicorn", "yaml", "worker.app", "worker.capture.poll"),
    *("worker.capture.state.commit", "worker.capture.state.store", "worker.telemetry.catalog"),
    *("worker.capture.probe.probe", "worker.capture.records.diff", "worker.capture.records.raw_records"),
    *("worker.capture.state.record_states", "worker.ordermesh.client", "worker.ordermesh.schemas", "worker.web"),
)  # fmt: skip
"""What polls, serves or draws, and what no command of these uses."""


NOT_IN_A_DAEMON = (
    *("colorama", "hypothesis", "jinja2", "jwt.api_jwk", "opentelemetry", "prometheus_client", "pygments", "rich"),
    *("starlette", "uvicorn", "yaml", "worker.capture.records.minimal", "worker.ordermesh.contract.file"),
    *("worker.ordermesh.schemas", "worker.sandbox", "worker.web"),
)  # fmt: skip
"""What no worker uses with the usual settings."""


def imported(*modules: str) -> set[str]:
    """Return the names of all modules that are there after these were imported, in a process of their own."""
    code = f"import importlib, json, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
    code += "print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_commands_that_look_do_without_the_engine() -> None:
    """They start in about half of the time that `doctor` or `run` takes."""
    loaded = imported(*(f"worker.cli.{name}" for name in LOOKING))
    assert sorted(loaded & set(ENGINE)) == []
    assert len([name for name in loaded if name.split(".")[0] == "worker"]) <= 137


def test_commands_that_look_create_no_dataclasses() -> None:
    """Python compiles the methods of each when it is created, which takes ten times as long as a struct of msgspec."""
    code = f"""
import dataclasses, importlib, sys
def is_own(name): return name.split(".")[0] in ("worker", "ordersync_consumer")
for name in {LOOKING!r}: importlib.import_module(f"worker.cli.{{name}}")
found = [value for name, each in sys.modules.items() if is_own(name) for value in vars(each).values()]
classes = [each for each in found if isinstance(each, type) and dataclasses.is_dataclass(each)]
print(*(each.__name__ for each in classes if is_own(each.__module__)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"Backoff", "DeadLetter"}


def test_plugins_of_pydantic_are_not_looked_for(tmp_path: Path) -> None:
    """Each distribution that is installed would be read for them, whenever a command starts."""
    (tmp_path / "plug.py").write_text("raise SystemExit('loaded')\n", encoding="utf-8")
    (tmp_path / "plug-1.dist-info").mkdir()
    (tmp_path / "plug-1.dist-info" / "METADATA").write_text("Name: plug\nVersion: 1\n", encoding="utf-8")
    (tmp_path / "plug-1.dist-info" / "entry_points.txt").write_text(
        "[pydantic]\nplug = plug:it\n", encoding="utf-8"
    )
    code = f"import sys; sys.path.append({str(tmp_path)!r}); import worker.config.settings"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_daemon_does_without_what_its_settings_do_not_need() -> None:
    """Each module stays in the memory of a worker that has nothing to do."""
    loaded = imported("worker.cli.run.command")
    assert sorted(loaded & set(NOT_IN_A_DAEMON)) == []


def test_a_command_is_imported_without_garbage_collection() -> None:
    """What is imported stays: a collector that looks at it takes time for nothing. Afterwards it works as usual."""
    code = "import click, gc\nfrom worker.cli import cli\nseen = []\ngc.callbacks.append(lambda *_: seen.append(1))\n"
    code += "cli.get_command(click.Context(cli), 'status')\nprint(len(seen), gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 True\n"


@pytest.mark.parametrize(
    ("module", "most"),
    [
        ("worker.cli", 150),
        ("worker.cli.health", 210),
        ("worker.cli.status", 516),
        ("worker.cli.timeline", 484),
        ("worker.cli.runs", 471),
        ("worker.cli.run.command", 872),
    ],
)
def test_the_number_of_modules_is_bounded(module: str, most: int) -> None:
    """`--help` imports neither Redis nor the settings, and a new import that costs time is noticed."""
    loaded = imported(module)
    assert len(loaded) <= most
    if module in ("worker.cli", "worker.cli.health"):
        assert loaded.isdisjoint({"redis", "pydantic", "structlog", "asyncio"})
