"""The end of a service manager: the socket that receives the messages of sd_notify."""

from __future__ import annotations

import socket


class Listener:
    """The other end: the socket that NOTIFY_SOCKET names."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(0)

    def heard(self) -> list[str]:
        """What has come since this was asked last."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found
