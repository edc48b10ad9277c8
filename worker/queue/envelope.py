"""The envelope of an event: CloudEvents 1.0 attributes as flat stream fields, and the record as served.

Field order on the stream: specversion id source type subject time datacontenttype dataschema sequence
version reason changed data. The order is always the same, because Redis then stores the names once for a
whole node of the stream. The optional fields dataencoding, previous and traceparent follow if they are enabled.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from worker.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

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
_TEXTS = tuple((name, name.encode()) for name in FIELDS if name != "data")
ENCODING_FIELD, PREVIOUS_FIELD, TRACE_FIELD = "dataencoding", "previous", "traceparent"
OPTIONAL_FIELDS = (ENCODING_FIELD, PREVIOUS_FIELD, TRACE_FIELD)
"""Fields that follow the others, in this order, if an option enables them."""


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


@dataclass(frozen=True, slots=True)
class Event:
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

    def json_line(self) -> bytes:
        """Return the event as one line of JSON without a line break, with `data` and `previous` byte for byte."""
        attributes = asdict(self)
        data, previous = attributes.pop("data"), attributes.pop("previous").encode()
        traceparent = attributes.pop("traceparent")
        parts = [json.dumps(attributes, ensure_ascii=False).encode()[:-1], b', "data": ', data]
        if previous:
            parts += [b', "previous": ', previous]
        if traceparent:
            parts += [b', "traceparent": ', json.dumps(traceparent).encode()]
        # A line break in a record can only be white space between tokens.
        return b"".join(parts).replace(b"\r", b" ").replace(b"\n", b" ") + b"}"


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
        text = {name: fields[key].decode() for name, key in _TEXTS}
        return Event(
            entry_id=entry_id.decode(),
            id=text["id"],
            source=text["source"],
            type=text["type"],
            subject=text["subject"],
            time=text["time"],
            sequence=int(text["sequence"]),
            version=int(text["version"]),
            reason=text["reason"],
            changed=split_names(text["changed"]),
            data=decoded(fields[b"data"], fields.get(b"dataencoding", b"identity").decode()),
            previous=fields.get(b"previous", b"").decode(),
            dataschema=text["dataschema"],
            datacontenttype=text["datacontenttype"],
            specversion=text["specversion"],
            traceparent=fields.get(b"traceparent", b"").decode(),
        )
    except (KeyError, ValueError) as error:
        reason = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"stream entry {entry_id.decode('utf-8', 'replace')} is not an event of ordermesh-sync: {reason}. "
            "Another program writes to this stream. Inspect the entry with XRANGE; remove it with XDEL if it is "
            "not needed."
        ) from None
