"""The envelope of an event: CloudEvents 1.0 attributes as flat stream fields, and the record as served.

Field order on the stream: specversion id source type subject time datacontenttype dataschema sequence
version reason changed data. The order is always the same, because Redis then stores the names once for a
whole node of the stream. The optional fields dataencoding, previous, traceparent and predecessor follow.
"""

from __future__ import annotations

import zlib
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from ordersync_consumer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/json"
TYPE_PREFIX = "io.ordermesh."
FIELDS = (
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "sequence",
    "version",
    "reason",
    "changed",
    "data",
)
_NAMES = [name.encode() for name in FIELDS]
_NAMES_OF_UPDATE = [*_NAMES, b"predecessor"]
ENCODING_FIELD, PREVIOUS_FIELD, TRACE_FIELD = "dataencoding", "previous", "traceparent"
PREDECESSOR_FIELD = "predecessor"
OPTIONAL_FIELDS = (ENCODING_FIELD, PREVIOUS_FIELD, TRACE_FIELD, PREDECESSOR_FIELD)
"""Fields that follow the others, in this order. `predecessor` is in events of records that had one; the others are
enabled by options."""
SEQUENCE_DIGITS = 16
"""Of `sequence`, with leading zeros: CloudEvents compares it as text. 16 digits hold every number that the commit
script can count to (2 ** 53), and the milliseconds since 1970 at which it goes on after Redis has lost data."""


class Encoding(StrEnum):
    """How `data` is stored. The default is `identity`."""

    IDENTITY = "identity"
    """Unchanged."""
    GZIP = "gzip"


def source(account: str, resource: str) -> str:
    """Return the CloudEvents `source`, a URI reference that is unique for an account and a resource."""
    return f"/ordersync/{account}/{resource}"


def data_schema(entity: str, version: int) -> str:
    """Return the CloudEvents `dataschema`: name and version of the schema of the records of an entity."""
    return f"urn:ordersync:{entity}:{version}"


def event_type(entity: str, action: str) -> str:
    """Return the CloudEvents `type`, such as `io.ordermesh.order.updated`."""
    return f"{TYPE_PREFIX}{entity}.{action}"


def event_id(entity: str, subject: str, version: int, content: int) -> str:
    """Return the CloudEvents `id`, which is the same for the same version of the same record.

    It includes a hash of the content: if Redis loses writes and nobody notices, a version that is published again has
    the same id only if its content is the same, so a consumer may deduplicate by id.
    """
    return f"{entity}:{subject}:{version}:{content:08x}"


def sequence_text(number: int) -> str:
    """Return a `sequence` as it is in an entry: two of them compare as text like their numbers."""
    return f"{number:0{SEQUENCE_DIGITS}}"


def join_names(names: tuple[str, ...]) -> str:
    """Return names joined by commas, with a comma in a name as `%2C` and an empty name as `%`."""
    return ",".join(name.replace("%", "%25").replace(",", "%2C") or "%" for name in names)


def split_names(text: str) -> tuple[str, ...]:
    """Return the names that `join_names` has joined."""
    if not text:
        return ()
    return tuple(
        "" if name == "%" else name.replace("%2C", ",").replace("%25", "%") for name in text.split(",")
    )


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event as a consumer sees it: CloudEvents attributes, and some of this program.

    Attributes:
        entry_id: Its id in the stream.
        id: The same for the same version of the same record.
        source: `/ordersync/ACCOUNT/RESOURCE`.
        type: Such as `io.ordermesh.order.updated`.
        subject: Id of the record.
        time: When the record changed, by the clock of OrderMesh (RFC 3339).
        sequence: Number of the event among those of its resource. Without gaps, until Redis loses data.
        version: Number of the event among those of its record. Without gaps, until Redis loses data.
        reason: What caused the read: poll, resync or reconcile.
        changed: Names of the fields that have changed.
        data: The record as served, decompressed.
        previous: The old values of the fields in `changed`, as a JSON object; "" if unknown or not enabled.
        dataschema: Name and version of the schema of `data`.
        datacontenttype: The media type of `data`.
        specversion: The version of CloudEvents.
        traceparent: The run that published it, in the format of W3C Trace Context; "" if not enabled.

    """

    entry_id: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    sequence: int
    version: int
    reason: str
    changed: tuple[str, ...]
    data: bytes
    previous: str = ""
    dataschema: str = ""
    datacontenttype: str = CONTENT_TYPE
    specversion: str = SPEC_VERSION
    traceparent: str = ""

    @property
    def position(self) -> tuple[int, int]:
        """The two numbers of the entry id: of two events of a record, the one with the greater position is newer."""
        at, _, number = self.entry_id.partition("-")
        return int(at), int(number or 0)

    @property
    def action(self) -> str:
        """The last word of the type: snapshot, created, updated, deleted, recorded."""
        return self.type.rpartition(".")[2]

    @property
    def resource(self) -> str:
        """The last part of the source, such as `orders`."""
        return self.source.rpartition("/")[2]

    def attributes(self) -> dict[str, str]:
        """Return the CloudEvents attributes as an entry has them, without `data`, and those of this program."""
        attributes = {
            "specversion": self.specversion,
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": self.time,
            "datacontenttype": self.datacontenttype,
            "dataschema": self.dataschema,
            "sequence": sequence_text(self.sequence),
            "version": str(self.version),
            "reason": self.reason,
            "changed": join_names(self.changed),
        }
        if self.previous:
            attributes[PREVIOUS_FIELD] = self.previous
        if self.traceparent:
            attributes[TRACE_FIELD] = self.traceparent
        return attributes

    def json_line(self, **delivered: str | int | bool) -> bytes:
        """Return the event in the JSON format of CloudEvents, on one line without a line break.

        The attributes are those of the entry, and `resource` and `entry`, where it is stored. `data` is the record,
        byte for byte.

        Args:
            delivered: Further attributes, which say how the event was delivered.

        """
        head = {**self.attributes(), "resource": self.resource, "entry": self.entry_id, **delivered}
        # A line break in a record can only be white space between tokens.
        data = self.data.replace(b"\r", b" ").replace(b"\n", b" ")
        return b"".join((msgspec.json.encode(head)[:-1], b',"data":', data, b"}"))


def decoded(data: bytes, encoding: str) -> bytes:
    """Return the record in `data`, decoded.

    Raises:
        ValueError: The encoding is unknown, or `data` is not encoded in that way.

    """
    if encoding == Encoding.IDENTITY:
        return data
    if encoding != Encoding.GZIP:
        raise ValueError(f"unknown dataencoding {encoding!r}")
    try:
        return zlib.decompress(data, 31)  # 31: with the header of gzip
    except zlib.error as error:
        raise ValueError(f"data is not gzip: {error}") from None


def parse(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Event:
    """Return the event in a stream entry.

    Raises:
        DataError: This program did not write the entry.

    """
    try:
        if fields.get(b"dataencoding") == b"":
            raise ValueError("dataencoding is empty")  # noqa: TRY301 - said in the same words as the other reasons
        return _event(
            entry_id,
            [fields[name] for name in _NAMES],
            fields.get(b"dataencoding", b""),
            fields.get(b"previous", b""),
            fields.get(b"traceparent", b""),
        )
    except (KeyError, ValueError) as error:
        raise _foreign(entry_id, error) from None


def parse_flat(entry_id: bytes, flat: Sequence[bytes]) -> Event:
    """Return the event in a stream entry of which names and values come in turn, as Redis sends them.

    Raises:
        DataError: This program did not write the entry.

    """
    names = flat[::2]
    if names not in (_NAMES, _NAMES_OF_UPDATE):
        return parse(entry_id, as_mapping(flat))
    try:  # the usual case, without a dictionary: a consumer parses each event
        return _event(entry_id, flat[1:26:2])
    except ValueError as error:
        raise _foreign(entry_id, error) from None


def as_mapping(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return fields of which names and values come in turn as a dictionary."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _event(
    entry_id: bytes,
    values: Sequence[bytes],
    encoding: bytes = b"",
    previous: bytes = b"",
    traceparent: bytes = b"",
) -> Event:
    """Return the event with these values, in the order of `FIELDS`."""
    (
        specversion, event_id_, source_, type_, subject, time, content_type, schema, sequence, version, reason, changed,
        data,
    ) = values  # fmt: skip
    return Event(  # by position, which takes half the time
        entry_id.decode(),
        event_id_.decode(),
        source_.decode(),
        type_.decode(),
        subject.decode(),
        time.decode(),
        int(sequence),
        int(version),
        reason.decode(),
        split_names(changed.decode()) if changed else (),
        decoded(data, encoding.decode()) if encoding else data,
        previous.decode(),
        schema.decode(),
        content_type.decode(),
        specversion.decode(),
        traceparent.decode(),
    )


def _foreign(entry_id: bytes, error: Exception) -> DataError:
    reason = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
    return DataError(
        f"stream entry {entry_id.decode('utf-8', 'replace')} is not an event of ordermesh-sync: {reason}. "
        "Another program writes to this stream. Inspect the entry with XRANGE; remove it with XDEL if it is "
        "not needed."
    )
