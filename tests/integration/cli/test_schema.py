"""`ordersync schema`: what comes with the program can be printed, listed and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import ordersync
from tests.support.paths import ROOT
from worker import shipped


def test_the_list(tmp_path: Path) -> None:
    """A line for each file; its short name is unique, so that it can be given."""
    done = ordersync("schema", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert len(set(names)) == len(names)
    assert {"order.1", "asyncapi", "accounts", "redis.conf", "users.acl", "ordersync.service"} < set(names)
    in_folders = {
        path.relative_to(ROOT / "deploy").as_posix()
        for folder in shipped.FOLDERS
        for path in (ROOT / "deploy" / folder).iterdir()
    }
    assert in_folders < {line.split()[1] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("name", ["order.1", "order.1.json", "schemas/order.1.json"])
def test_one_is_printed(tmp_path: Path, name: str) -> None:
    """Byte for byte, by any of its names."""
    done = ordersync("schema", name, cwd=tmp_path)
    assert done.stdout == (ROOT / "deploy" / "schemas" / "order.1.json").read_text(), done.stderr
    assert json.loads(done.stdout)["$id"] == "urn:ordersync:order:1"


def test_all_are_written(tmp_path: Path) -> None:
    """Into a folder, with their folders; and one alone."""
    done = ordersync("schema", "--output", "all", cwd=tmp_path)
    assert len(done.stdout.splitlines()) == len(shipped.files()), done.stderr
    for file in shipped.files():
        assert (tmp_path / "all" / file.path).read_bytes() == file.source.read_bytes()
    ordersync("schema", "accounts", "--output", "one", cwd=tmp_path)
    assert [path.name for path in (tmp_path / "one").rglob("*.json")] == ["accounts.schema.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("acounts",), "Unknown schema or file 'acounts'. Did you mean accounts?"),
        (("../../etc/passwd",), "To list them: ordersync schema"),
        (("accounts", "--output", "/proc/none"), "cannot be written"),
    ],
)
def test_what_is_refused(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """With exit 2 and what to do."""
    done = ordersync("schema", *arguments, cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
