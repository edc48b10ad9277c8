"""A gateway such as Azure API Management: it passes on only requests whose subscription key is the right one."""

from __future__ import annotations

import asyncio
import re

from tests.support.loop_thread import LoopThread

HEADER = "Ocp-Apim-Subscription-Key"


class KeyGate(LoopThread):
    """Stands before a server on loopback. A refusal echoes the key that was sent, as careless servers do.

    Attributes:
        key: The key that is accepted.
        sent: The keys that were sent.

    """

    def __init__(self, port: int, key: str) -> None:
        super().__init__("key gate")
        self._target = port
        self.key = key
        self.sent: list[str] = []

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        found = re.search(rf"\r\n{HEADER}: ([^\r]*)".encode(), head, re.IGNORECASE)
        key = found[1].decode() if found else ""
        self.sent.append(key)
        if key != self.key:
            text = f'{{"statusCode": 401, "message": "Access denied due to invalid subscription key {key}."}}'
            writer.write(
                b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nConnection: close\r\n"
                + f"Content-Length: {len(text)}\r\n\r\n{text}".encode()
            )
            await writer.drain()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        far_writer.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + body)
        writer.write((await far_reader.read()).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        await writer.drain()
        far_writer.close()
