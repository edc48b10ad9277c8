"""What the engine has to know of a resource to capture its changes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of record that OrderMesh serves.

    `name` is what users call it, and part of every key (`orders`); `entity` is one of it, and part of every
    event type (`order`). `search` is the key of the list operation, `single` that of the one that reads a record by
    its id, `audit` that of its audit logs; None where there is none. `id_field` names the field that
    identifies a record, `modified_fields` those that say when it changed last, the first that has a value
    counts: `updatedAt` is null until the first change (api-facts 3.3).
    """

    name: str
    entity: str
    search: str
    single: str | None = None
    audit: str | None = None
    id_field: str = "id"
    modified_fields: tuple[str, ...] = ("updatedAt", "createdAt")
    schema_version: int = 1
