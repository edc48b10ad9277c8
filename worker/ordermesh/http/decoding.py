"""Decompression that stops at a limit.

A megabyte of gzip may become gigabytes. httpx and aiohttp decompress without a limit, so this decoder replaces that of
httpx.
"""

from __future__ import annotations

import zlib

import httpx

CODINGS = frozenset({"identity", "gzip", "x-gzip", "deflate"})
"""Content codings that the worker knows (RFC 9110, 8.4.1); it asks for gzip and deflate."""
_GZIP = zlib.MAX_WBITS | 16
_ZLIB = zlib.MAX_WBITS
_BARE = -zlib.MAX_WBITS
_ZLIB_HEADER = 2
"""Bytes of the header of the zlib format."""


class TooLarge(Exception):
    """A response has more than `limit`, in words. `advice`: what to do if the gateway is right, as a sentence."""

    def __init__(self, limit: str, advice: str = "") -> None:
        self.limit, self.advice = limit, advice
        super().__init__(f"more than {limit}")


class BodyTooLarge(TooLarge):
    """The body of a response has more than so many bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} bytes",
            "If the gateway is right to send as many, raise ORDERSYNC_API__MAX_RESPONSE_BYTES or lower "
            "ORDERSYNC_API__PAGE_SIZE",
        )


class Decoder:
    """Decompresses a body to at most `limit` bytes; it has the interface of httpx's decoders.

    Args:
        codings: The content codings, in the order in which they were applied. An unknown one is passed on as it is.
        limit: Most bytes of the result, and of each step to it.
        cut: Return the first `limit` bytes of a longer or broken body, instead of raising.

    """

    def __init__(self, codings: list[str], limit: int, *, cut: bool = False) -> None:
        known = [coding for coding in reversed(codings) if coding in CODINGS - {"identity"}]
        self._steps = [_Step(coding, limit) for coding in known] if CODINGS.issuperset(codings) else []
        self._cut = cut

    def decode(self, data: bytes) -> bytes:
        """Return the next part of the body.

        Raises:
            BodyTooLarge: The body is too long.
            httpx.DecodingError: It is not compressed as its header says.

        """
        for step in self._steps:
            try:
                data = step.decode(data)
            except (BodyTooLarge, zlib.error) as error:
                if self._cut:
                    return b""
                if isinstance(error, BodyTooLarge):
                    raise
                raise httpx.DecodingError(str(error)) from None
        return data

    def flush(self) -> bytes:
        """Return nothing: each part is returned whole.

        Raises:
            httpx.DecodingError: The body ends early.

        """
        if not self._cut and any(not step.is_complete for step in self._steps):
            raise httpx.DecodingError("the compressed body ends early")
        return b""


class _Step:
    def __init__(self, coding: str, limit: int) -> None:
        self._coding, self._limit, self._left = coding, limit, limit
        self._inflate = zlib.decompressobj(_ZLIB if coding == "deflate" else _GZIP)
        self._header = b""
        self._has_begun = False

    @property
    def is_complete(self) -> bool:
        return self._inflate.eof or not self._has_begun

    def decode(self, data: bytes) -> bytes:
        parts = []
        while data:
            parts.append(self._next(data))
            self._has_begun = True
            if self._inflate.unconsumed_tail:
                raise BodyTooLarge(self._limit)
            data = self._inflate.unused_data
            if data and self._coding == "deflate":
                break
            if data:  # gzip may have several members (RFC 1952, 2.2)
                self._inflate = zlib.decompressobj(_GZIP)
        return b"".join(parts)

    def _next(self, data: bytes) -> bytes:
        if self._coding == "deflate" and len(self._header) < _ZLIB_HEADER:
            self._header += data
            if len(self._header) < _ZLIB_HEADER:
                return b""
            data = self._header
            if not _is_zlib(data):  # some servers send deflate without the zlib format around it
                self._inflate = zlib.decompressobj(_BARE)
        result = self._inflate.decompress(data, self._left + 1)
        self._left -= len(result)
        if self._left < 0:
            raise BodyTooLarge(self._limit)
        return result


def _is_zlib(data: bytes) -> bool:
    """Whether data begins with the header of RFC 1950, 2.2: method 8, and a check over two bytes."""
    return data[0] & 0x0F == 8 and int.from_bytes(data[:_ZLIB_HEADER], "big") % 31 == 0
