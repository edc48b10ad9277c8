"""Every command in the documentation: it parses against the program, and what only looks is run."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import redis
from click.testing import CliRunner

from tests.support.commands import ordersync
from tests.support.documentation import WRITTEN, Line, codes, commands
from tests.support.paths import ROOT
from tests.support.servers import free_port
from tests.support.streams import KEYS, fields_of
from worker.cli import cli
from worker.keys import KeySpace

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
OTHERS = {
    *(
        "apt",
        "chmod",
        "curl",
        "datamodel-codegen",
        "docker",
        "helm",
        "kubectl",
        "git",
        "install",
        "journalctl",
        "jq",
        "node",
        "npm",
        "npx",
        "openssl",
        "pip",
        "printf",
        "python3",
    ),
    *("redis-cli", "systemctl", "twine"),
}
"""Programs of other projects: their lines cannot be checked here."""
FILES = ("vendor.json", "contract.toml", "orders.txt", "faults.toml")
"""Files that a documented command reads."""
LOOK = {
    *(
        "config show",
        "contract show",
        "coverage",
        "dead list",
        "groups",
        "resyncs",
        "runs list",
        "schema",
        "status",
    ),
    *("timeline", "replay", "completion"),
}
"""Commands that change nothing (`replay` with --dry-run) and end: their lines are run."""
_SET = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)


def parts_of(line: str) -> list[list[str]]:
    """Return the words of each command in a line of a shell, without redirections."""
    line = re.sub(r'^eval "\$\((.*)\)"$', r"\1", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;<>&")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    is_file = False
    for word in lexer:
        if set(word) <= set("|;&"):
            parts.append([])
        elif set(word) <= set("<>"):
            is_file = True
        elif is_file:
            is_file = False
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def programs() -> Iterator[tuple[Line, str, list[str]]]:
    """Yield each program that a documented line starts, with the line and the arguments."""
    for line in dict.fromkeys(commands()):
        for words in parts_of(line.text):
            program = list(itertools.dropwhile(_SET.fullmatch, words))
            if program and program[0] != "export":
                yield line, program[0], program[1:]


PROGRAMS = list(programs())
OURS = [(line, words) for line, name, words in PROGRAMS if Path(name).name == "ordersync"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that documented commands read."""
    for name in FILES:
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the commands that were parsed; none of them is executed."""
    paths: list[str] = []
    monkeypatch.setattr(click.Command, "invoke", lambda _, context: paths.append(context.command_path))
    return paths


def test_there_are_such_lines() -> None:
    """The documentation shows most of the commands, and every kind of line was found."""
    assert len({tuple(words) for _, words in OURS}) > 40
    assert {"make", "ordersync", "docker", "redis-cli"} <= {Path(name).name for _, name, _ in PROGRAMS}


@pytest.mark.parametrize(("line", "words"), OURS, ids=[f"{line.page}: {line.text}" for line, _ in OURS])
def test_a_line_parses(folder: Path, parsed: list[str], line: Line, words: list[str]) -> None:
    """Command, options and arguments are ones that the program has, with values that it takes."""
    done = CliRunner().invoke(cli, words, prog_name="ordersync")
    assert (done.exit_code, done.output if "--version" not in words else "") == (0, ""), line
    assert parsed or "--version" in words


def test_other_programs_are_known() -> None:
    """A line starts a target of the Makefile, a module, a file of the repository, or a program of the list."""
    wrong = []
    for line, name, words in PROGRAMS:
        program = Path(name).name
        if program == "make":
            known = {word for word in words if "=" not in word} <= TARGETS
        elif program.startswith("python") and "-m" in words:
            module = words[words.index("-m") + 1]
            known = module in {"venv", "pytest"} or importlib.util.find_spec(module) is not None
        else:
            known = program in OTHERS | {"ordersync"} or (ROOT / name).is_file()
        if not known:
            wrong.append(line)
    assert wrong == []


@pytest.mark.parametrize("page", WRITTEN)
def test_commands_in_the_text(page: str) -> None:
    """A command that is named within a sentence exists, with its options."""
    wrong = []
    for code in codes(page):
        words = code.split()
        if words[0] == "make" and not {word for word in words[1:] if "=" not in word} <= TARGETS:
            wrong.append(code)
        if words[:2] == ["python", "-m"] and importlib.util.find_spec(words[2]) is None:
            wrong.append(code)
        if words[0] == "ordersync" and not is_command(words[1:]):
            wrong.append(code)
    assert wrong == []


def is_command(words: list[str]) -> bool:
    """True if the words begin with a command, and each of its options exists. Arguments may be placeholders."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        inner = command.get_command(click.Context(command), words[0]) if words else None
        if inner is None:
            break
        command, words = inner, words[1:]
    if command is cli:
        return words[:1] in (["COMMAND"], ["--version"], [])
    options = {name for each in command.params for name in each.opts} | {"--help"}
    if isinstance(command, click.Group) and "list" in command.list_commands(click.Context(command)):
        listing = command.get_command(click.Context(command), "list")
        options |= {name for each in listing.params for name in each.opts} if listing else set()
    own = words[: words.index("--")] if "--" in words else words
    return {word for word in own if word.startswith("-")} <= options


# --- run -------------------------------------------------------------------------------------------------


@pytest.fixture
def busy(redis_url: str, folder: Path) -> dict[str, str]:
    """Settings of a worker whose Redis has an event and a group."""
    with redis.Redis.from_url(redis_url) as client:
        client.sadd(KeySpace().accounts, "default")
        client.xadd(KEYS.stream("orders"), fields_of(1))
        client.xgroup_create(KEYS.stream("orders"), "warehouse", id="0")
    return {
        "redis__url": redis_url,
        "data_dir": str(folder),
        "api__base_url": f"http://127.0.0.1:{free_port()}",
        "api__attempts": "1",
        "api__client_id": "c",
        "api__client_secret": "s",
    }


def looks(words: list[str]) -> bool:
    """True if a command only looks, and ends."""
    is_one = any(words[: len(name.split())] == name.split() for name in LOOK) or words[0] == "runs"
    return (
        is_one
        and not {"--watch", "cancel", "create", "drop", "resume"} & set(words)
        and (words[0] != "replay" or "--dry-run" in words)
    )


RUN = {" ".join(words): words for _, words in OURS if looks(words)}


@pytest.mark.parametrize("words", RUN.values(), ids=RUN)
def test_a_line_runs(busy: dict[str, str], folder: Path, words: list[str]) -> None:
    """It ends with 0, or with 1 where there is no such record here, without a traceback."""
    done = ordersync(*words, cwd=folder, **busy)
    assert done.returncode in ((0,) if words[0] != "timeline" else (0, 1)), done.stderr
    assert "Traceback" not in done.stderr
