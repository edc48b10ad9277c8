"""The page in a real browser: what is drawn, by which keys it is used, what it says to a screen reader."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from tests.support.browser import Browser, Tab, browsing
from tests.support.hostile_state import MARKUP, fill
from tests.support.node import modules_with
from tests.support.page import Served, page_of
from tests.support.servers import Server
from tests.support.streams import KEYS, fields_of
from tests.support.waiting import eventually
from worker.keys import KeySpace

pytestmark = pytest.mark.anyio

AXE = "axe-core@4.14.1"
VIOLATIONS = """axe.run(document, {resultTypes: ["violations"]})
.then(result => result.violations.map(found => [found.id, found.nodes.map(node => node.html)]))"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the module, in which its browser lives."""
    return "asyncio"


@pytest.fixture(scope="module")
async def browser(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    """One browser for all tests."""
    async with browsing(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
async def served(anyio_backend: str, shared_server: Server) -> AsyncIterator[Served]:
    """A page full of what others wrote, all of it hostile, and of an order that can be found."""
    with redis.Redis.from_url(shared_server.url) as client:
        client.flushall()
        fill(shared_server.url, MARKUP)
        client.xadd(KEYS.stream("orders"), fields_of(2))
    async with page_of(shared_server.url) as page:
        yield page


@pytest.fixture
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    async with browser.tab() as opened:
        yield opened
        assert opened.problems == []


@pytest.mark.parametrize("path", ["/", "/timeline?id=a"])
async def test_accessible(tab: Tab, served: Served, path: str) -> None:
    """Axe finds no violation, at two widths, light and dark; nothing is wider than the window; no script was put in."""
    axe = modules_with(AXE, folder="axe-core") / "axe-core" / "axe.min.js"
    await tab.look(width=1280)
    await tab.open(served.url + path)
    await tab.value(axe.read_text(encoding="utf-8") + "; 1")
    backgrounds = set()
    for width in (1280, 390):
        for dark in (False, True):
            await tab.look(width=width, dark=dark)
            assert await tab.value(VIOLATIONS) == [], (width, dark)
            assert await tab.value("document.documentElement.scrollWidth <= innerWidth"), (width, dark)
            backgrounds.add(await tab.value("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2
    assert "owned" not in await tab.value("document.title")


async def test_it_updates_itself(tab: Tab, served: Served, shared_server: Server) -> None:
    """New figures come without a reload, and the focus and the selected text stay where they were."""
    await tab.look(width=1280)
    await tab.open(served.url)
    await eventually(lambda: tab.value("document.getElementById('live').textContent.startsWith('Live.')"))
    await tab.value("document.querySelector('#resources button.copy').focus()")
    await tab.value("window.kept = document.activeElement; 1")
    with redis.Redis.from_url(shared_server.url) as client:
        client.hset(KEYS.cursor("orders"), "tracked", "4711")
    await eventually(lambda: tab.value("document.body.innerText.includes('4,711')"))
    assert await tab.value("document.activeElement === window.kept && window.kept.isConnected")


async def test_with_the_keyboard(tab: Tab, served: Served) -> None:
    """Tab leads to the content, the search and the commands; Enter copies a command and searches."""
    await tab.look(width=1280)
    await tab.open(served.url)
    await tab.key("Tab")
    assert await tab.value("document.activeElement.className") == "skip"
    assert await tab.value("getComputedStyle(document.activeElement).outlineStyle") != "none"
    for _ in range(2):
        await tab.key("Tab")
    assert await tab.value("document.activeElement.id") == "id"
    await tab.value("document.querySelector('button.copy').focus()")
    await tab.key("Enter")
    await eventually(lambda: tab.value("/copied|selected/.test(document.getElementById('said').textContent)"))
    await tab.value("document.getElementById('id').focus(); document.getElementById('id').value = 'a'")
    await tab.key("Enter")
    await eventually(
        lambda: tab.value("location.pathname === '/timeline' && document.readyState === 'complete'")
    )


async def test_without_javascript(browser: Browser, served: Served) -> None:
    """Everything is there; the page says that it does not update itself, and no button does nothing."""
    async with browser.tab(javascript=False) as tab:
        await tab.look(width=390)
        await tab.open(served.url)
        text = await tab.value("document.body.innerText")
        assert "Reload the page to see the present state" in text
        for title in (
            "Resources",
            "Consumer groups",
            "Dead letters",
            "Proven hours",
            "Workers and budget",
            "Resyncs",
        ):
            assert title in text
        assert await tab.value("[...document.querySelectorAll('.copy')].every(b => !b.offsetParent)")
        await tab.open(f"{served.url}/timeline?id=a")
        assert "Timeline" in await tab.value("document.body.innerText")
        assert tab.problems == []


async def test_the_connection_is_lost(browser: Browser, own_server: Server, tmp_path: Path) -> None:
    """The page says that it is not live any more, and does not look current."""
    with redis.Redis.from_url(own_server.url) as client:
        client.sadd(KeySpace().accounts, "default")
    async with browser.tab() as tab:
        async with page_of(own_server.url) as page:
            await tab.open(page.url)
            await eventually(
                lambda: tab.value("document.getElementById('live').textContent.startsWith('Live.')")
            )
        await eventually(lambda: tab.value("document.getElementById('live').className.includes('lost')"))
        assert "Not live" in await tab.value("document.getElementById('live').textContent")
