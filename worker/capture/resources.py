"""The types that describe what is captured: resources, which are lists of records, and audit logs."""

from __future__ import annotations

from functools import cached_property
from typing import TypeAlias

import msgspec


class FollowUp(msgspec.Struct, frozen=True):
    """A read that a change of a record adds to the refresh queue, in the commit that publishes the change.

    Attributes:
        target: The resource or the audit log to read.
        ids: The path to the ids in the record: a field that contains a list of ids, or a list of objects and the field
            of their ids. If it is empty, the record's own id is used: for an audit log, to read the log of the
            record; for a resource, to read the records that belong to it.
        snapshots: Also read for a record of the past that is found after the first full scan has ended. What the first
            full scan itself finds is followed up by nobody: resources have a first full scan of their own, and audit
            logs of known records are read as a backlog (`refresh/backlog.py`), if at all.

    """

    target: str
    ids: tuple[str, ...] = ()
    snapshots: bool = False

    @property
    def is_within(self) -> bool:
        """True if it reads the logs of nested objects, such as the packages of a shipment.

        The change that removes a nested object from the record also adds a read of its log.
        """
        return len(self.ids) > 1


class Resource(msgspec.Struct, frozen=True, dict=True):
    """A kind of record that OrderMesh serves as a list.

    Operations are named by their keys; None if the API has no such operation.

    Attributes:
        name: The name for users, part of every key (`orders`).
        entity: The singular, part of every event type (`order`).
        search: The list operation.
        single: The operation that reads a record by its id.
        by_safe_id: The operation that reads a record by its safe id.
        by_parent: The operation that lists the records of one parent.
        parent_field: The field with the id of the parent.
        audit: The operation that reads the audit logs of a record.
        id_field: The field with the id.
        modified_fields: The fields with the modification time. The first one with a value is used: `updatedAt` is null
            until the first change (docs/reference/api-facts.md, 3.3). The last one is the creation time.
        merchant_field: The field with the merchant, also the likely name of a query parameter.
        status_field: The field with the status, also the likely name of a query parameter.
        follow_ups: The reads that a change of a record adds.
        schema_version: Version of the event schema.

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

    @cached_property
    def linked_fields(self) -> tuple[str, ...]:
        """The fields of a record that contain the ids to read after it has changed."""
        return tuple(follow_up.ids[0] for follow_up in self.follow_ups if follow_up.ids)

    @cached_property
    def read_fields(self) -> tuple[str, ...]:
        """The fields of a record whose values are read: `modified_fields`, then `linked_fields`."""
        return self.modified_fields + self.linked_fields


class AuditLog(msgspec.Struct, frozen=True):
    """The audit logs of the records of one resource, `parent`, or of objects nested in them.

    OrderMesh has no feed of audit entries across records (docs/reference/api-facts.md, 1.8), so a log is read when
    its record has changed. `operation` is the key of the operation that reads one; the values of its path parameters,
    in order, are the id of the record, or the ids of the record and of the nested object, such as a package in a
    shipment.
    """

    name: str
    entity: str
    operation: str
    parent: Resource
    schema_version: int = 1


Captured: TypeAlias = Resource | AuditLog
