"""What is known of the records of OrderMesh, as JSON Schema (2020-12), for those who read them from events.

Unlike the schemas of the bodies of requests these promise little, since nobody keeps OrderMesh to them: an object
may have more fields than are known, each known one may be missing or null, and an enumeration is open. Only the id
of a record is certain.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.schemas import SCHEMAS, Field, Schema, element, records_schema

JsonSchema: TypeAlias = dict[str, Any]
"""A schema as decoded JSON."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_AS_READ_SINGLY = {"SearchOrderModel": "GetOrderModel", "SearchShipmentModel": "ShipmentDTO"}
"""Of the records of these lists only the name is known; they are taken to be those of the single read."""
_DEFS = "#/$defs/"


def row_of(search: str) -> str:
    """The name of the schema of the records that a list operation gives."""
    operation = OPERATIONS[search]
    name = records_schema(operation.answer or "", operation.records or "") or ""
    return _AS_READ_SINGLY.get(name, name)


def record_schema(search: str, uri: str, title: str, id_field: str = "id") -> JsonSchema:
    """The JSON Schema, with `$id` `uri`, of the records that a list operation gives."""
    name = row_of(search)
    row = _object(SCHEMAS[name])
    properties = {**row.pop("properties"), id_field: {"type": ["string", "integer"]}}
    beside = {item: _object(SCHEMAS[item]) for item in _needed_by(name)}
    return {
        "$schema": DIALECT,
        "$id": uri,
        "title": title,
        "description": f"Known fields of a record, by the schema {name} of the vendor. There may be others, and any "
        "but the id may be missing or null. Under a privacy policy fields may be missing that OrderMesh serves, and "
        "a hashed value is a text, whatever it was.",
        "type": "object",
        "required": [id_field],
        "properties": properties,
        "additionalProperties": True,
        **({"$defs": beside} if beside else {}),
    }


def entry_schema(uri: str, title: str) -> JsonSchema:
    """The JSON Schema, with `$id` `uri`, of the entries of an audit log."""
    return {
        "$schema": DIALECT,
        "$id": uri,
        "title": f"{title} entry",
        "description": "An entry of an audit log. The vendor documents that there are such logs, and no field of an "
        "entry: it is published as served, whatever it is. Under a privacy policy fields may be missing.",
        "additionalProperties": True,
    }


def _needed_by(name: str) -> list[str]:
    """The other schemas that a schema refers to, in alphabetical order."""
    result: set[str] = set()
    todo = [name]
    while todo:
        types = {element(field.type) for field in SCHEMAS[todo.pop()].fields}
        new = sorted(types & SCHEMAS.keys() - result)
        result.update(new)
        todo += new
    return sorted(result)


def _object(row: Schema) -> JsonSchema:
    made: JsonSchema = {"type": [row.type, "null"]} if row.type != "any" else {}
    if row.note:
        made["description"] = row.note
    if row.fields:
        made["properties"] = {field.name: _field(field) for field in row.fields}
    return made


def _field(field: Field) -> JsonSchema:
    if field.type.startswith("["):
        return {"type": ["array", "null"], "items": _type(element(field.type))}
    return _type(field.type)


def _type(name: str) -> JsonSchema:
    if name in SCHEMAS:
        return {"$ref": _DEFS + name}
    return {} if name == "any" else {"type": [name, "null"]}
