"""What the source distribution and the wheel contain. `make release` also installs and runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from hatch_build import MODULE, compiler
from tests.support.tools import missing
from worker.shipped import files

ROOT = Path(__file__).parents[3]


def files_below(*folders: str) -> set[str]:
    """The files that belong to the project."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".so"}
    }


def build(target: str, folder: Path, project: Path = ROOT, **environment: str) -> Path:
    """Build one of the two, as `make release` does."""
    return build_and_say(target, folder, project, **environment)[0]


def build_and_say(target: str, folder: Path, project: Path = ROOT, **environment: str) -> tuple[Path, str]:
    """As `build`, with what was said."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    done = subprocess.run(
        command, cwd=project, check=True, capture_output=True, text=True, env=os.environ | environment
    )
    (built,) = folder.iterdir()
    return built, done.stderr


def test_the_wheel_is_the_two_packages(tmp_path: Path) -> None:
    """Every file of worker and jobs, scripts in Lua and type markers included, and nothing else but the metadata."""
    with zipfile.ZipFile(build("wheel", tmp_path, ORDERSYNC_COMPILED="off")) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {"worker/py.typed", "worker/capture/lua/commit.lua"} < names
    shipped = {f"worker/shipped/{file.path}" for file in files()}
    assert {"worker/shipped/schemas/order.1.json", "worker/shipped/systemd/ordersync.service"} < shipped
    assert names == files_below("worker", "jobs") | shipped


def test_a_compiler_adds_the_reader(tmp_path: Path) -> None:
    """The wheel is then one of this platform, for every Python from 3.11 on."""
    if not compiler():
        missing("there is no C compiler")
    wheel = build("wheel", tmp_path)
    assert "-cp311-abi3-" in wheel.name
    with zipfile.ZipFile(wheel) as opened:
        assert [name for name in opened.namelist() if name.endswith(".so")] == [MODULE]


@pytest.mark.parametrize("compiler", ["/bin/false", "no-such-compiler", "'"])
def test_no_reader_is_no_failure(tmp_path: Path, compiler: str) -> None:
    """With a compiler that fails, or with none, the wheel is that of every machine, and one line says why."""
    wheel, said = build_and_say("wheel", tmp_path / "wheel", CC=compiler, PATH="/nowhere")
    assert wheel.name.endswith("-py3-none-any.whl")
    (line,) = [line for line in said.splitlines() if not line.endswith(wheel.name)]
    assert line.startswith("no compiled reader of content, so Python reads the records: ")


def test_the_source_distribution_can_be_tested(tmp_path: Path) -> None:
    """All that `make test` needs, and nothing that .gitignore names: no environment, no secret, no cache."""
    with tarfile.open(build("sdist", tmp_path)) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers()}
    needed = files_below("consumer", "worker", "jobs", "tests", "tools", "docs", ".ci", ".github")
    needed |= {"hatch_build.py", "native/content.c", "native/xxh3.h"}
    needed |= {"Makefile", "Dockerfile", "README.md", "LICENSE", "pyproject.toml", "deploy/README.md"}
    needed |= {path.name for path in ROOT.glob("requirements*.lock")}
    assert needed - names == set()
    ignored = (".venv/", ".git/", ".env", ".mypy_cache/", "dist/", "deploy/secrets/", "deploy/settings.env")
    assert [name for name in names if name.startswith(ignored) or "__pycache__" in name] == []


def test_the_wheel_of_the_kit(tmp_path: Path) -> None:
    """Every file of the consumer kit, and nothing of the worker."""
    with zipfile.ZipFile(build("wheel", tmp_path, ROOT / "consumer")) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {"ordersync_consumer/py.typed", "ordersync_consumer/lua/take.lua"} < names
    assert names == {name.removeprefix("consumer/") for name in files_below("consumer/ordersync_consumer")}


def test_both_distributions_have_one_version() -> None:
    """And the engine requires just that kit."""
    kit, engine = (
        tomllib.loads((project / "pyproject.toml").read_text())["project"]
        for project in (ROOT / "consumer", ROOT)
    )
    assert kit["version"] == engine["version"]
    assert f"ordersync-consumer=={engine['version']}" in engine["dependencies"]
    assert {re.split(r"[<>=]", name)[0] for name in kit["dependencies"]} == {"anyio", "msgspec", "redis"}
