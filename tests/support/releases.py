"""Programs of earlier revisions of this repository, each in an environment of its own with its own lock."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.node import installing
from tests.support.paths import ROOT

SECONDS = 900.0
"""Longest time until the packages of a revision are installed."""


class RevisionMissingError(Exception):
    """This clone does not have a revision."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"this clone does not have the revision {revision}. Type `git fetch --unshallow` where it is shallow "
            f"(`git rev-parse --is-shallow-repository`), or `git fetch origin {revision}` with all 40 digits."
        )


@dataclass(frozen=True, slots=True)
class Release:
    """A program that is installed.

    Attributes:
        revision: Its commit, abbreviated.
        subject: The subject of the commit.
        folder: The environment; `.cache/releases/COMMIT`, kept between runs.

    """

    revision: str
    subject: str
    folder: Path

    @property
    def command(self) -> str:
        """The path of its `ordersync`."""
        return str(self.folder / "bin" / "ordersync")


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout


def released(revision: str) -> Release:
    """Install the program of a revision, unless it is there.

    Raises:
        RevisionMissingError: The history does not reach back to it.

    """
    try:
        commit, short, subject = (
            _git("log", "-1", "--format=%H%n%h%n%s", revision, "--").decode().splitlines()
        )
    except (subprocess.CalledProcessError, ValueError):
        raise RevisionMissingError(revision) from None
    with installing(f"releases/{commit}") as place:
        folder, done = place / "venv", place / ".installed"
        if not done.exists():
            _install(commit, place / "source", folder)
            done.touch()
    return Release(short, subject, folder)


def _install(commit: str, source: Path, folder: Path) -> None:
    for each in (source, folder):
        shutil.rmtree(each, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(_git("archive", commit))) as archive:
        archive.extractall(source, filter="data")
    kit = source / "consumer"
    pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    packages = [str(each) for each in (kit, source) if each.exists()]
    for command in (
        (sys.executable, "-m", "venv", str(folder)),
        (*pip, "--require-hashes", "-r", "requirements.lock"),
        (*pip, "--no-deps", *packages),
    ):
        subprocess.run(command, cwd=source, timeout=SECONDS, check=True)
    shutil.rmtree(source)
