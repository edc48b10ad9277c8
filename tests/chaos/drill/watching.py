"""Let one failure happen, and measure when each surface names its cause."""

from __future__ import annotations

import re
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chaos.drill.failures import AIM, Failure
from tests.chaos.drill.scene import Scene, scene
from tests.chaos.drill.surfaces import SURFACES
from tests.support.small_disk import small_disk

BEFORE = 40
"""Characters that are shown before the words that name the cause."""
EVERY = 0.5
"""Seconds between two looks at a surface."""
CALM = 120.0
"""Seconds for a daemon to be well before anything fails."""


@dataclass(frozen=True, slots=True)
class Seen:
    """When a surface named the cause.

    Attributes:
        failure: The failure.
        surface: The surface.
        seconds: Seconds from the failure on; None for never.
        limit: Seconds within which it has to.
        words: The line that named it, or what the surface showed at the end.
        silent: Why the surface cannot name it.

    """

    failure: str
    surface: str
    seconds: float | None
    limit: float
    words: str
    silent: str = ""

    @property
    def is_right(self) -> bool:
        """True if it was in time, or cannot be."""
        return bool(self.silent) or (self.seconds is not None and self.seconds <= self.limit)


class Watch:
    """Looks at the surfaces of a scene."""

    def __init__(self, failure: Failure, place: Scene) -> None:
        self._failure, self._scene = failure, place
        self._found: dict[str, tuple[float | None, str]] = {}
        self._limit = AIM + failure.late
        self._ended = threading.Event()
        self._began, self._log_before = 0.0, 0

    def run(self) -> list[Seen]:
        """Wait until the worker is well, let the failure happen, and look until each surface has named it."""
        self._calm()
        if self._failure.before is not None:
            self._failure.before(self._scene)
        wrong = [name for name in SURFACES if self._named(name, self._look(name))]
        assert not wrong, f"{wrong} name the cause before there is one"
        self._log_before = len(self._scene.daemon.err)
        self._failure.happen(self._scene)
        self._began = time.monotonic()
        threads = [
            threading.Thread(target=self._watch, args=(name,), daemon=True)
            for name in SURFACES
            if name != "status"
        ]
        threads.append(threading.Thread(target=self._live, daemon=True))
        for thread in threads:
            thread.start()
        self._watch("status")  # a command in this process needs the main thread
        for thread in threads[:-1]:
            thread.join()
        self._ended.set()
        return [self._seen(name) for name in SURFACES]

    def _calm(self) -> None:
        """Wait until every resource is ok, health is good and no alert is pending or fires."""
        deadline = time.monotonic() + CALM
        while True:
            shown = {name: self._look(name) for name in ("status", "health")}
            bad = re.search(r"  (starting|degraded|failing)  |no worker|No worker", shown["status"])
            if (
                not bad
                and "ok" in shown["status"]
                and shown["health"].startswith("healthy")
                and self._scene.prometheus.alerts() == []
            ):
                return
            assert time.monotonic() < deadline, (
                f"the worker is not well: {shown}\n{self._scene.daemon.err[-3000:]}"
            )
            time.sleep(EVERY)

    def _live(self) -> None:
        while not self._ended.wait(1.0):
            self._scene.live()

    def _watch(self, name: str) -> None:
        """Look at a surface until it names the cause, or its limit has passed by half."""
        last = ""
        while True:
            last = self._look(name)
            passed = time.monotonic() - self._began
            line = self._named(name, last)
            if line:
                self._found[name] = passed, line
                return
            if name in self._failure.silent or passed > self._limit * 1.5:
                self._found[name] = None, last
                return
            time.sleep(EVERY)

    def _look(self, name: str) -> str:
        shown = SURFACES[name](self._scene)
        return shown[self._log_before :] if name == "log" else shown

    def _named(self, name: str, shown: str) -> str:
        """Return the line that names the cause; "" for none."""
        pattern = re.compile(self._failure.pattern(name))
        for line in shown.splitlines():
            if found := pattern.search(line):
                return line if name == "alert" else line[max(0, found.start() - BEFORE) :]
        return ""

    def _seen(self, name: str) -> Seen:
        seconds, words = self._found[name]
        return Seen(
            failure=self._failure.name,
            surface=name,
            seconds=None if seconds is None else round(seconds, 1),
            limit=self._limit,
            words=words,
            silent=self._failure.silent.get(name, ""),
        )


def drill(failure: Failure) -> list[Seen]:
    """Return when each surface named the cause of a failure."""
    with ExitStack() as stack:
        disk = None
        if failure.own_disk:
            folder = stack.enter_context(TemporaryDirectory(prefix="ordersync-disk-"))
            disk = stack.enter_context(small_disk(Path(folder) / "disk"))
        place = stack.enter_context(
            scene(
                settings=dict(failure.settings),
                serving=failure.serving(),
                disk=disk,
                on_a_clock=failure.on_a_clock,
            )
        )
        return Watch(failure, place).run()


def as_json(seen: Seen) -> dict[str, object]:
    """Return it as JSON."""
    return asdict(seen)
