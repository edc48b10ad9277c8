"""What a row of the table of schemas is, and the short notation in which the rows are written.

The rows stand beside this module, one file for each service; the package puts them together.
"""

from __future__ import annotations

from dataclasses import dataclass

BASIC_TYPES = ("string", "integer", "number", "boolean", "object", "any")
"""The types of JSON that a field may have, beside the names of schemas. `any`: more than one, or not known."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a schema.

    `type` is `string`, `integer`, `number`, `boolean`, `object`, `any`, the name of another schema, or `[...]`
    around one of these for a list. `source` is `seed`, `vendor:PAGE` or `inferred: BASIS`; it speaks for the name
    of the field and the type of its value. Which named schema a nested object has is inferred, by its name and
    fields, unless a page says so.
    """

    name: str
    type: str
    source: str
    nullable: bool = True
    required: bool = False

    @property
    def documented(self) -> bool:
        """Whether a page of the vendor shows it."""
        return not self.source.startswith("inferred")


@dataclass(frozen=True, slots=True)
class Schema:
    """One schema of the portal.

    Without `fields`: it is named there, and its fields are not documented. `type` is `object`, or for
    enumerations and lists what they are instead, in the words of `Field.type`.
    """

    name: str
    services: tuple[str, ...]
    fields: tuple[Field, ...] = ()
    note: str = ""
    type: str = "object"

    @property
    def documented(self) -> bool:
        """Whether a page of the vendor shows any of its fields."""
        return any(field.documented for field in self.fields)


def fields(source: str, *rows: str) -> tuple[Field, ...]:
    """Fields that are known from one source, each written `name: type`.

    A `!` after the type marks a field that must be there and is not null.
    """
    return tuple(_field(source, row) for row in rows)


def schema(
    name: str,
    services: str,
    *groups: tuple[Field, ...],
    note: str = "",
    type: str = "object",  # noqa: A002
) -> Schema:
    """A schema of one or more services (`order catalog`) with the fields of all groups, in their order."""
    return Schema(
        name, tuple(services.split()), tuple(item for group in groups for item in group), note, type
    )


def undocumented(services: str, names: str) -> tuple[Schema, ...]:
    """Schemas of which no more than the name is known, separated by spaces."""
    return tuple(schema(name, services) for name in names.split())


def element(type_: str) -> str:
    """The type of the elements of a list type; any other type as it stands."""
    return type_[1:-1] if type_.startswith("[") else type_


def _field(source: str, row: str) -> Field:
    name, _, type_ = row.partition(": ")
    required = type_.endswith("!")
    return Field(name, type_.removesuffix("!"), source, nullable=not required, required=required)
