"""The first thing that people type: `ordersync run --sandbox`, and the commands it names, as installed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import httpx
import psutil
import pytest
from redis.asyncio import Redis

from ordersync_consumer.envelope import FIELDS
from tests.recorded.page import shape
from tests.support.commands import ordersync
from tests.support.documentation import blocks
from tests.support.programs import Program, program_env, run_beside
from tests.support.waiting import PATIENCE, eventually
from worker.cli.common import sandbox
from worker.cli.run.monitoring import USUAL_PORT
from worker.redis import embedded

pytestmark = pytest.mark.anyio

ORDERSYNC = str(Path(sys.executable).with_name("ordersync"))
STREAM = "ordersync:{sandbox}:stream:orders"
IN_A_GROUP = "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""As a shell starts a command: Ctrl-C goes to all processes of its group."""


@pytest.fixture
def cheap_scrypt() -> None:
    """The commands in this process share the token of the daemon, and so derive its key as the daemon does."""


@contextmanager
def started(folder: Path, **settings: str) -> Iterator[Program]:
    """`ordersync run --sandbox` with a data folder of its own."""
    command = (sys.executable, "-c", IN_A_GROUP, ORDERSYNC, "run", "--sandbox", "--orders", "300")
    with Program(folder, *command, data_dir=str(folder / "data"), **settings) as program:
        yield program


@contextmanager
def nothing_left(processes: list[psutil.Process]) -> Iterator[None]:
    """Those that are meant to end within the block are gone after it, whatever happened."""
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a daemon that has read its orders and goes on. Another program has the usual port of the page."""
    folder = tmp_path_factory.mktemp("at-work")
    with taken(USUAL_PORT), started(folder) as program:
        asyncio.run(first_scan(program))
        asyncio.run(eventually(lambda: events_of_all_kinds(folder)))
        yield folder


@contextmanager
def taken(port: int) -> Iterator[None]:
    """A port of loopback that another program has, this one if no other."""
    with socket.socket() as other:
        with contextlib.suppress(OSError):
            other.bind(("127.0.0.1", port))
            other.listen()
        yield


async def typed(folder: Path, *words: str) -> CompletedProcess[str]:
    """A command in a second terminal, as installed."""
    return await run_beside(*words, cwd=folder, env=program_env(data_dir=str(folder / "data")))


def command(folder: Path, *words: str) -> CompletedProcess[str]:
    """A command in a second terminal; its start as a process is not what the test is about."""
    return ordersync(*words, cwd=folder, data_dir=str(folder / "data"))


async def first_scan(program: Program) -> dict[str, Any]:
    """Wait until the orders are complete, and return how that went: the orders change, so it may take two scans."""

    def ended() -> list[dict[str, Any]]:
        return [line for line in program.logs("poll_done") if line["resource"] == "orders"]

    def is_complete() -> bool:
        return any((line["outcome"], line["covered"]) == ("complete", "all") for line in ended())

    await eventually(lambda: is_complete() or program.process.poll() is not None)
    assert is_complete()
    return {"outcome": "complete", "snapshot": sum(line["snapshot"] for line in ended())}


async def events(folder: Path) -> int:
    """How many events stand in the embedded server; 0 before it runs."""
    running = embedded.find(folder / "data")
    if running is None:
        return 0
    async with Redis.from_url(running.url) as client:
        return int(await client.xlen(STREAM))


async def events_of_all_kinds(folder: Path) -> bool:
    """Whether the embedded server has events of orders, shipments and the audit logs of both."""
    running = embedded.find(folder / "data")
    if running is None:
        return False
    async with Redis.from_url(running.url) as client:
        return len([key async for key in client.scan_iter("*}:stream:*")]) == 4


def printed(folder: Path) -> str:
    """Return what `run --sandbox` has printed."""
    (text,) = [text for path in folder.glob("out-*") if "In a second terminal" in (text := path.read_text())]
    return text


async def gone(processes: list[psutil.Process]) -> None:
    """All of them end."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, PATIENCE)
    assert alive == []


async def ends_in_order(program: Program, family: list[psutil.Process], number: signal.Signals) -> None:
    """A signal ends all, with exit 0 and no job cut short."""
    with nothing_left(family):
        os.killpg(program.process.pid, number)  # to the whole group, as a terminal does
        assert await program.ended() == 0
        await gone(family)
    assert "Traceback" not in program.err
    assert {line["level"] for line in program.logs()} == {"info"}


async def test_three_lives_in_a_folder(tmp_path: Path) -> None:
    """Events come at once. Ctrl-C and SIGTERM end all in order, and then the folder serves a new start.

    The sandbox of a daemon killed by SIGKILL ends by itself; the next run takes over the Valkey and works.
    """
    data = tmp_path / "data"
    with started(tmp_path) as first:
        await eventually(lambda: events(tmp_path))
        done = await first_scan(first)
        assert (done["outcome"], done["snapshot"] >= 300) == ("complete", True)
        running = embedded.find(data)
        family = first.children()
        assert running is not None
        assert len(family) == 2
        assert running.pid in {process.pid for process in family}
        # Both are out of the reach of Ctrl-C: the daemon ends them when the last page is committed.
        assert first.process.pid not in {os.getpgid(process.pid) for process in family}
        await ends_in_order(first, family, signal.SIGINT)
        assert first.logs("embedded_server_taken_over") == []
        assert embedded.find(data) is None

    with started(tmp_path) as second:
        await eventually(lambda: events(tmp_path))
        done = await first_scan(second)
        # Also of the second sandbox: it starts from nothing.
        assert (done["outcome"], done["snapshot"] >= 300) == ("complete", True)
        assert second.logs("embedded_server_taken_over") == []
        assert sandbox.find(data) is not None
        running = embedded.find(data)
        assert running is not None
        family = second.children()
        others = [process for process in family if process.pid != running.pid]
        assert len(others) == 1
        with nothing_left(family):
            second.process.kill()
            assert await second.ended() == -signal.SIGKILL
            await gone(others)
            valkey = psutil.Process(running.pid)
            assert valkey.is_running()
            with started(tmp_path) as third:
                assert (await third.logged("embedded_server_taken_over"))["pid"] == running.pid
                # The orders of the new sandbox are new ones: all of them are published.
                assert (await first_scan(third))["snapshot"] >= 300
                shown = command(tmp_path, "tail", "--no-follow", "-n", "1")
                assert (shown.returncode, len(shown.stdout.splitlines())) == (0, 1)
                await ends_in_order(third, [valkey, *third.children()], signal.SIGTERM)
                assert embedded.find(data) is None


async def test_once(tmp_path: Path) -> None:
    """`--once` reads all orders of the sandbox, says how many, and ends with exit 0; nothing is left running."""
    done = await typed(tmp_path, ORDERSYNC, "run", "--sandbox", "--once", "--json", "--orders", "40")
    assert done.returncode == 0
    found = {each["resource"]: each for each in json.loads(done.stdout)}
    assert list(found) == ["orders", "shipments", "order_audit", "shipment_audit"]
    assert {(each["account"], each["outcome"]) for each in found.values()} == {("sandbox", "complete")}
    assert found["orders"]["snapshot"] >= 40
    assert embedded.find(tmp_path / "data") is None


# --- beside a daemon at work ------------------------------------------------------------------------------


async def test_the_page_when_its_port_is_taken(at_work: Path) -> None:
    """The address that the banner prints serves the page, also where another program has the usual port."""
    said = printed(at_work)
    found = re.search(r"^  page +(http://127\.0\.0\.1:(\d+)/)$", said, re.MULTILINE)
    assert found is not None, said
    assert int(found[2]) != USUAL_PORT
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        assert "sandbox" in (await http.get(f"{found[1]}status.json")).text
        assert "Proven hours" in (await http.get(found[1])).text


async def test_what_it_says_can_be_typed(at_work: Path) -> None:
    """It names `tail` and `status`, in a form that works when it is typed as it stands there."""
    block = printed(at_work).partition("In a second terminal:\n")[2].partition("\n\n")[0]
    lines = [shlex.split(re.split(r"\s{3,}", line.strip())[0]) for line in block.splitlines()]
    assert [words[1:] for words in lines] == [["tail", "orders"], ["status"]]
    status = await typed(at_work, *lines[1])
    assert (status.returncode, status.stderr) == (0, "")
    assert "sandbox  orders" in status.stdout
    with Program(at_work, *lines[0], data_dir=str(at_work / "data")) as tail:
        await eventually(lambda: tail.out)
        tail.process.send_signal(signal.SIGINT)
        assert await tail.ended() == 0
        assert tail.err == ""


async def test_tail_shows_changes_as_they_come(at_work: Path) -> None:
    """`tail` goes on: beyond what was there it shows what changes in the sandbox, in the order of `sequence`."""
    follow = (ORDERSYNC, "tail", "orders", "--json", "-n", "1")
    with Program(at_work, *follow, data_dir=str(at_work / "data")) as tail:

        def whole_lines() -> list[dict[str, Any]]:
            return [json.loads(line) for line in tail.out.splitlines(keepends=True) if line.endswith("\n")]

        await eventually(lambda: len(whole_lines()) >= 4)
        lines = whole_lines()
        tail.process.send_signal(signal.SIGINT)
        assert await tail.ended() == 0
    numbers = [int(line["sequence"]) for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(lines)))
    assert {line["type"].rpartition(".")[2] for line in lines[1:]} <= {"created", "updated"}
    assert {"entry", "resource", *FIELDS} == set(lines[0])


async def test_status_of_it(at_work: Path) -> None:
    """`status` finds the embedded server by the data folder alone, and tells that all is well."""
    rows = {row["resource"]: row for row in json.loads(command(at_work, "status", "--json").stdout)}
    assert list(rows) == ["orders", "shipments", "order_audit", "shipment_audit"]
    assert {row["health"] for row in rows.values()} == {"ok"}
    row = rows["orders"]
    assert (row["account"], row["resource"], row["health"], row["dead"]) == ("sandbox", "orders", "ok", 0)
    assert row["records"] >= 300
    assert row["events"] >= row["records"]
    assert row["fresh_s"] < PATIENCE
    assert row["stream"] == STREAM


def quoted(page: str, command: str) -> str:
    """Return the output that a page quotes of a command."""
    (text,) = [each.text for each in blocks(page, "console") if f"$ {command}\n" in each.text]
    return text.partition(f"$ {command}\n")[2]


def form(text: str) -> list[str]:
    """Return the form of an output: without numbers, times, hosts, sockets and folders."""
    text = re.sub(r"alive: \S+", "alive: WORKER", text)
    text = re.sub(r"unix://\S+", "unix://SOCKET", text)
    return shape(re.sub(r"data in [^)]+", "data in FOLDER", text).strip())


@pytest.mark.parametrize("page", ["README.md", "docs/start/try-it.md"])
async def test_what_the_documentation_quotes(at_work: Path, page: str) -> None:
    """The outputs of `status`, and of `run --sandbox` where it is quoted, have the form that is quoted."""
    wanted = form(quoted(page, ".venv/bin/ordersync status"))
    # What was recorded had read the open orders again by themselves.
    await eventually(lambda: form(command(at_work, "status").stdout) == wanted)
    if page != "README.md":
        greeting = printed(at_work).partition("\n\nIn a second")[0]
        assert form(greeting) == form(quoted(page, "make run"))


TAILED = re.compile(
    r"[-\dT:.]+Z  (snapshot|created|updated|deleted)\s+[0-9a-f]{24} \(O\d+\)  v\d+"
    r"(  (status [A-Z][\w ]+ -> [A-Z][\w ]+)?[\w, ]*)?"
)
"""A line of `tail orders`: time, action, id and number, version, and the fields that changed."""


@pytest.mark.parametrize("page", ["README.md", "docs/start/try-it.md"])
async def test_lines_that_the_documentation_quotes(at_work: Path, page: str) -> None:
    """The lines of `tail` have the form that is quoted."""
    wanted = quoted(page, ".venv/bin/ordersync tail orders").splitlines()
    lines = command(at_work, "tail", "orders", "-n", "100", "--no-follow").stdout.splitlines()
    assert lines
    assert [line for line in [*wanted, *lines] if not TAILED.fullmatch(line)] == []


async def test_health_of_it(at_work: Path) -> None:
    """`health` is 0 and names the process that it has heard of."""
    done = command(at_work, "health")
    assert (done.returncode, done.stdout) == (0, "healthy\n")
    found = json.loads(command(at_work, "health", "--json").stdout)
    assert psutil.pid_exists(found["heartbeat"]["pid"])
    assert len(found["heartbeat"]["resources"]) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("timeline {order}", "by poll"),
        ("resync orders --id {order} --dry-run", "would be published"),
        ("contract probe orders", "/order/v1/orders"),
    ],
)
async def test_commands_that_ask_the_sandbox(at_work: Path, words: str, said: str) -> None:
    """They find the running sandbox in the data folder, without any setting; nobody else can read its login."""
    file = at_work / "data" / "sandbox.json"
    assert file.stat().st_mode & 0o777 == 0o600
    line = command(at_work, "tail", "orders", "-n", "1", "--no-follow", "--json").stdout
    done = command(at_work, *words.format(order=json.loads(line)["subject"]).split())
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout
    assert "OrderMesh was not asked" not in done.stdout


async def test_a_second_run_is_refused(at_work: Path) -> None:
    """It would empty the account of the first: exit 2, naming the setting; the first goes on."""
    before = embedded.find(at_work / "data")
    done = command(at_work, "run", "--sandbox")
    assert (done.returncode, done.stdout) == (2, "")
    assert "ORDERSYNC_DATA_DIR" in done.stderr
    assert embedded.find(at_work / "data") == before
    assert command(at_work, "status").returncode == 0


async def test_ctrl_c_during_the_start(tmp_path: Path) -> None:
    """It ends at once, with the shell's status for Ctrl-C, and leaves nothing running either."""
    with started(tmp_path) as program:
        await eventually(program.children)
        family = program.children()
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() in {0, 130}
        await gone(family)
        assert "Traceback" not in program.err
