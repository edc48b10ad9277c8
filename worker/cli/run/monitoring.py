"""The monitoring of the daemon: metrics and probes over HTTP, traces to a collector; off by default.

The libraries are imported only if monitoring is enabled, so that other workers do not pay for them.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from worker import __version__
from worker.errors import SettingsError
from worker.service import heartbeat
from worker.telemetry import tracing
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from worker.cli.run.serving import Serving
    from worker.config.settings import Settings
    from worker.service.daemon import Daemon
    from worker.telemetry.metrics import Metrics


@asynccontextmanager
async def watched(running: Serving, daemon: Daemon) -> AsyncIterator[None]:
    """Enable the configured monitoring while the block runs."""
    settings = running.settings
    with ExitStack() as stack:
        exporter = _exporter(settings, stack)
        try:
            if settings.metrics.port is None:
                yield
                return
            from worker.telemetry.http import serving  # noqa: PLC0415 - see the top
            from worker.telemetry.metrics import Metrics  # noqa: PLC0415 - see the top

            metrics = Metrics()
            stack.enter_context(tracing.watching(metrics.watch))
            endpoints = MonitoringRoutes(running, daemon, metrics)
            routes = {
                "/metrics": endpoints.metrics,
                "/healthz": endpoints.healthz,
                "/readyz": endpoints.readyz,
            }
            async with serving(settings.metrics.host, settings.metrics.port, routes) as port:
                get_logger().info("metrics_served", url=f"http://{settings.metrics.host}:{port}/metrics")
                yield
        finally:
            if exporter is not None:
                await asyncio.to_thread(exporter.flush)


def _exporter(settings: Settings, stack: ExitStack) -> Any:
    if settings.traces.endpoint is None:
        return None
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
    sender = OTLPSpanExporter(endpoint=f"{settings.traces.endpoint}/v1/traces", timeout=5)
    exporter = Exporter(sender, share=settings.traces.share, version=__version__)
    stack.enter_context(tracing.watching(exporter.watch, exporter.records))
    return exporter


class MonitoringRoutes:
    """The HTTP routes with the metrics and probes of one daemon."""

    def __init__(self, running: Serving, daemon: Daemon, metrics: Metrics) -> None:
        self._running, self._daemon, self._metrics = running, daemon, metrics
        self._follow_reload()

    def _follow_reload(self) -> None:
        from worker.admin.status import StatusCollector  # noqa: PLC0415 - see the top

        self._services = self._running.services
        self._standing = StatusCollector(self._services.redis, self._running.settings)

    async def metrics(self) -> web.Response:
        """Serve the counters, and the gauges if Redis answers."""
        if self._services is not self._running.services:
            self._follow_reload()
        try:
            rows = [row for row in await self._standing.rows() if row["account"] in self._services.accounts]
        except (RedisError, OSError):
            rows = []
        from worker.telemetry.metrics import CONTENT_TYPE  # noqa: PLC0415 - see the top

        return _response(200, self._metrics.show(rows), CONTENT_TYPE)

    async def healthz(self) -> web.Response:
        """Serve 200 while the worker makes progress, even if OrderMesh or Redis is down: a restart would not help."""
        return _verdict(
            [f"{name} has made no progress for {age:.0f} s" for name, age in self._daemon.silent().items()]
        )

    async def readyz(self) -> web.Response:
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
