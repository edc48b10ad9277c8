"""The Dockerfile: that it keeps what docs/operate/deploy.md promises of the image. `make image` runs its steps."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deployment.dockerfile import Stage, stages
from tests.support.paths import ROOT
from worker.config.settings import Settings
from worker.shipped import FOLDERS

DOCKERFILE = ROOT / "Dockerfile"
BUILD, IMAGE = stages(DOCKERFILE)


def test_hadolint_has_nothing_to_say() -> None:
    """All of its rules, none of them switched off."""
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run(
        [program, "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "hadolint ignore" not in DOCKERFILE.read_text()


def test_everything_that_is_installed_is_locked() -> None:
    """From an index only with hashes, and wheels only: no code of a package runs while it is installed."""
    installs = [
        command
        for step in (*BUILD.all("RUN"), *IMAGE.all("RUN"))
        for command in step.rest.split("&&")
        if re.search(r"\bpip\b.*\b(install|wheel)\b", command)
    ]
    assert len(installs) == 4
    for command in installs:
        locked = "--require-hashes" in command and "--only-binary :all:" in command
        assert locked or "--no-index" in command, command


def test_no_address_of_an_index_is_in_it() -> None:
    """Neither in the Dockerfile nor in a lock; whoever has an index of their own gives a secret at the build."""
    for name in (
        "Dockerfile",
        "requirements.lock",
        "requirements-build.lock",
        "requirements-dev.lock",
        "requirements-release.lock",
    ):
        assert not re.search(
            r"index-url|find-links|trusted-host|https?://\S*(simple|pypi)", (ROOT / name).read_text()
        )
    secret = BUILD.all("RUN")[1].flags["mount"]
    assert secret == "type=secret,id=pip_conf,target=/etc/pip.conf"


def test_the_lock_of_what_builds_is_that_of_the_tests() -> None:
    """Each version in requirements-build.lock is the one of requirements-dev.lock."""
    pinned = re.compile(r"^([a-z0-9-]+==\S+)", re.MULTILINE)
    build = set(pinned.findall((ROOT / "requirements-build.lock").read_text()))
    assert build
    assert build <= set(pinned.findall((ROOT / "requirements-dev.lock").read_text()))


def test_the_image_gets_the_environment_alone() -> None:
    """Nothing of what builds; the daemon's files belong to root, so the daemon cannot change them."""
    (copied,) = IMAGE.all("COPY")
    assert (copied.flags, copied.words) == ({"from": "build"}, ["/opt/ordersync", "/opt/ordersync"])
    assert (
        BUILD.base.replace("-", "-slim-") == IMAGE.base
    )  # the same Python of the same Debian, with a compiler
    assert not re.search(r":latest|:$", IMAGE.base)


def test_it_runs_as_nobody_in_particular() -> None:
    """A number, so that an engine can tell that it is not root; the last word on it stands before the entry point."""
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", IMAGE.one("USER").rest)
    names = [step.name for step in IMAGE.instructions]
    assert names.index("USER") > max(place for place, name in enumerate(names) if name in {"RUN", "COPY"})


def test_all_that_is_written_is_in_the_volume() -> None:
    """With that, the root file system may be read-only."""
    (volume,) = IMAGE.one("VOLUME").words
    settings = dict(word.split("=", 1) for step in IMAGE.all("ENV") for word in step.words)
    assert settings["ORDERSYNC_DATA_DIR"] == volume == IMAGE.one("WORKDIR").rest
    assert settings["PYTHONDONTWRITEBYTECODE"] == "1"


def test_signals_reach_the_daemon() -> None:
    """No shell between the engine and the program; the signal is the one that it ends in order for."""
    assert IMAGE.one("ENTRYPOINT").is_exec
    assert IMAGE.one("ENTRYPOINT").words + IMAGE.one("CMD").words == ["ordersync", "run"]
    assert IMAGE.one("CMD").is_exec
    assert IMAGE.one("STOPSIGNAL").rest == "SIGTERM"


def test_its_health_is_asked_of_the_daemon() -> None:
    """In the exec form; a single failure, or a slow start, is no illness."""
    check = IMAGE.one("HEALTHCHECK")
    assert check.rest == 'CMD ["ordersync", "health", "--live"]'
    assert set(check.flags) == {"interval", "timeout", "start-period", "retries"}


def test_only_what_is_copied_is_sent_to_the_builder() -> None:
    """.dockerignore names what may pass; secrets, tests and the environment stay where they are."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    passing = {line[1:] for line in rules if line.startswith("!")}
    copied = {name for step in BUILD.all("COPY") for name in step.words[:-1]}
    assert rules[0] == "*"
    assert {name.partition("/")[0] for name in passing} == copied
    assert {f"deploy/{folder}" for folder in FOLDERS} <= passing  # what the wheel contains
    assert all((ROOT / name).exists() for name in copied)


def test_it_needs_no_setting_but_the_login() -> None:
    """What the image sets are settings of the daemon, so a typo in them would end it."""
    names = {word.partition("=")[0] for step in IMAGE.all("ENV") for word in step.words}
    ours = {name.removeprefix("ORDERSYNC_").lower() for name in names if name.startswith("ORDERSYNC_")}
    assert ours <= set(Settings.model_fields)


def test_the_reader_of_these_tests_reads_as_an_engine_does(tmp_path: Path) -> None:
    """Comments within continued lines, flags, both forms, arguments in the name of a base."""
    text = (
        '# c\nARG V=1\nFROM a:${V} AS b\nRUN --mount=x,y=z one \\\n# c\n  && two\nCMD ["p", "q r"]\nFROM d\n'
    )
    (tmp_path / "Dockerfile").write_text(text)
    first, second = stages(tmp_path / "Dockerfile")
    assert (first.base, first.name, second) == ("a:1", "b", Stage("d", ""))
    run, command = first.instructions
    assert (run.flags, run.rest.split()) == ({"mount": "x,y=z"}, ["one", "&&", "two"])
    assert (command.is_exec, command.words) == (True, ["p", "q r"])
