"""What the source distribution and the wheel contain. `make release` also installs and runs them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[3]


def files_below(*folders: str) -> set[str]:
    """The files that belong to the project."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def build(target: str, folder: Path) -> Path:
    """Build one of the two, as `make release` does."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


def test_the_wheel_is_the_two_packages(tmp_path: Path) -> None:
    """Every file of worker and jobs, scripts in Lua and type markers included, and nothing else but the metadata."""
    with zipfile.ZipFile(build("wheel", tmp_path)) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {"worker/py.typed", "worker/capture/lua/commit.lua"} < names
    assert names == files_below("worker", "jobs")


def test_the_source_distribution_can_be_tested(tmp_path: Path) -> None:
    """All that `make test` needs, and nothing that .gitignore names: no environment, no secret, no cache."""
    with tarfile.open(build("sdist", tmp_path)) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers()}
    needed = files_below("worker", "jobs", "tests", "tools", "docs", ".ci", ".github")
    needed |= {"Makefile", "Dockerfile", "README.md", "LICENSE", "pyproject.toml", "deploy/README.md"}
    needed |= {path.name for path in ROOT.glob("requirements*.lock")}
    assert needed - names == set()
    ignored = (".venv/", ".git/", ".env", ".mypy_cache/", "dist/", "deploy/secrets/", "deploy/settings.env")
    assert [name for name in names if name.startswith(ignored) or "__pycache__" in name] == []
