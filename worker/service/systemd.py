"""Notify the service manager of the state of the daemon: `sd_notify` of systemd, without its library.

A message is a datagram of `NAME=value` lines to the Unix socket that NOTIFY_SOCKET names; there is no answer.
Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import os
import socket
import time

from worker.telemetry.log import get_logger

MAX_STATUS = 400
"""Characters; `systemctl status` shows one line."""


class ServiceManager:
    """Sends messages to the service manager; without an address it sends none.

    A message that cannot be sent is dropped without waiting: a manager that gets no messages restarts the service when
    its watchdog expires. The first dropped message is logged.
    """

    def __init__(self, address: str = "") -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket is not None:
            self._socket.settimeout(0)
        self._ready = self._warned = False
        self._status = ""

    @classmethod
    def of_environment(cls) -> ServiceManager:
        """Return the service manager that started this process. Child processes do not inherit its address."""
        return cls(os.environ.pop("NOTIFY_SOCKET", ""))

    def ready(self) -> None:
        """Report, once, that the start is complete."""
        if not self._ready:
            self._ready = True
            self._send("READY=1")

    def reloading(self) -> None:
        """Report that the configuration is being reloaded; `reloaded` must follow."""
        if self._ready:
            self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """Report the end of a reload, whether or not the new configuration is in force."""
        if self._ready:
            self._send("READY=1")

    def alive(self) -> None:
        """Report progress. Without it the watchdog of the service manager ends the process."""
        self._send("WATCHDOG=1")

    def stopping(self, seconds: float) -> None:
        """Report that the shutdown has begun and may take `seconds`, however short the manager's own timeout is."""
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def status(self, text: str) -> None:
        """Report a status line for people, if it has changed."""
        line = " ".join(text.split())[:MAX_STATUS]
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._warned:
                self._warned = True
                get_logger().warning(
                    "service_manager_not_told",
                    error=str(error),
                    advice="The systemd watchdog may end this process. Check that the socket in NOTIFY_SOCKET "
                    "exists and is writable.",
                )
