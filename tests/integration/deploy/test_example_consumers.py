"""The consumers of deploy/examples that use a Redis client alone: group, idle entries, effects once, dead letters."""

from __future__ import annotations

import asyncio
import atexit
import json
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import pytest

from ordersync_consumer.dead import DeadLetters
from tests.support.commands import ordersync
from tests.support.generators import LINE, npm_tools, ran
from tests.support.paths import ROOT
from tests.support.programs import Program, program_env, run_beside
from tests.support.tools import missing, program
from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio

EXAMPLES = ROOT / "deploy" / "examples"
STREAM = "ordersync:{default}:stream:orders"
LANGUAGES = ["python", "typescript", pytest.param("go", marks=pytest.mark.long)]
GO_PATH = Path("/usr/share/gocode")
"""Where Debian's packages of Go libraries are."""


@dataclass(frozen=True, slots=True)
class Example:
    """How to run one: its command, its option for milliseconds, and what its table contains."""

    command: tuple[str, ...]
    milliseconds: Callable[[int], str]
    long: str = "--"

    def words(self, *, claim_after: int, **options: str) -> tuple[str, ...]:
        """Return the command with options."""
        said = {"claim-after": self.milliseconds(claim_after), "max-deliveries": "2", **options}
        return (
            *self.command,
            *(word for name, value in said.items() for word in (f"{self.long}{name}", value)),
        )


def python(folder: Path, url: str) -> Example:
    """The plain one."""
    command = (sys.executable, "-W", "error", str(EXAMPLES / "plain.py"), url, str(folder / "orders.db"))
    return Example(command, lambda number: str(number / 1000))


@cache
def compiled() -> Path:
    """The folder with the example in TypeScript: its types are made from the schema of the lines, and it is strict."""
    modules, folder = npm_tools(), Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    (folder / "node_modules").symlink_to(modules, target_is_directory=True)
    for name in ("consumer.ts", "upsert.lua", "dead-letter.lua"):
        shutil.copy(EXAMPLES / name, folder)
    generator = modules / "json-schema-to-typescript/dist/src/cli.js"
    (folder / "line.ts").write_text(ran("node", generator, LINE, cwd=folder))
    strict = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck")
    ran("node", modules / "typescript/lib/tsc.js", *strict, "consumer.ts", cwd=folder)
    return folder


def typescript(_folder: Path, url: str) -> Example:
    """With types that are generated."""
    return Example(("node", str(compiled() / "consumer.js"), url), str)


def go(folder: Path, url: str) -> Example:
    """Built with the toolchain and the library that Debian has."""
    if not (GO_PATH / "src/github.com/gomodule/redigo").exists():
        missing("Debian's golang-github-gomodule-redigo-dev is not installed")
    for name in ("consumer.go", "upsert.lua", "dead-letter.lua"):
        shutil.copy(EXAMPLES / name, folder)
    where = {"GO111MODULE": "off", "GOPATH": str(GO_PATH), "GOCACHE": str(ROOT / ".cache" / "go")}
    ran(program("go"), "build", "-o", "consumer", ".", cwd=folder, seconds=100, **where)
    return Example((str(folder / "consumer"), "-url", url), lambda number: f"{number}ms", "-")


async def made(language: str, folder: Path, url: str) -> Example:
    """Make an example ready, without holding up the loop."""
    await anyio.Path(folder).mkdir()
    maker = {"python": python, "typescript": typescript, "go": go}[language]
    return await asyncio.to_thread(maker, folder, url)


async def table(language: str, b: Bench, folder: Path) -> dict[str, Any]:
    """What the example has written: records by their id."""
    if language == "python":
        with closing(sqlite3.connect(folder / "orders.db")) as connection:
            try:
                found = dict(connection.execute("SELECT id, record FROM orders").fetchall())
            except sqlite3.OperationalError:  # the example has just started
                return {}
        return {subject: json.loads(record) for subject, record in found.items()}
    rows = await b.redis.hgetall("warehouse:orders")
    return {subject.decode(): json.loads(row.partition(b" ")[2]) for subject, row in rows.items()}


async def pending(b: Bench) -> int:
    """How many events the group has taken and not acknowledged."""
    return int((await b.redis.xpending(STREAM, "warehouse"))["pending"])


@pytest.mark.parametrize("language", LANGUAGES)
async def test_an_example(bench: BenchMaker, redis_url: str, tmp_path: Path, language: str) -> None:
    """It takes over what another one left, and is killed; in the end the table is what OrderMesh has.

    An event that it fails at becomes a dead letter as the kit writes it, which can be replayed.
    """
    place = tmp_path / "example"
    example = await made(language, place, redis_url)
    with SandboxServer(orders=12) as few:
        async with bench(few) as b:
            await b.poll()
            bad = few.store.ids()[3]
            few.store.change(4, status="Shipped")
            few.store.change_silently(bad, status="Odd")
            await b.poll()
            await b.redis.xgroup_create(STREAM, "warehouse", id="0")
            await b.redis.xreadgroup("warehouse", "gone", {STREAM: ">"}, count=5)
            with Program(tmp_path, *example.words(claim_after=60_000, refuse="Odd")) as running:
                await eventually(lambda: partly_done(b))
                running.process.kill()
            first = await table(language, b, place)
            assert first
            once = ("--once",) if language != "go" else ("-once",)
            words = (*example.words(claim_after=300, refuse="Odd"), *once)
            done = await run_beside(*words, cwd=tmp_path, env=program_env())
            assert done.returncode == 0, done.stderr
            assert "failed, attempt 2: " in done.stderr
            truth = {subject: json.loads(record) for subject, record in few.store.truth().items()}
            newest = await table(language, b, place)
            assert {subject for subject in truth if newest.get(subject) != truth[subject]} == {bad}
            assert await pending(b) == 0
            (letter,) = [each async for each in DeadLetters(b.redis, b.account.keys).each("orders")]
            assert (letter.subject, letter.group, letter.attempts, letter.kind) == (
                bad,
                "warehouse",
                2,
                "delivery",
            )
            assert "status Odd is not wanted here" in letter.reason
            assert letter.event is not None
            assert letter.event.subject == bad
            assert ordersync("dead", "replay", "--all", cwd=tmp_path, redis__url=redis_url).returncode == 0
            done = await run_beside(*example.words(claim_after=1), *once, cwd=tmp_path, env=program_env())
            assert done.returncode == 0, done.stderr
            assert await table(language, b, place) == truth
            assert await pending(b) == 0


async def partly_done(b: Bench) -> bool:
    """Whether the group has read everything, and acknowledged some."""
    (group,) = await b.redis.xinfo_groups(STREAM)
    return bool(group["entries-read"] and group["pending"] < group["entries-read"])


@pytest.mark.parametrize("language", LANGUAGES)
async def test_redis_loses_everything(
    bench: BenchMaker, redis_url: str, tmp_path: Path, language: str
) -> None:
    """Each creates its group again, and handles what is published after the loss."""
    place = tmp_path / "example"
    example = await made(language, place, redis_url)
    with SandboxServer(orders=3) as few:
        async with bench(few) as b:
            await b.poll()

            async def is_current() -> bool:
                truth = {subject: json.loads(record) for subject, record in few.store.truth().items()}
                return await table(language, b, place) == truth

            with Program(tmp_path, *example.words(claim_after=60_000)):
                await eventually(is_current)
                await b.redis.flushall()
                few.store.change(2, note="after the loss")
                await b.poll()
                await eventually(is_current)
