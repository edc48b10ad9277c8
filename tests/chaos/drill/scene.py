"""What a failure of the drill happens to: a real daemon, with a gateway, a Valkey and a Prometheus."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.gateway import Gateway, Serving
from tests.support.host_clock import HostClock
from tests.support.programs import Program
from tests.support.prometheus import Prometheus
from tests.support.servers import Server, free_port


@dataclass(slots=True)
class Scene:
    """A daemon at work, and what it needs.

    Attributes:
        folder: Its folder.
        data: Its data folder.
        settings: Its settings.
        gateway: The gateway.
        server: Redis; None where the daemon runs its own.
        daemon: The daemon.
        clock: The clock of its host; None for the true one.
        prometheus: What scrapes it.
        end_gateway: Ends the gateway: nothing listens at its address any more.

    """

    folder: Path
    data: Path
    settings: dict[str, str]
    gateway: Gateway
    server: Server | None
    daemon: Program
    clock: HostClock | None
    prometheus: Prometheus
    end_gateway: Callable[[], None]
    _moved: int = field(default=0)

    @property
    def port(self) -> int:
        """The port of its metrics and its page."""
        return int(self.settings["metrics__port"])

    def live(self) -> None:
        """Let an order change, one after the other, as in a shop that is open."""
        ids = self.gateway.history.ids("orders")
        self._moved += 1
        self.gateway.history.change("orders", [ids[self._moved % len(ids)]])


@contextmanager
def scene(
    *,
    settings: dict[str, str],
    serving: Serving,
    disk: Path | None,
    on_a_clock: bool,
) -> Iterator[Scene]:
    """Start all of it; nothing is left running.

    The settings are those of a new installation (resources, intervals, budget), except for what `settings` says.
    `disk`: where the daemon keeps its data and its own Valkey; None for a Valkey beside it.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ordersync-drill-")))
        server = None
        if disk is None:
            (folder / "redis").mkdir()
            server = Server(folder / "redis")
            server.start()
            stack.callback(server.stop, kill=True)
        power = stack.enter_context(ExitStack())
        gateway = power.enter_context(Gateway(orders=60, shipments=20, serving=serving))
        for number, each in enumerate(gateway.history.ids("orders")[:40]):
            # Without different times of modification no probe can tell whether a filter is honoured.
            gateway.history.change("orders", [each], at=time.time() - 1800 + number)
        data = disk or folder
        all_settings = gateway.settings("", data, metrics__port=str(free_port()), **settings)
        for name in (
            "poll__intervals",
            "api__requests_per_second",
            "poll__confirm_deletes",
            "reconcile__every",
        ):
            if name not in settings:
                del all_settings[name]
        if server is None:
            del all_settings["redis__url"]
        else:
            all_settings["redis__url"] = server.url
        clock = HostClock(folder) if on_a_clock else None
        command = clock.command() if clock is not None else ()
        daemon = stack.enter_context(Program(folder, *command, **all_settings))
        prometheus = stack.enter_context(Prometheus(folder, int(all_settings["metrics__port"])))
        yield Scene(folder, data, all_settings, gateway, server, daemon, clock, prometheus, power.close)
