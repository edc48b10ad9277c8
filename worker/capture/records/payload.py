"""What an event holds of a record: what the privacy policy lets through, compressed if it is large, with old values.

The old values come from the last record that was published, which is then kept beside the state of each record.
No I/O.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from worker.capture.records.privacy import RecordPolicy, policy_for
from worker.queue.envelope import Encoding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.config.sections import EventSettings, PrivacySettings

LEVEL = 6
"""Of zlib. For records of 2.5 kB level 9 gives no less, and level 1 takes a fifth less time for 3 % more bytes."""
_BARE = -15  # zlib's wbits for a stream without a header
_GZIP_HEADER = bytes.fromhex("1f8b08000000000000ff")  # RFC 1952: deflate, no time, no name, system unknown

_as_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_as_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class PayloadOptions:
    """How the records of a resource go into its events.

    `privacy`: what of them is published, None for all. `compress_above`: bytes above which a record is
    compressed, None for never. `previous`: whether updates tell the old values of what changed.
    `traceparent`: whether events tell the run that published them.
    """

    privacy: RecordPolicy | None = None
    compress_above: int | None = None
    previous: bool = False
    traceparent: bool = False

    @property
    def tag(self) -> bytes:
        """Tells records that were kept under other rules: their old values are not those that were published."""
        return self.privacy.tag if self.privacy else bytes(4)


AS_SERVED = PayloadOptions()
"""Records are published as served, and nothing else."""


def payload_of(resource: str, privacy: PrivacySettings, events: EventSettings) -> PayloadOptions:
    """What the settings say of a resource."""
    return PayloadOptions(
        policy_for(resource, privacy), events.compress_above, events.previous, events.traceparent
    )


class EncodedRecord:
    """A record as it is published, which is compressed once for all that need it so."""

    __slots__ = ("_deflated", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._deflated = b""

    def stored(self, above: int) -> tuple[bytes, Encoding]:
        """As `data` of an event, and how. The same bytes give the same bytes; none become more."""
        if len(self.data) > above:
            gzip = self._as_gzip()
            if len(gzip) < len(self.data):
                return gzip, Encoding.GZIP
        return self.data, Encoding.IDENTITY

    def kept(self, version: int, tag: bytes) -> bytes:
        """As the last record that was published: tag (4 bytes), version (4), the record compressed."""
        return tag + (version & 0xFFFFFFFF).to_bytes(4, "big") + self._deflate()

    def _as_gzip(self) -> bytes:
        check = zlib.crc32(self.data).to_bytes(4, "little")
        return _GZIP_HEADER + self._deflate() + check + (len(self.data) & 0xFFFFFFFF).to_bytes(4, "little")

    def _deflate(self) -> bytes:
        if not self._deflated:
            packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _BARE)
            self._deflated = packer.compress(self.data) + packer.flush()
        return self._deflated


def unpack_last(packed: bytes, version: int, tag: bytes) -> bytes | None:
    """The record that was published as `version` under the rules of `tag`; None if it was not that one."""
    if packed[:8] != tag + (version & 0xFFFFFFFF).to_bytes(4, "big"):
        return None
    try:
        return zlib.decompress(packed[8:], _BARE)
    except zlib.error:
        return None


def old_values(last: bytes, changed: Iterable[str]) -> bytes:
    """A JSON object with the values that these fields had, as they were published; without those it did not have."""
    values = _as_object(last)
    return b"{" + b",".join(_as_json(n) + b":" + bytes(values[n]) for n in changed if n in values) + b"}"
