"""The page, served over HTTP from a Redis."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html.parser import HTMLParser

from worker.admin.overview import OverviewCollector
from worker.admin.timeline import Timeline
from worker.clock import SystemClock
from worker.config.settings import Settings
from worker.redis.connections import connect
from worker.telemetry.http import serving
from worker.web.feed import Feed
from worker.web.routes import Page
from worker.web.search import find_timeline


@dataclass(frozen=True, slots=True)
class Served:
    """Where it is served, and what collects for it."""

    url: str
    feed: Feed


@asynccontextmanager
async def page_of(redis_url: str) -> AsyncIterator[Served]:
    """Serve it while the block runs."""
    client, settings, clock = connect(redis_url), Settings(), SystemClock()

    async def search(name: str, account: str) -> Timeline:
        return await find_timeline(client, settings.redis.keys, name, account)

    feed = Feed(OverviewCollector(client, settings), clock)
    try:
        async with serving("127.0.0.1", 0, Page(feed, search, clock).routes()) as port:
            yield Served(f"http://127.0.0.1:{port}", feed)
    finally:
        await client.aclose()


class Reader(HTMLParser):
    """Reads a page: its tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += f"{data} "

    @property
    def words(self) -> str:
        """The text, with single spaces."""
        return re.sub(r"\s+", " ", self.text)
