"""What others may watch: metrics and probes over HTTP, spans as OpenTelemetry exports them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from tests.support.arq_worker import working
from tests.support.commands import ordersync
from tests.support.programs import Program, login_settings, program_env
from tests.support.servers import Server, free_port
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import BenchMaker
from worker.config.sections import ReconcileSettings
from worker.errors import SettingsError
from worker.sandbox import FaultRule, SandboxServer
from worker.telemetry import http as endpoint
from worker.telemetry import tracing
from worker.telemetry.http import serving
from worker.telemetry.otel import Exporter

pytestmark = pytest.mark.anyio

Value = Callable[..., float | None]


def values(text: str) -> Value:
    """Finds the value of a sample by its name and some of its labels."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def find(name: str, **labels: str) -> float | None:
        found = [
            s.value for s in samples if s.name == f"ordersync_{name}" and labels.items() <= s.labels.items()
        ]
        return sum(found) if found else None

    return find


# Metrics and probes


async def test_metrics_of_a_daemon(sandbox: SandboxServer, own_server: Server, tmp_path: Path) -> None:
    """Everything that happens to a resource is counted, and how it stands is told; probes follow what is away."""
    port = free_port()
    settings = login_settings(sandbox, own_server.url, tmp_path / "data", metrics__port=str(port))
    settings["events__groups"] = '{"warehouse": ["orders"]}'
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as http:
        with Program(tmp_path, **settings) as worker:
            told = await worker.logged("metrics_served")
            assert told["url"] == f"http://127.0.0.1:{port}/metrics"
            await worker.logged("poll_done", 2)
            sandbox.faults.replace((FaultRule("garbage", operation="orders.search"),))
            await worker.logged("poll_failed")
            answer = await http.get("/metrics")
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            value = values(answer.text)
            of = {"account": "default", "resource": "orders"}
            assert (value("polls_total", **of, outcome="complete") or 0) >= 2
            assert (value("polls_total", **of, outcome="failed") or 0) >= 1
            assert value("events_total", **of, action="snapshot") == 50
            assert (value("records_total", **of) or 0) >= 100
            assert (value("requests_total", **of) or 0) >= 3
            assert value("retries_total", **of) is not None
            assert value("budget_wait_seconds_total", **of) is not None
            assert (value("commit_seconds_count", **of) or 0) >= 2
            assert (value("freshness_seconds", **of) or -1) > 0
            assert value("tracked_records", **of) == 50
            assert value("backpressure", **of) == value("paused", **of) == value("dead_letters", **of) == 0
            assert value("group_lag", **of, group="warehouse") == 50
            assert value("group_pending", **of, group="warehouse") == 0
            assert value("health", **of) == 1

            assert (await http.get("/healthz")).json() == {"ok": True, "problems": []}
            own_server.stop(kill=True)

            async def not_ready() -> bool:
                return (await http.get("/readyz")).status_code == 503

            await eventually(not_ready, PATIENCE)
            (problem,) = (await http.get("/readyz")).json()["problems"]
            assert "Redis" in problem
            assert (await http.get("/healthz")).status_code == 200  # a worker that waits for Redis is alive
            value = values((await http.get("/metrics")).text)
            assert value("events_total", **of, action="snapshot") == 50
            assert value("tracked_records") is None
            worker.process.terminate()
            assert await worker.ended() == 0


async def test_a_port_that_is_taken(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """The start ends with exit 2 and the name of the setting, and nothing listens unless it is asked for."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = login_settings(sandbox, redis_url, tmp_path, metrics__port=str(other.getsockname()[1]))
        done = ordersync("run", cwd=tmp_path, **settings)
    assert done.returncode == 2
    assert "ORDERSYNC_METRICS__PORT" in done.stderr


async def _greet() -> web.Response:
    return web.Response(body=b"hello", headers={"Content-Type": "text/plain"})


async def _hang() -> web.Response:
    await asyncio.sleep(PATIENCE)
    raise AssertionError


async def _fail() -> web.Response:
    raise ZeroDivisionError


async def test_the_endpoint_answers_fixed_paths_only() -> None:
    """GET and HEAD of its paths; each connection is closed after its answer."""
    async with (
        serving("127.0.0.1", 0, {"/here": _greet}) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        for method, path, status, body, length in (
            ("GET", "/here?x=1", 200, "hello", "5"),
            ("HEAD", "/here", 200, "", "5"),
            ("POST", "/here", 405, "Method Not Allowed\n", "19"),
            ("POST", "/elsewhere", 405, "Method Not Allowed\n", "19"),
            ("GET", "/elsewhere", 404, "Not Found\n", "10"),
        ):
            found = await http.request(method, path)
            assert (found.status_code, found.text) == (status, body)
            assert {name: value for name, value in found.headers.items() if name != "date"} == {
                "content-type": "text/plain",
                "content-length": length,
                "cache-control": "no-store",
                "connection": "close",
                "server": "ordersync",
            }
    with pytest.raises(SettingsError, match="ORDERSYNC_METRICS__PORT"):
        async with serving("192.0.2.1", 1, {}):
            pass


async def test_the_endpoint_minds_its_manners(caplog: pytest.LogCaptureFixture) -> None:
    """Callers that do not speak HTTP, or say nothing, neither break it nor hold it up, and are not logged."""
    caplog.set_level("INFO")
    async with (
        serving("127.0.0.1", 0, {"/here": _greet, "/broken": _fail}) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        for content in (
            b"nonsense\r\n\r\n",
            b"GET /here HTTP/1.1\r\na b\r\n\r\n",
            b"GET",
            b"x" * 20_000,
            b"",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(content)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()
        assert (await http.get("/here")).text == "hello"
        assert [record.message for record in caplog.records if record.name.startswith("aiohttp")] == []
        assert (await http.get("/broken")).status_code == 500
        assert "ZeroDivisionError" in caplog.text


async def test_the_endpoint_limits_its_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A route that hangs ends in 503, a connection that lives too long is closed, and so is one too many."""
    monkeypatch.setattr(endpoint, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(endpoint, "CONNECTION_SECONDS", 1.0)
    monkeypatch.setattr(endpoint, "MAX_CONNECTIONS", 3)
    async with (
        serving("127.0.0.1", 0, {"/here": _greet, "/hangs": _hang}) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        assert (await http.get("/hangs")).status_code == 503
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        silent[0][1].write(b"GET /here HTTP/1.1\r\n")
        with pytest.raises(httpx.TransportError):
            await http.get("/here")
        for reader, writer in silent:
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()
        assert (await http.get("/here")).text == "hello"


async def test_the_endpoint_ends_in_time() -> None:
    """Neither a caller that is silent nor a route that hangs delays the end of the worker."""
    loop = asyncio.get_running_loop()
    async with serving("127.0.0.1", 0, {"/hangs": _hang}) as port:
        callers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        callers[0][1].write(b"GET /hangs HTTP/1.1\r\nHost: here\r\n\r\n")
        await asyncio.sleep(0.1)
        began = loop.time()
    assert loop.time() - began < PATIENCE
    for reader, writer in callers:
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


# Traces


@pytest.fixture
def spans() -> Any:
    """An exporter that keeps what OpenTelemetry would send, and the one that hands it over."""
    kept = InMemorySpanExporter()
    return kept, Exporter(kept)


def by_name(kept: InMemorySpanExporter, name: str) -> list[Any]:
    return [span for span in kept.get_finished_spans() if span.name == name]


async def test_spans_from_the_tick_to_the_commit(bench: BenchMaker, redis_url: str, spans: Any) -> None:
    """Through the queue: the tick is above the poll, and that above its requests and commits, with our ids."""
    kept, exporter = spans
    # One poll and no reconciliation: a request that the end of the worker cuts short has no status.
    once: dict[str, Any] = {"intervals": {"orders": 3600.0}, "reconcile": ReconcileSettings(every=0)}
    async with bench(**once) as b:
        ended: list[str] = []
        with (
            tracing.watching(exporter.watch, exporter.records),
            tracing.watching(lambda span: ended.append(span.name)),
        ):
            async with working(b, redis_url):
                await eventually(lambda: {"tick", "poll"} <= set(ended), PATIENCE)
        exporter.flush()
        (_, record), *_ = await b.redis.xrange(b.account.keys.runs)
        run_id, trace_id = int(record[b"run_id"], 16), int(record[b"trace_id"], 16)
        (poll,) = [span for span in by_name(kept, "poll") if span.context.span_id == run_id]
        (tick,) = [span for span in by_name(kept, "tick") if span.context.trace_id == trace_id]
        assert poll.context.trace_id == trace_id
        assert poll.parent.span_id == tick.context.span_id
        assert tick.parent is None
        for name in ("request", "commit"):
            below = [span for span in by_name(kept, name) if span.context.trace_id == trace_id]
            assert below
            for span in below:
                assert span.parent.span_id == run_id
                assert poll.start_time <= span.start_time <= span.end_time <= poll.end_time
        assert poll.attributes["ordersync.outcome"] == "complete"
        assert poll.attributes["ordersync.snapshot"] == 50
        statuses = {span.attributes["http.response.status_code"] for span in by_name(kept, "request")}
        assert statuses <= {200, 400, 404}
        assert sum(span.attributes["ordersync.events"] for span in by_name(kept, "commit")) == 50


async def test_what_failed_is_an_error(bench: BenchMaker, spans: Any) -> None:
    """A request that came to nothing says so; what is not recorded is not handed over."""
    kept, exporter = spans
    async with bench(attempts=1) as b:
        b.sandbox.stop()
        with tracing.watching(exporter.watch, exporter.records):
            await b.poll()
            await b.poll(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
        exporter.flush()
        assert len(by_name(kept, "poll")) == 1
        assert {span.status.is_ok for span in by_name(kept, "request")} == {False}


@pytest.mark.parametrize(("share", "recorded"), [(0.0, 0), (1.0, 1)])
def test_the_share_of_traces(share: float, recorded: int) -> None:
    """A trace is recorded as a whole or not at all, and its flags say which."""
    kept = InMemorySpanExporter()
    exporter = Exporter(kept, share=share)
    with tracing.watching(exporter.watch, exporter.records), tracing.span("poll", tracing.begin()) as seen:
        assert seen.trace.traceparent.endswith(f"-{recorded:02}")
        with tracing.span("commit"):
            pass
    exporter.flush()
    assert len(kept.get_finished_spans()) == 2 * recorded


async def test_a_collector_that_is_away(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """Polls go on, and the worker ends in order: traces are worth nothing to wait for."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    settings = login_settings(sandbox, redis_url, tmp_path / "data", traces__endpoint=endpoint)
    with Program(tmp_path, **settings) as worker:
        await worker.logged("poll_done", 2)
        worker.process.terminate()
        assert await worker.ended() == 0


LOADED = """
import sys
from worker.cli import run
print(json.dumps([name for name in ("prometheus_client", "opentelemetry", "requests") if name in sys.modules]))
"""


def test_nobody_pays_for_what_is_off(tmp_path: Path) -> None:
    """The command that runs the daemon has imported neither library."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json{LOADED}"], cwd=tmp_path, env=program_env(), capture_output=True,
        text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == []
