"""The page of event schemas: the streams, the fields of an event, of dead letters, and of the records in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ordersync_consumer.envelope import TYPE_PREFIX, data_schema
from worker.capture.registry import CAPTURED
from worker.contracts.asyncapi import schema_file
from worker.contracts.compatibility import ORDER, promise_of
from worker.contracts.event_schema import actions, envelope_schema, letter_schemas
from worker.contracts.markdown import code, page, table
from worker.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping

_ABOUT = """\
The contract of the streams: `deploy/asyncapi.yaml` (AsyncAPI 3.0) describes it for programs, and the files in
`deploy/schemas` are its JSON Schemas (2020-12). [Events](../consume/events.md) explains how to read them, and what a
new version may change.
"""
_ENVELOPE = """\
An entry of a stream is a CloudEvent 1.0. Its attributes are fields of the entry, always in this order; all values are
texts. The fields from `dataencoding` on are present only where a setting enables them.
"""
_LETTERS = """\
Each resource has a stream of dead letters, `{stream}` for orders. A letter is one of two kinds. An undeliverable event
is stored whole: `data`, and each other field of the event with the prefix `event.`.
"""
_RECORDS = """\
The fields of `data` that are known, as paths: `items[].sku` is the field `sku` of each element of the list `items`.
OrderMesh documents its records only in part. A schema therefore allows further fields, and any field except the id may
be missing or null. The entries of audit logs are published as served; no field of them is documented.
"""


def event_page(schemas: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the whole page. `schemas`: every published schema by its `$id`."""
    keys = Keys("ACCOUNT")
    streams = [
        (
            f"`{each.name}`",
            f"`{keys.stream(each.name)}`",
            f"`{TYPE_PREFIX}{each.entity}.ACTION`",
            code(actions(each)),
            f"`{data_schema(each.entity, each.schema_version)}`",
        )
        for each in CAPTURED.values()
    ]
    return page(
        "Event schemas",
        _ABOUT,
        "## Streams\n\n" + table(("resource", "stream", "`type`", "actions", "`dataschema`"), streams),
        f"## Fields of an event\n\n{_ENVELOPE}",
        _properties(envelope_schema()),
        "## Dead letters\n\n" + _LETTERS.format(stream=keys.dead("orders")),
        *(
            f"### {each['title']}\n\n{each['description']}\n\n{_properties(each)}"
            for each in letter_schemas().values()
        ),
        f"## Records\n\n{_RECORDS}",
        *(_record(uri, schema) for uri, schema in schemas.items() if _describes_a_record(uri, schema)),
    )


def _properties(schema: Mapping[str, Any]) -> str:
    rows = [
        (f"`{name}`", "yes" if name in schema["required"] else "", _meaning(each))
        for name, each in schema["properties"].items()
        if not name.startswith("event.")
    ]
    return table(("field", "always present", "meaning"), rows)


def _meaning(schema: Mapping[str, Any]) -> str:
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    shown = " or ".join(f"`{each}`" for each in values)
    return " ".join(part for part in (shown and f"{shown}.", schema.get("description", "")) if part)


def _describes_a_record(uri: str, schema: Mapping[str, Any]) -> bool:
    entities = {data_schema(each.entity, each.schema_version) for each in CAPTURED.values()}
    return uri in entities and "properties" in schema


def _record(uri: str, schema: Mapping[str, Any]) -> str:
    rows = [(f"`{path}`", kind) for path, kind in promise_of(schema).items() if path not in {"", ORDER}]
    return (
        f"### {schema['title']}\n\n`{uri}`, `deploy/{schema_file(uri)}`\n\n{table(('field', 'kind'), rows)}"
    )
