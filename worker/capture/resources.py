"""What the engine has to know of what it captures: resources, which are lists of records, and audit logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A read that a change of a record makes due, in the same commit that publishes the change.

    `target` is the resource or the audit log that is read. `ids` leads to the ids in the record: the name of a field
    that holds a list of them, or of a list of objects and of their field. Without it the record's own id is
    meant: of an audit log, the log of this record; of a resource, the records that belong to this one.
    `first`: also for records that the first complete read finds. Other resources have one of their own.
    """

    target: str
    ids: tuple[str, ...] = ()
    first: bool = True

    @property
    def is_within(self) -> bool:
        """Whether it reads of something within the record, such as the packages of a shipment.

        What has been taken out of it is read of as well, with the change that took it out.
        """
        return len(self.ids) > 1


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of record that OrderMesh serves as a list.

    `name` is what users call it, and part of every key (`orders`); `entity` is one of it, and part of every
    event type (`order`). `search` is the key of the list operation, `single` that of the one that reads a record by
    its id, `by_safe_id` by its safe id, `by_parent` that of the one that lists the records of the parent whose id
    stands in `parent_field`, `audit` that of its audit logs; None where there is none. `id_field` names the field that
    identifies a record, `modified_fields` those that say when it changed last, the first that has a value counts:
    `updatedAt` is null until the first change (docs/reference/api-facts.md, 3.3). `merchant_field`, `status_field`:
    where a record names its merchant and its status, which are also the likely names of query parameters; None where
    it has none. `follow_ups`: what else is read when a record of it has changed.
    """

    name: str
    entity: str
    search: str
    single: str | None = None
    by_safe_id: str | None = None
    by_parent: str | None = None
    parent_field: str | None = None
    audit: str | None = None
    id_field: str = "id"
    modified_fields: tuple[str, ...] = ("updatedAt", "createdAt")
    merchant_field: str | None = None
    status_field: str | None = None
    follow_ups: tuple[FollowUp, ...] = ()
    schema_version: int = 1


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The audit logs of the records of one resource, `parent`, or of what stands in them.

    OrderMesh has no feed of audit entries across records (docs/reference/api-facts.md, 1.8), so a log is read when
    its record has changed. `operation` is the key of the operation that reads one; the values of its path parameters,
    in order, are the id of the record, or those of the record and of what it holds, as of a package in a shipment.
    """

    name: str
    entity: str
    operation: str
    parent: Resource
    schema_version: int = 1


Captured: TypeAlias = Resource | AuditLog
