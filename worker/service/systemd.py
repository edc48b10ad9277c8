"""Tells the service manager how the daemon stands: `sd_notify` of systemd, without its library.

A message is a datagram of `NAME=value` lines to the Unix socket that NOTIFY_SOCKET names; nothing is answered.
Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import os
import socket

from worker.telemetry.log import get_logger

MAX_STATUS = 400
"""Characters; `systemctl status` shows one line."""


class ServiceManager:
    """What the service manager is told. Without an address nobody is told anything.

    A message that cannot be sent is dropped, and nothing waits for it: a manager that hears nothing more restarts
    the service when its watchdog's time is up. The first message that was dropped is logged.
    """

    def __init__(self, address: str = "") -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket is not None:
            self._socket.settimeout(0)
        self._ready = self._told = False
        self._status = ""

    @classmethod
    def of_environment(cls) -> ServiceManager:
        """The one that has started this process. Programs that the process starts are not to speak in its name."""
        return cls(os.environ.pop("NOTIFY_SOCKET", ""))

    def ready(self) -> None:
        """The start is over. Told once."""
        if not self._ready:
            self._ready = True
            self._send("READY=1")

    def alive(self) -> None:
        """There was progress since the last call; without these calls the manager's watchdog ends the process."""
        self._send("WATCHDOG=1")

    def stopping(self, seconds: float) -> None:
        """The end has begun, and may take so long, however little the manager would wait by itself."""
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def status(self, text: str) -> None:
        """One line for people. Told when it has changed."""
        line = " ".join(text.split())[:MAX_STATUS]
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def close(self) -> None:
        """Nothing more will be told."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._told:
                self._told = True
                get_logger().warning(
                    "service_manager_not_told", error=str(error), advice="its watchdog may end this process"
                )
