"""A headless Chromium, driven by the DevTools protocol over a WebSocket."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.tools import missing
from tests.support.waiting import eventually

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # it runs as root in CI, and shows nothing but our own page
    "--disable-gpu",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


class Tab:
    """A page of the browser.

    Attributes:
        problems: What the browser has complained of: violations of the policy, errors of scripts, failed requests.

    """

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser, self.target, self.session = browser, target, session
        self.problems: list[str] = []

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        return await self._browser.send(method, session=self.session, **parameters)

    async def open(self, url: str) -> None:
        """Load a page, and wait until it and its files are there."""
        await self.send("Page.navigate", url=url)
        await eventually(
            lambda: self.value("document.readyState === 'complete' && location.href !== 'about:blank'")
        )

    async def value(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, also where the page itself may run no scripts."""
        answer = await self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Set the size of the window, and which colours the viewer prefers."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self) -> bytes:
        """Return a picture of the whole page (PNG)."""
        shot = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    async def key(self, name: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if name == "Enter" and kind == "keyDown" else {}
            code = {"Tab": 9, "Enter": 13}[name]
            await self.send(
                "Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **text
            )

    async def close(self) -> None:
        """Close it."""
        await self._browser.send("Target.closeTarget", targetId=self.target)

    def heard(self, method: str, event: dict[str, Any]) -> None:
        """Note what the browser complains of."""
        if method == "Log.entryAdded" and event["entry"]["level"] in {"error", "warning"}:
            self.problems.append(event["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(str(event["exceptionDetails"].get("exception", event)))
        elif method == "Runtime.consoleAPICalled" and event["type"] in {"error", "warning"}:
            self.problems.append(str(event["args"]))


class Browser:
    """A running browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tabs: dict[str, Tab] = {}
        self._reading = asyncio.create_task(self._read())

    async def send(self, method: str, *, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        self._number += 1
        number = self._number
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message | ({"sessionId": session} if session else {}))
        result = await asyncio.wait_for(answer, 60)
        assert "error" not in result, f"{method}: {result['error']}"
        return dict(result["result"])

    @asynccontextmanager
    async def tab(self, *, javascript: bool = True) -> AsyncIterator[Tab]:
        """An empty page; without JavaScript, the page itself may run no scripts."""
        target = (await self.send("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        tab = self._tabs[session] = Tab(self, target, session)
        for domain in ("Page", "Runtime", "Log"):
            await tab.send(f"{domain}.enable")
        await tab.send("Emulation.setScriptExecutionDisabled", value=not javascript)
        try:
            yield tab
        finally:
            await tab.close()

    async def close(self) -> None:
        """Stop reading."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            elif tab := self._tabs.get(told.get("sessionId", "")):
                tab.heard(told["method"], told["params"])


@asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Browser]:
    """Run Chromium with its profile in a folder; the test ends where there is none."""
    path = next(filter(None, map(shutil.which, _NAMES)), None) or missing("chromium is not on PATH")
    process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes milliseconds
        [path, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        told = folder / "DevToolsActivePort"
        await eventually(lambda: told.exists() and len(told.read_text().split()) == 2)
        port, way = told.read_text().split()
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"ws://127.0.0.1:{port}{way}", max_msg_size=0) as socket,
        ):
            browser = Browser(socket)
            yield browser
            await browser.close()
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
