"""The routes of the page: GET only, no cookies, nothing from elsewhere."""

from __future__ import annotations

import asyncio
import json
from importlib import resources
from typing import TYPE_CHECKING

from aiohttp import web

from worker.admin.timeline import NoSuchOrder
from worker.clock import rfc3339
from worker.redis.refusals import explain
from worker.telemetry.http import Route
from worker.web.pages import Pages
from worker.web.words import short

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from worker.admin.timeline import Timeline
    from worker.clock import Clock
    from worker.telemetry.http import Routes
    from worker.web.feed import Feed, Snapshot

    Search = Callable[[str, str], Awaitable[Timeline]]
    """Returns the timeline of an order: its id, and the account or "" for any."""

UPDATE_SECONDS = 2.0
"""Seconds between two updates of a viewer."""
WRITE_SECONDS = 5.0
"""A viewer that does not take an update within this time is dropped."""
SEARCH_SECONDS = 8.0
MAX_NAME = 200
"""Length of an id that is searched for."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_FILES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_HTML = "text/html; charset=utf-8"


class Page:
    """Answers the requests for the page.

    Args:
        feed: What is shown.
        search: Finds the timeline of an order.
        clock: The clock.

    """

    def __init__(self, feed: Feed, search: Search, clock: Clock) -> None:
        self._feed, self._search, self._clock = feed, search, clock
        self._pages, self._searching = Pages(), asyncio.Lock()
        self._rendered: tuple[int, dict[str, str]] = (0, {})
        self._files = {
            name: resources.files("worker.web").joinpath("static", name).read_bytes() for name in _FILES
        }

    def routes(self) -> Routes:
        """Return the routes."""
        return {
            "/": Route(self.page),
            "/status.json": Route(self.status),
            "/timeline": Route(self.timeline),
            "/updates": Route(self.updates, streams=True),
            **{f"/static/{name}": Route(self.file) for name in _FILES},
        }

    async def page(self, _: web.BaseRequest) -> web.StreamResponse:
        """Return the page."""
        return _response(self._pages.page(await self._feed.latest(), self._feed.lag), _HTML)

    async def status(self, _: web.BaseRequest) -> web.StreamResponse:
        """Return the rows of `ordersync status --json`; 503 if Redis cannot be read."""
        snapshot = await self._feed.latest()
        if snapshot.overview is None or snapshot.error:
            return _response(_json({"error": snapshot.error}), "application/json", status=503)
        return _response(_json(snapshot.overview.rows), "application/json")

    async def file(self, request: web.BaseRequest) -> web.StreamResponse:
        """Return a file of the page."""
        name = request.path.rpartition("/")[2]
        return _response(self._files[name], _FILES[name])

    async def timeline(self, request: web.BaseRequest) -> web.StreamResponse:
        """Return the timeline of an order. A foreign web page cannot make the worker search."""
        name, account = (request.query.get(key, "").strip()[:MAX_NAME] for key in ("id", "account"))
        overview = (await self._feed.latest()).overview
        found, error = None, ""
        if not name:
            error = "Type the id, shortId, safeId or externalId of an order."
        elif request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"}:
            error = "Another website has opened this address. Press the button to search."
        else:
            try:
                async with asyncio.timeout(SEARCH_SECONDS), self._searching:
                    found = await self._search(name, account)
            except NoSuchOrder as failure:
                error = str(failure)
            except TimeoutError:
                error = f"The search took longer than {SEARCH_SECONDS:.0f} s. Use the command below."
            except Exception as failure:  # noqa: BLE001 - whatever it is, the viewer is told
                error = f"The search failed: {explain(failure)}"
        status = 200 if found else 400 if not name else 404 if error else 200
        return _response(
            self._pages.timeline(overview, name, account, found=found, error=error), _HTML, status=status
        )

    async def updates(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send the sections that have changed, again and again, until the viewer leaves or is too slow."""
        response = web.StreamResponse(
            headers={**HEADERS, "Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        response.force_close()
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        sent: dict[str, str] = {}
        while True:
            snapshot = await self._feed.latest()
            sections = self._sections(snapshot)
            changed = [html for name, html in sections.items() if sent.get(name) != html]
            sent = sections
            events = [_event("section", html) for html in changed]
            if snapshot.overview and not snapshot.error:
                events.append(_event("at", short(rfc3339(snapshot.overview.at))))
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await response.write("".join([*events, ": \n\n"]).encode())
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()
                return response
            except ConnectionError:
                return response
            await self._clock.sleep(UPDATE_SECONDS)

    def _sections(self, snapshot: Snapshot) -> dict[str, str]:
        """Return the HTML of a snapshot, which is made once for all viewers."""
        number, sections = self._rendered
        if number != snapshot.number:
            sections = self._pages.sections(snapshot, self._feed.lag)
            self._rendered = snapshot.number, sections
        return sections


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def _json(value: object) -> str:
    return json.dumps(value) + "\n"


def _response(body: str | bytes, content_type: str, *, status: int = 200) -> web.Response:
    data = body.encode() if isinstance(body, str) else body
    return web.Response(status=status, body=data, headers={**HEADERS, "Content-Type": content_type})
