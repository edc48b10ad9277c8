"""The note service. Its paths are documented except for the prefix of the service; its bodies are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.ordermesh.services.group import PAGE_SIZE, ServiceGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.ordermesh.bodies import Body
    from worker.ordermesh.http.reply import AuditReply, ListReply, Reply


class Notes(ServiceGroup):
    """Notes on orders, shipments and other records."""

    async def create(self, body: Body) -> Reply:
        """Create a note: a `CreateNoteModel`, whose fields are inferred. Path documented."""
        return await self._call("notes.create", body=body)

    async def search(
        self,
        *,
        page: int = 0,
        page_size: int = PAGE_SIZE,
        resource_id: str | None = None,
        resource_type: str | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> ListReply:
        """Return a page of notes. Path documented, filters inferred."""
        filters = {"resourceId": resource_id, "resourceType": resource_type}
        return await self._list("notes.search", filters=filters, extra=extra, paged=(page, page_size))

    async def get(self, note_id: str) -> Reply:
        """Return a note. Path documented."""
        return await self._call("notes.get", note_id)

    async def update(self, note_id: str, body: Body) -> Reply:
        """Replace a note: an `UpdateNotePayload`, whose fields are inferred. Path documented."""
        return await self._call("notes.update", note_id, body=body)

    async def delete(self, note_id: str) -> Reply:
        """Delete a note. Path documented."""
        return await self._call("notes.delete", note_id)

    async def audit_logs(
        self,
        note_id: str,
        *,
        page: int | None = None,
        page_size: int = PAGE_SIZE,
        resource_format: str | None = None,
    ) -> AuditReply:
        """Return the audit log of a note. Path documented, the parameter `format` inferred."""
        return await self._audit(
            "notes.audit_logs", note_id, page=page, page_size=page_size, resource_format=resource_format
        )
