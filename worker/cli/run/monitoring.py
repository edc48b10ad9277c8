"""The monitoring of the daemon: metrics, probes and the page over HTTP, traces to a collector; off by default.

The libraries are imported only if monitoring is enabled, so that other workers do not pay for them.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from worker import __version__
from worker.cancellation import end
from worker.clock import SystemClock
from worker.errors import SettingsError
from worker.redis.connections import answer
from worker.service import heartbeat
from worker.telemetry import tracing
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from worker.admin.overview import Overview, OverviewCollector
    from worker.admin.status import Row
    from worker.admin.timeline import Timeline
    from worker.cli.run.serving import Serving
    from worker.config.settings import Settings
    from worker.service.daemon import Daemon
    from worker.telemetry.http import Routes
    from worker.telemetry.metrics import Metrics

REDIS_SECONDS = 4.0
"""Time for Redis to answer a scrape: less than the 10 s that Prometheus waits, and the 5 s of a probe."""
USUAL_PORT = 9464
"""The port of the examples in the documentation; that of `ordersync run --sandbox`, if it is free."""


@asynccontextmanager
async def watched(running: Serving, daemon: Daemon, *, usual_port: int | None = None) -> AsyncIterator[str]:
    """Enable the configured monitoring while the block runs; yields the address of the page, "" if it is not served.

    `usual_port`: serve there if no port is configured, or on a free one if it is taken.
    """
    settings = running.settings
    async with AsyncExitStack() as stack:
        exporter = _exporter(settings, stack)
        try:
            if settings.metrics.port is None and usual_port is None:
                yield ""
                return
            routes = await _routes(running, daemon, stack)
            from worker.telemetry.http import serving, serving_near  # noqa: PLC0415 - see the top

            host, configured, names = settings.metrics.host, settings.metrics.port, settings.metrics.names
            if configured is not None:
                port = await stack.enter_async_context(serving(host, configured, routes, names=names))
            else:
                port = await stack.enter_async_context(
                    serving_near(host, usual_port or 0, routes, names=names)
                )
            base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            get_logger().info("metrics_served", url=f"{base}/metrics")
            yield f"{base}/" if settings.metrics.shows_page else ""
        finally:
            if exporter is not None:
                await asyncio.to_thread(exporter.flush)


async def _routes(running: Serving, daemon: Daemon, stack: AsyncExitStack) -> Routes:
    """Return what is served. What watches for it ends with the stack."""
    from worker.telemetry.http import Route  # noqa: PLC0415 - see the top
    from worker.telemetry.metrics import Metrics  # noqa: PLC0415 - see the top

    metrics, source = Metrics(__version__), FollowingSource(running)
    stack.enter_context(tracing.watching(metrics.watch))
    endpoints = MonitoringRoutes(running, daemon, metrics, source)
    routes: dict[str, Route] = {
        "/metrics": Route(endpoints.metrics),
        "/healthz": Route(endpoints.healthz),
        "/readyz": Route(endpoints.readyz),
    }
    if running.settings.metrics.shows_page:
        from worker.web.feed import Feed  # noqa: PLC0415 - see the top
        from worker.web.routes import Page  # noqa: PLC0415 - see the top

        clock = SystemClock()
        feed = Feed(source, clock)
        routes |= Page(feed, source.find_timeline, clock).routes()
        sampling = asyncio.create_task(feed.sample())
        stack.push_async_callback(end, sampling)
    return routes


class FollowingSource:
    """Collects what is shown from the Redis of the settings in force, which a reload may change."""

    def __init__(self, running: Serving) -> None:
        self._running = running
        self._follow()

    def _follow(self) -> None:
        from worker.admin.overview import OverviewCollector  # noqa: PLC0415 - see the top

        self._services = self._running.services
        self._collector = OverviewCollector(self._services.redis, self._running.settings)

    @property
    def current(self) -> OverviewCollector:
        """What collects for the settings in force."""
        if self._services is not self._running.services:
            self._follow()
        return self._collector

    async def collect(self) -> Overview:
        """Return everything."""
        return await self.current.collect()

    async def rows(self) -> list[Row]:
        """Return the rows of the status."""
        return await self.current.rows()

    @property
    def health_of_accounts(self) -> dict[str, int] | None:
        """How many accounts have which health, as of the last rows; None if each of them has rows."""
        found = self.current.survey
        return found.as_json()["by_health"] if found is not None else None

    async def find_timeline(self, name: str, account: str) -> Timeline:
        """Return the timeline of an order. Raises `NoSuchOrder` if it is not known."""
        from worker.web.search import find_timeline  # noqa: PLC0415 - see the top

        services = self._running.services
        return await find_timeline(services.redis, services.keys, name, account)


def check_traces(settings: Settings) -> None:
    """Raise `SettingsError` if traces are to be sent, and what sends them is not installed."""
    if settings.traces.endpoint is not None:
        _libraries()


def _libraries() -> tuple[Any, Any]:
    """Return the class that sends spans to a collector, and the one that makes spans of what is traced."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - see the top
            OTLPSpanExporter,
        )

        from worker.telemetry.otel import Exporter  # noqa: PLC0415 - see the top
    except ImportError as error:
        raise SettingsError(
            f"ORDERSYNC_TRACES__ENDPOINT is set, but {error.name} is not installed. Run: pip install "
            "'ordermesh-sync[otel]'"
        ) from None
    return OTLPSpanExporter, Exporter


def _exporter(settings: Settings, stack: AsyncExitStack) -> Any:
    if settings.traces.endpoint is None:
        return None
    sender_of, exporter_of = _libraries()
    sender = sender_of(endpoint=f"{settings.traces.endpoint}/v1/traces", timeout=5)
    exporter = exporter_of(sender, share=settings.traces.share, version=__version__)
    stack.enter_context(tracing.watching(exporter.watch, exporter.records))
    return exporter


class MonitoringRoutes:
    """The HTTP routes with the metrics and probes of one daemon."""

    def __init__(self, running: Serving, daemon: Daemon, metrics: Metrics, source: FollowingSource) -> None:
        self._running, self._daemon, self._metrics, self._source = running, daemon, metrics, source
        self._read_of, self._read_at = running.services, time.monotonic()
        self._last_rows: list[Row] = []
        self._last_lanes: dict[str, float] = {}

    async def metrics(self, request: web.BaseRequest) -> web.Response:
        """Serve the counters, and the gauges: those of the last answer of Redis if it does not answer in time."""
        services = self._running.services
        if self._read_of is not services:
            self._read_of, self._last_rows, self._read_at = services, [], time.monotonic()
        away_s = None
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                # It refuses this too while it cannot write to its disk, and nothing can be published.
                await answer(services.redis.ping())
                rows = await self._source.rows()
                self._last_lanes = await self._running.oldest_due()
            self._last_rows = [row for row in rows if row["account"] in services.accounts]
            self._read_at = time.monotonic()
        except (RedisError, OSError):  # TimeoutError is one
            away_s = time.monotonic() - self._read_at
        body, content_type = self._metrics.show(
            self._last_rows,
            lanes=self._last_lanes,
            away_s=away_s,
            accounts=self._source.health_of_accounts,
            accept=request.headers.get("Accept", ""),
        )
        return _response(200, body, content_type)

    async def healthz(self, _: web.BaseRequest) -> web.Response:
        """Serve 200 while the worker makes progress, even if OrderMesh or Redis is down: a restart would not help."""
        return _verdict(
            [f"{name} has made no progress for {age:.0f} s" for name, age in self._daemon.silent().items()]
        )

    async def readyz(self, _: web.BaseRequest) -> web.Response:
        """Serve 200 while the worker does its job: it is healthy as in `ordersync health`, and is not stopping."""
        beat = self._daemon.last_beat
        problems = heartbeat.diagnose(beat) if beat else ["the worker has just started"]
        return _verdict(["the worker is stopping", *problems] if self._daemon.stopping() else problems)


def _verdict(problems: list[str]) -> web.Response:
    body = json.dumps({"ok": not problems, "problems": problems}) + "\n"
    return _response(503 if problems else 200, body.encode(), "application/json")


def _response(status: int, body: bytes, content_type: str) -> web.Response:
    from aiohttp import web  # noqa: PLC0415 - see the top

    return web.Response(status=status, body=body, headers={"Content-Type": content_type})
