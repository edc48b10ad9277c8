"""What others may watch: metrics and probes over HTTP, spans as OpenTelemetry exports them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from tests.support.arq_worker import working
from tests.support.programs import Program, login_settings, ordersync_process, program_env
from tests.support.servers import Server, free_port
from tests.support.tools import program
from tests.support.waiting import PATIENCE, eventually
from tests.support.worker import BenchMaker
from worker.config.sections import ReconcileSettings
from worker.sandbox import FaultRule, SandboxServer
from worker.telemetry import tracing
from worker.telemetry.catalog.metrics import METRICS
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

FAMILIES = {name.removesuffix("_total") for name in METRICS}
"""Every family of the table, as OpenMetrics names them. One without a sample is announced as well."""


def check_lint(text: str) -> None:
    """Fail if promtool finds fault with metrics in the format of Prometheus."""
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


async def test_metrics_of_a_daemon(sandbox: SandboxServer, own_server: Server, tmp_path: Path) -> None:
    """Everything that happens to a resource is counted, and how it stands is told; probes follow what is away."""
    port = free_port()
    settings = login_settings(sandbox, own_server.url, tmp_path / "data", metrics__port=str(port))
    settings |= {"events__groups": '{"warehouse": ["orders"]}', "groups__late_after": "0.1"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as http:
        with Program(tmp_path, **settings) as worker:
            told = await worker.logged("metrics_served")
            assert told["url"] == f"http://127.0.0.1:{port}/metrics"
            await worker.logged("poll_done", 2)
            late = values((await http.get("/metrics")).text)
            assert late("group_late", group="warehouse") == late("cause", cause="group_late") == 1
            limited = FaultRule("status", operation="orders.search", code=429, retry_after=1, times=1)
            sandbox.faults.replace((limited, FaultRule("garbage", operation="orders.search")))
            await worker.logged("poll_failed")
            answer = await http.get("/metrics")
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            check_lint(answer.text)
            open_metrics = await http.get("/metrics", headers={"Accept": "application/openmetrics-text"})
            assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
            families = openmetrics_families(open_metrics.text)  # type: ignore[no-untyped-call]
            assert {family.name for family in families} == FAMILIES
            assert "_created" not in answer.text + open_metrics.text
            value = values(answer.text)
            of = {"account": "default", "resource": "orders"}
            assert (value("polls_total", **of, outcome="complete") or 0) >= 2
            assert (value("polls_total", **of, outcome="failed") or 0) >= 1
            assert value("events_total", **of, action="snapshot") == 50
            assert (value("records_total", **of) or 0) >= 100
            assert (value("requests_total", **of) or 0) >= 3
            assert value("retries_total", **of, reason="rate_limited") == 1
            assert (value("rate_limit_wait_seconds_total", **of) or 0) >= 1
            assert value("budget_wait_seconds_total", **of) is not None
            assert (value("commit_seconds_count", **of) or 0) >= 2
            assert (value("freshness_seconds", **of) or -1) > 0
            assert value("tracked_records", **of) == 50
            assert value("backpressure", **of) == value("paused", **of) == value("dead_letters", **of) == 0
            assert value("group_lag", **of, group="warehouse") == 50
            assert value("group_pending", **of, group="warehouse") == 0
            assert value("health", **of) == 1
            assert value("redis_up") == value("workers", account="default") == value("build_info") == 1
            assert value("suspect", **of) == value("open_gaps", **of) == value("due_records", **of) == 0

            assert "All" in (await http.get("/")).text or "is ok" in (await http.get("/")).text
            assert [row["resource"] for row in (await http.get("/status.json")).json()] == ["orders"]
            assert (await http.get("/healthz")).json() == {"ok": True, "problems": []}
            own_server.stop(kill=True)

            async def not_ready() -> bool:
                return (await http.get("/readyz")).status_code == 503

            await eventually(not_ready, PATIENCE)
            (problem,) = (await http.get("/readyz")).json()["problems"]
            assert "Redis" in problem
            assert (await http.get("/healthz")).status_code == 200  # a worker that waits for Redis is alive
            answer = await http.get("/metrics")
            check_lint(answer.text)
            fresh, value = value("freshness_seconds", **of), values(answer.text)
            assert value("redis_up") == 0
            assert value("events_total", **of, action="snapshot") == 50
            assert value("tracked_records", **of) == 50
            assert value("health", **of, health="failing") == value("cause", cause="redis_unavailable") == 1
            assert (value("freshness_seconds", **of) or 0) > (fresh or 0)
            assert value("workers") is None
            worker.process.terminate()
            assert await worker.ended() == 0


async def test_a_port_that_is_taken(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> None:
    """The start ends with exit 2 and the name of the setting, and nothing listens unless it is asked for."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = login_settings(sandbox, redis_url, tmp_path, metrics__port=str(other.getsockname()[1]))
        done = ordersync_process("run", cwd=tmp_path, **settings)
    assert done.returncode == 2
    assert "ORDERSYNC_METRICS__PORT" in done.stderr


DROPPED_ONCE = """
import asyncio, socket, sys
from worker import cli
from worker.cli.run import monitoring
from worker.service.daemon import Daemon
from worker.web.feed import Feed
started, cancelled = asyncio.Event(), []
async def sample(feed):
    started.set()
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        print("dropped")
    await asyncio.sleep(600)
routes = monitoring._routes
async def routes_that_are_sampled(*arguments):
    made = await routes(*arguments)
    await started.wait()
    return made
Feed.sample, monitoring._routes = sample, routes_that_are_sampled
sys.argv = ["ordersync", "run"]
cli.main()
"""
"""Before Python 3.12, `asyncio.wait_for` drops a cancellation that comes as its call completes. Here one always is."""


async def test_a_dropped_cancellation_does_not_keep_the_daemon(
    sandbox: SandboxServer, redis_url: str, tmp_path: Path
) -> None:
    """The samples of the page end, so that the daemon of a taken port does, also if they miss a cancellation."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        settings = login_settings(sandbox, redis_url, tmp_path, metrics__port=str(other.getsockname()[1]))
        with Program(tmp_path, sys.executable, "-c", DROPPED_ONCE, **settings) as program:
            assert await program.ended() == 2
            assert program.out == "dropped\n"


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
