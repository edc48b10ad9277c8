"""The log of a worker that has been through trouble: every line fits, and it answers what operators ask."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jq
import pytest
import redis

from ordersync_consumer import tail as stream
from tests.support.log_lines import check_log
from tests.support.paths import ROOT
from tests.support.programs import Program, login_settings
from tests.support.servers import Server
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import BenchMaker
from worker.config.sections import EventSettings
from worker.contracts.log_queries import load_queries
from worker.sandbox import FaultRule, SandboxServer
from worker.telemetry.catalog import LIBRARY

pytestmark = pytest.mark.anyio

QUERIES = ROOT / "docs" / "queries"
ANSWERS = {query.key: query.jq for query in load_queries(QUERIES)}
JQ = shutil.which("jq")


def ask(key: str, log: str, **values: str) -> list[list[str]]:
    """The answer of one of the ten questions in docs/queries: rows of cells.

    The library is given all lines at once; where there is the command, it must say the same.
    """
    asked = ANSWERS[key].replace("def lines: inputs |", "def lines: .[] |", 1)
    rows = jq.compile(asked, args=values).input_value(log.splitlines()).all()
    if JQ is not None:
        arguments = [word for name, value in values.items() for word in ("--arg", name, value)]
        command = [JQ, "-nRr", *arguments, "-f", str(QUERIES / f"{key}.jq")]
        done = subprocess.run(
            command, input=log, capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        assert [_cells(row) for row in done.stdout.splitlines()] == [_cells(row) for row in rows]
    return [row.split("\t") for row in rows]


def _cells(row: str) -> list[float | str]:
    """Numbers as numbers: versions of jq write them in different ways (0 and 0.0)."""
    return [float(cell) if cell.replace(".", "", 1).isdecimal() else cell for cell in row.split("\t")]


def telling_of_updates(worker: Program) -> dict[str, Any] | None:
    """The line of the first poll that has published updates."""
    return next((line for line in worker.logs("poll_done") if line["updated"]), None)


def is_written(server: Server) -> bool:
    """Whether the append-only file has all that was done so far: a SIGKILL loses what waits for a slow disk."""
    with redis.Redis.from_url(server.url) as client:
        length: int = client.info("persistence")["aof_buffer_length"]
    return length == 0


@pytest.mark.slow
async def test_a_life_in_trouble(sandbox: SandboxServer, own_server: Server, tmp_path: Path) -> None:
    """Bad answers, an unreadable record, a dead Redis, a signal, at `debug`: every line fits the schema.

    The ten questions of docs/operate/log-queries.md are asked of that very log, with other text between the lines.
    """
    settings = login_settings(
        sandbox, own_server.url, tmp_path / "data", log__level="debug", events__traceparent="true"
    )
    with Program(tmp_path, **settings) as worker:
        await worker.logged("poll_done")
        sandbox.faults.replace((FaultRule("garbage", operation="orders.search"),))
        await worker.logged("poll_failed")
        sandbox.faults.replace(())
        sandbox.store.replace("odd", b'{"id":null}')
        await worker.logged("record_unreadable")
        sandbox.store.delete("odd")
        sandbox.store.change(3)
        done = await eventually(lambda: telling_of_updates(worker))
        # A job of which no end is noted is run again, in the same trace. It is noted after `poll_done`, and before the
        # next poll is put into the queue.
        await worker.logged("poll_done", len(worker.logs("poll_done")) + 1)
        await eventually(lambda: is_written(own_server))
        own_server.stop(kill=True)
        await worker.logged("queue_lost")
        own_server.start()
        await worker.logged("worker_started", 2)
        await worker.logged("poll_done", len(worker.logs("poll_done")) + 1)
        worker.process.terminate()
        assert await worker.ended() == 0
        log, lines = worker.err, worker.logs()
    check_log(lines)
    assert {line["level"] for line in lines} >= {"debug", "info", "warning", "error"}
    assert [line for line in lines if line["event"] == LIBRARY]
    log = "Traceback of somebody else\n" + log.replace("\n", "\nno JSON {\n", 1)

    (fresh,) = ask("fresh", log)
    assert (fresh[1:3], float(fresh[3]) >= 0) == (["default", "orders"], True)
    failing = ask("failing", log)
    assert {row[2] for row in failing} >= {"unreadable_answer"}
    assert all(int(row[3]) >= 1 and row[4] <= row[5] and row[6] for row in failing)
    published = ask("published", log)
    assert sum(int(row[3]) for row in published) == 50
    assert sum(int(row[5]) for row in published) == 3
    slow = [float(row[0]) for row in ask("slow", log)]
    assert slow == sorted(slow, reverse=True)
    (budget,) = ask("budget", log)
    assert int(budget[2]) == sum(
        line.get("requests", 0) for line in lines if line["event"].startswith("poll_")
    )
    assert ask("paused", log) == []
    assert {row[1] for row in ask("unreadable", log)} == {"record_unreadable"}
    told = ask("outages", log)
    assert len({tuple(row) for row in told}) == len(told)
    outages = [row[1] for row in told]
    assert outages[outages.index("queue_lost") :].count("worker_started") >= 1
    assert [row[1] for row in ask("restarts", log)][-2:] == ["stopping", "stopped"]

    followed = ask("trace", log, id=done["trace_id"])
    assert followed == ask("trace", log, id=done["run_id"])
    assert [row[2] for row in followed if row[2] != LIBRARY] == ["page_committed", "poll_done"]


async def test_from_the_tick_to_the_event(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path, bench: BenchMaker
) -> None:
    """An event names the run that published it, which the log and the run record name as well; the tick began it."""
    settings = login_settings(sandbox, redis_url, tmp_path / "data", events__traceparent="true")
    async with bench() as b:
        with Program(tmp_path, **settings) as worker:
            await worker.logged("poll_done")
            sandbox.store.change(1)
            events = await eventually(lambda: _updates(b))
            _, trace_id, run_id, flags = events[0].traceparent.split("-")
            line: dict[str, Any] = await eventually(
                lambda: next((x for x in worker.logs("poll_done") if x["run_id"] == run_id), None),
            )
        assert (line["trace_id"], line["updated"], flags) == (trace_id, 1, "00")
        records = [fields for _, fields in await b.redis.xrange(b.account.keys.runs)]
        (record,) = [fields for fields in records if fields[b"run_id"].decode() == run_id]
        assert record[b"trace_id"].decode() == trace_id
        assert len({fields[b"trace_id"] for fields in records}) == len(records)


async def _updates(b: Any) -> Any:
    key = b.account.keys.stream("orders")
    return [
        event async for event in stream.follow(b.redis, key, "0", wait=False) if event.action == "updated"
    ]


async def test_a_given_trace_is_carried_on(bench: BenchMaker) -> None:
    """Who polls by hand may hand over a trace; what is no trace is a new one. Each run is a span of its own."""
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with bench(events=EventSettings(traceparent=True)) as b:
        run = await b.poll(traceparent=given)
        assert run.trace_id == given.split("-")[1]
        assert {event.traceparent for event in await b.events()} == {f"00-{run.trace_id}-{run.run_id}-01"}
        assert run.run_id != given.split("-")[2]
        others = await asyncio.gather(b.poll(traceparent="00-nonsense"), b.poll())
        assert len({run.trace_id, *(other.trace_id for other in others)}) == 3


async def test_old_values_and_the_trace(bench: BenchMaker) -> None:
    """With every option on, the further fields stand behind the others in their order."""
    events = EventSettings(previous=True, compress_above=1, traceparent=True)
    async with bench(events=events) as b:
        await b.poll()
        b.sandbox.store.change(1)
        await b.poll()
        (*_, (_, fields)) = await b.redis.xrange(b.account.keys.stream("orders"))
        assert [name.decode() for name in fields][-4:] == [
            "dataencoding",
            "previous",
            "traceparent",
            "predecessor",
        ]
        line = (await b.events())[-1].json_line()
        assert b',"traceparent":"00-' in line
