"""The envelope of an event: CloudEvents 1.0 attributes as flat stream fields, and the record as served.

Field order on the stream: specversion id source type subject time datacontenttype dataschema sequence
version reason changed data. The order is always the same, because Redis then stores the names once for a
whole node of the stream. Behind them stand, where they are switched on, dataencoding, previous and traceparent.
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
"""Fields that an event has where an option asks for them, in this order, behind the others."""


class Encoding(StrEnum):
    """How `data` is stored. Without the field it is `identity`."""

    IDENTITY = "identity"
    """As it is."""
    GZIP = "gzip"


def source(account: str, resource: str) -> str:
    """CloudEvents `source`, a URI reference: unique for an account and a resource."""
    return f"/ordersync/{account}/{resource}"


def data_schema(entity: str, version: int) -> str:
    """CloudEvents `dataschema`: the name and version of what is known of the records of an entity."""
    return f"urn:ordersync:{entity}:{version}"


def event_type(entity: str, action: str) -> str:
    """CloudEvents `type`, such as `io.ordermesh.order.updated`."""
    return f"{TYPE_PREFIX}{entity}.{action}"


def event_id(entity: str, subject: str, version: int, content: int) -> str:
    """CloudEvents `id`: the same for the same version of the same record, whoever publishes it.

    The content is part of it: if Redis loses its last second, the version that is published anew has the
    same id only if it says the same, and a consumer that remembers ids is never misled.
    """
    return f"{entity}:{subject}:{version}:{content:08x}"


def join_names(names: tuple[str, ...]) -> str:
    """`changed` as one text: names with commas between them, a comma in a name as `%2C`, no name as `%`."""
    return ",".join(name.replace("%", "%25").replace(",", "%2C") or "%" for name in names)


def split_names(text: str) -> tuple[str, ...]:
    """The names that `join_names` joined."""
    if not text:
        return ()
    return tuple(
        "" if name == "%" else name.replace("%2C", ",").replace("%25", "%") for name in text.split(",")
    )


@dataclass(frozen=True, slots=True)
class Event:
    """An event as a consumer sees it. `entry_id` is its place in the stream; `data` the record as served.

    `data` is decompressed already. `previous`: the values that the fields in `changed` had before, as a JSON
    object; "" where it is not known or not asked for. `traceparent`: the run that published it, as a place in a W3C
    trace; "" where it is not asked for.
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
    def action(self) -> str:
        """The last word of the type: snapshot, created, updated, deleted, recorded."""
        return self.type.rpartition(".")[2]

    def json_line(self) -> bytes:
        """The event as one line of JSON, without its end: `data` and `previous` stand in it as they were written."""
        attributes = asdict(self)
        data, previous = attributes.pop("data"), attributes.pop("previous").encode()
        traceparent = attributes.pop("traceparent")
        parts = [json.dumps(attributes, ensure_ascii=False).encode()[:-1], b', "data": ', data]
        if previous:
            parts += [b', "previous": ', previous]
        if traceparent:
            parts += [b', "traceparent": ', json.dumps(traceparent).encode()]
        # A line break can only stand between the tokens of a record, and would end our line.
        return b"".join(parts).replace(b"\r", b" ").replace(b"\n", b" ") + b"}"


def decoded(data: bytes, encoding: str) -> bytes:
    """The record in `data`, which is stored by an encoding.

    Raises:
        ValueError: The encoding is not known here, or the bytes are not of it.

    """
    if encoding == Encoding.IDENTITY:
        return data
    if encoding != Encoding.GZIP:
        raise ValueError(f"dataencoding {encoding!r} is not known to this version")
    try:
        return zlib.decompress(data, 31)  # 31: with the header of gzip
    except zlib.error as error:
        raise ValueError(f"data is not gzip: {error}") from None


def parse(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Event:
    """The event of a stream entry.

    Raises:
        DataError: The entry was not written by this program.

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
            "Something else writes to this stream; remove the entry with XDEL when you know what it is."
        ) from None
