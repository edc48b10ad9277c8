"""The known fields of the records of OrderMesh, as JSON Schema (2020-12), for consumers of events.

Unlike the schemas of request bodies, these schemas promise little, because OrderMesh has not committed to them: an
object may have further fields, each known field may be missing or null, and enumerations are open. Only the id of a
record is certain.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.schemas import SCHEMAS, Field, Schema, element, records_schema

JsonSchema: TypeAlias = dict[str, Any]
"""A schema as decoded JSON."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_AS_READ_SINGLY = {"SearchOrderModel": "GetOrderModel", "SearchShipmentModel": "ShipmentDTO"}
"""The schemas of these lists are known by name only; the schemas of the single records are used instead."""
_DEFS = "#/$defs/"
_ID: JsonSchema = {"anyOf": [{"type": "string"}, {"type": "integer"}], "description": "Id of the record."}
_TIME = re.compile(r"(At|Date|timestamp)$")
_TIME_NOTE = "A time as OrderMesh served it, ISO 8601."


def row_of(search: str) -> str:
    """Return the name of the schema of the records that a list operation returns."""
    operation = OPERATIONS[search]
    name = records_schema(operation.answer or "", operation.records or "") or ""
    return _AS_READ_SINGLY.get(name, name)


def record_schema(search: str, uri: str, title: str, id_field: str = "id") -> JsonSchema:
    """Return the JSON Schema, with `$id` `uri`, of the records that a list operation returns."""
    name = row_of(search)
    row = _object(SCHEMAS[name])
    properties = {**row.pop("properties"), id_field: _ID}
    definitions = {item: {"title": item, **_object(SCHEMAS[item])} for item in _referenced_by(name)}
    return {
        "$schema": DIALECT,
        "$id": uri,
        "title": title,
        "description": f"The known fields of a record, from the vendor's schema {name}. A record may have other "
        "fields, and every field except the id may be missing or null. A privacy policy may remove fields that "
        "OrderMesh serves, and a hashed value is always a string.",
        "type": "object",
        "required": [id_field],
        "properties": properties,
        "additionalProperties": True,
        **({"$defs": definitions} if definitions else {}),
    }


def entry_schema(uri: str, title: str) -> JsonSchema:
    """Return the JSON Schema, with `$id` `uri`, of the entries of an audit log."""
    return {
        "$schema": DIALECT,
        "$id": uri,
        "title": f"{title} entry",
        "description": "An entry of an audit log. The vendor documents that audit logs exist, but not the fields of "
        "their entries. An entry is published as served; a privacy policy may remove fields.",
    }


def _referenced_by(name: str) -> list[str]:
    """Return the other schemas that a schema refers to, directly or not, in alphabetical order."""
    result: set[str] = set()
    todo = [name]
    while todo:
        types = {element(field.type) for field in SCHEMAS[todo.pop()].fields}
        new = sorted(types & SCHEMAS.keys() - result)
        result.update(new)
        todo += new
    return sorted(result)


def _object(row: Schema) -> JsonSchema:
    result: JsonSchema = {"type": [row.type, "null"]} if row.type != "any" else {}
    if row.note:
        result["description"] = row.note
    if row.fields:
        result["properties"] = {field.name: _described(field) for field in row.fields}
    return result


def _described(field: Field) -> JsonSchema:
    # No `format`: some services serve times without a zone, a gateway other forms, and a privacy policy hashes.
    is_time = field.type == "string" and _TIME.search(field.name)
    return {**_field(field), "description": _TIME_NOTE} if is_time else _field(field)


def _field(field: Field) -> JsonSchema:
    if field.type.startswith("["):
        return {"type": ["array", "null"], "items": _type(element(field.type))}
    return _type(field.type)


def _type(name: str) -> JsonSchema:
    if name in SCHEMAS:
        return {"$ref": _DEFS + name}
    return {} if name == "any" else {"type": [name, "null"]}
