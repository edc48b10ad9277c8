"""The table of schemas as JSON Schema (2020-12, as in OpenAPI 3.1).

Objects may have unknown fields, and every field may be null unless the table says otherwise. Enumerations, whose values
are not documented, only have a type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from worker.ordermesh.schemas import SCHEMAS, Field, Schema, element

if TYPE_CHECKING:
    from collections.abc import Iterable

JsonSchema: TypeAlias = dict[str, Any]
"""A schema as decoded JSON."""

IN_OPENAPI = "#/components/schemas/"
IN_BUNDLE = "#/$defs/"


def bundle(name: str) -> JsonSchema:
    """Return a self-contained schema, with every schema that it refers to in `$defs`."""
    definitions = {item: json_schema(SCHEMAS[item], IN_BUNDLE) for item in needed_by([name])}
    return {"$ref": IN_BUNDLE + name, "$defs": definitions}


def needed_by(names: Iterable[str]) -> list[str]:
    """Return these schemas and all that their fields refer to, in alphabetical order."""
    result: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in SCHEMAS and name not in result:
            result.add(name)
            todo += [element(item.type) for item in SCHEMAS[name].fields]
            todo.append(element(SCHEMAS[name].type))
    return [name for name in SCHEMAS if name in result]


def json_schema(schema: Schema, refs: str) -> JsonSchema:
    """Return the schema of a row of the table; `refs` is the prefix of references to other schemas."""
    result = of_type(schema.type, refs)
    if schema.note:
        result["description"] = schema.note
    if schema.fields:
        result["properties"] = {each.name: of_field(each, refs) for each in schema.fields}
    required = [item.name for item in schema.fields if item.required]
    if required:
        result["required"] = required
    return result


def of_field(field: Field, refs: str) -> JsonSchema:
    """Return the schema of a field, with null if it is nullable."""
    result = of_type(field.type, refs)
    if not field.nullable or not result:
        return result
    if "$ref" in result:
        return {"anyOf": [result, {"type": "null"}]}
    return result | {"type": [result["type"], "null"]}


def of_type(type_: str, refs: str) -> JsonSchema:
    """Return the schema of a type of the table: a basic type, another schema, or a list of one of these."""
    if type_.startswith("["):
        return {"type": "array", "items": of_type(element(type_), refs)}
    if type_ in SCHEMAS:
        return {"$ref": refs + type_}
    return {} if type_ == "any" else {"type": type_}
