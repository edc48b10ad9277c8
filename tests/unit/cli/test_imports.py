"""Commands that only look import what they need: the time of a command is the time of its imports."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

LOOKING = ("status", "runs", "coverage", "groups", "history", "dead", "tail", "pause", "timeline")
ENGINE = (
    *("aiohttp", "arq", "httpx", "httpx_aiohttp", "hypothesis", "jinja2", "jwt.api_jwk", "prometheus_client"),
    *("rich", "starlette", "uvicorn", "yaml", "worker.app", "worker.capture.poll", "worker.capture.state.store"),
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
    assert len([name for name in loaded if name.split(".")[0] == "worker"]) <= 147


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
        ("worker.cli.status", 555),
        ("worker.cli.timeline", 525),
        ("worker.cli.runs", 510),
        ("worker.cli.run.command", 880),
    ],
)
def test_the_number_of_modules_is_bounded(module: str, most: int) -> None:
    """`--help` imports neither Redis nor the settings, and a new import that costs time is noticed."""
    loaded = imported(module)
    assert len(loaded) <= most
    if module in ("worker.cli", "worker.cli.health"):
        assert loaded.isdisjoint({"redis", "pydantic", "structlog", "asyncio"})
