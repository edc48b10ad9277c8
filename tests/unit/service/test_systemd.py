"""What the service manager is told, over a real socket of datagrams."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service_manager import Listener
from worker.service.systemd import ServiceManager
from worker.service.watchdog import Watchdog


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(str(tmp_path / "notify"))
    yield made
    made.socket.close()


@pytest.fixture
def manager(listener: Listener, tmp_path: Path) -> Iterator[ServiceManager]:
    made = ServiceManager(str(tmp_path / "notify"))
    yield made
    made.close()


def test_the_messages_are_those_of_sd_notify(listener: Listener, manager: ServiceManager) -> None:
    """One datagram each, `NAME=value` lines, times in microseconds."""
    manager.ready()
    manager.alive()
    manager.stopping(14.5)
    assert listener.heard() == ["READY=1", "WATCHDOG=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=14500000"]


def test_ready_is_told_once(listener: Listener, manager: ServiceManager) -> None:
    """A worker that starts again after Redis was lost is no new start of the service."""
    manager.ready()
    manager.ready()
    assert listener.heard() == ["READY=1"]


def test_a_reload_is_told_with_its_time_and_its_end(listener: Listener, manager: ServiceManager) -> None:
    """`systemctl reload` waits for READY. Before the first READY there is nothing to reload."""
    manager.reloading()
    manager.reloaded()
    manager.ready()
    before = time.monotonic_ns() // 1000
    manager.reloading()
    manager.reloaded()
    ready, reloading, reloaded = listener.heard()
    assert (ready, reloaded) == ("READY=1", "READY=1")
    first, _, second = reloading.partition("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_the_status_is_one_short_line_told_when_it_changes(
    listener: Listener, manager: ServiceManager
) -> None:
    """A line break in a cause must not become a message of its own, such as STOPPING=1."""
    for _ in range(2):
        manager.status("orders: failing\nSTOPPING=1")
    manager.status("x" * 5000)
    assert listener.heard() == ["STATUS=orders: failing STOPPING=1", f"STATUS={'x' * 400}"]


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_address_is_understood() -> None:
    """The null byte of an abstract socket is written as `@`."""
    name = f"ordersync-test-{os.getpid()}"
    listener = Listener(f"\0{name}")
    manager = ServiceManager(f"@{name}")
    manager.alive()
    assert listener.heard() == ["WATCHDOG=1"]
    manager.close()
    listener.socket.close()


def test_without_a_manager_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """On a terminal and in a container nobody listens, and nobody needs to know."""
    manager = ServiceManager()
    manager.ready()
    manager.alive()
    manager.status("x")
    manager.stopping(1)
    manager.close()
    assert caplog.records == []


def test_a_manager_that_is_gone_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The work goes on; the log says it once, not every second."""
    manager = ServiceManager(str(tmp_path / "nobody"))
    manager.alive()
    manager.alive()
    manager.close()
    manager.alive()
    assert caplog.text.count("service_manager_not_told") == 1


def test_a_manager_that_does_not_read_holds_up_nothing(
    listener: Listener, manager: ServiceManager, caplog: pytest.LogCaptureFixture
) -> None:
    """Its queue is full: a call that waited for room would stop the loop."""
    for _ in range(100_000):
        manager.alive()
        if "service_manager_not_told" in caplog.text:
            break
    else:
        pytest.fail("the queue did not fill up")
    assert len(listener.heard()) > 0


def test_programs_that_it_starts_do_not_speak_in_its_name(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded server would inherit the address, and could say READY for the daemon."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    manager = ServiceManager.of_environment()
    manager.ready()
    assert listener.heard() == ["READY=1"]
    assert b"NOTIFY_SOCKET" not in subprocess.run(["env"], capture_output=True, check=True).stdout
    manager.close()


def test_progress_is_that_every_loop_has_turned() -> None:
    """A loop that stands still must not hide behind one that turns; one that has ended is not waited for."""
    watchdog = Watchdog()
    watchdog.beat("loop")
    watchdog.beat("queue")
    assert watchdog.progress()
    assert not watchdog.progress()
    watchdog.beat("loop")
    assert not watchdog.progress()
    watchdog.beat("queue")
    assert watchdog.progress()
    watchdog.forget("queue")
    watchdog.beat("loop")
    assert watchdog.progress()
