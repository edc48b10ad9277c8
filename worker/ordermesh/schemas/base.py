"""The rows of the table of schemas, and the short notation of a row.

The rows are in the other modules of this package, one for each service; the package combines them.
"""

from __future__ import annotations

from dataclasses import dataclass

BASIC_TYPES = ("string", "integer", "number", "boolean", "object", "any")
"""The types of JSON that a field may have, besides the names of schemas. `any`: several types, or unknown."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a schema."""

    name: str
    type: str
    """One of `BASIC_TYPES`, the name of another schema, or `[...]` around one of these for a list.

    The schema of a nested object is inferred from its name and fields, unless a page of the vendor names it.
    """
    source: str
    """`seed`, `vendor:PAGE` or `inferred: BASIS`: where the name and the type come from."""
    nullable: bool = True
    required: bool = False

    @property
    def documented(self) -> bool:
        """True if a page of the vendor shows the field."""
        return not self.source.startswith("inferred")


@dataclass(frozen=True, slots=True)
class Schema:
    """One schema of the portal."""

    name: str
    services: tuple[str, ...]
    fields: tuple[Field, ...] = ()
    """The known fields; empty if the portal only contains the name."""
    note: str = ""
    type: str = "object"
    """`object`, or the type of an enumeration or a list, as in `Field.type`."""

    @property
    def documented(self) -> bool:
        """True if a page of the vendor shows any of its fields."""
        return any(field.documented for field in self.fields)


def fields(source: str, *rows: str) -> tuple[Field, ...]:
    """Return the fields from one source, each written as `name: type`.

    A `!` after the type marks a field that is required and not null.
    """
    return tuple(_field(source, row) for row in rows)


def schema(
    name: str,
    services: str,
    *groups: tuple[Field, ...],
    note: str = "",
    type: str = "object",  # noqa: A002 - the name in JSON Schema
) -> Schema:
    """Return a schema of one or more services (`order catalog`) with the fields of all groups, in order."""
    return Schema(
        name, tuple(services.split()), tuple(item for group in groups for item in group), note, type
    )


def undocumented(services: str, names: str) -> tuple[Schema, ...]:
    """Return schemas of which only the names are known; `names` is separated by spaces."""
    return tuple(schema(name, services) for name in names.split())


def element(type_: str) -> str:
    """Return the type of the elements of a list type; any other type unchanged."""
    return type_[1:-1] if type_.startswith("[") else type_


def _field(source: str, row: str) -> Field:
    name, _, type_ = row.partition(": ")
    required = type_.endswith("!")
    return Field(name, type_.removesuffix("!"), source, nullable=not required, required=required)
