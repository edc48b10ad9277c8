"""The table of schemas as JSON Schema (2020-12, as OpenAPI 3.1 has it).

Objects may have more fields than are known, every field may be null unless the table says otherwise, and
enumerations, whose values are not documented, are of the type they have.
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
    """A schema that stands alone, with every schema it needs beside it."""
    needed = {item: json_schema(SCHEMAS[item], IN_BUNDLE) for item in needed_by([name])}
    return {"$ref": IN_BUNDLE + name, "$defs": needed}


def needed_by(names: Iterable[str]) -> list[str]:
    """These schemas and all that their fields refer to, in alphabetical order."""
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
    """A row of the table; `refs` stands before the names of other schemas."""
    made = of_type(schema.type, refs)
    if schema.note:
        made["description"] = schema.note
    if schema.fields:
        made["properties"] = {each.name: of_field(each, refs) for each in schema.fields}
    required = [item.name for item in schema.fields if item.required]
    if required:
        made["required"] = required
    return made


def of_field(field: Field, refs: str) -> JsonSchema:
    """A field, null included where it may be null."""
    made = of_type(field.type, refs)
    if not field.nullable or not made:
        return made
    if "$ref" in made:
        return {"anyOf": [made, {"type": "null"}]}
    return made | {"type": [made["type"], "null"]}


def of_type(type_: str, refs: str) -> JsonSchema:
    """A type in the words of the table: basic, another schema, or a list of one of these."""
    if type_.startswith("["):
        return {"type": "array", "items": of_type(element(type_), refs)}
    if type_ in SCHEMAS:
        return {"$ref": refs + type_}
    return {} if type_ == "any" else {"type": type_}
