"""The shipment service: shipments, their packages, packing slips.

The vendor documents only the path and the response of reading one shipment, and the body of rerouting. Statuses are
integers; times have no time zone and are in UTC (docs/reference/api-facts.md, 6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.ordermesh.http.bulk import MAX_IN_BULK
from worker.ordermesh.services.group import PAGE_SIZE, ServiceGroup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from worker.ordermesh.bodies import Body
    from worker.ordermesh.http.bulk import BulkReply
    from worker.ordermesh.http.reply import AuditReply, ListReply, Reply


class Shipments(ServiceGroup):
    """Shipments: the part of an order that one vendor's facility makes and sends."""

    async def packing_slip(self, shipment_id: str) -> Reply:
        """Return the packing slip: `raw` is the document, `media_type` its type. Path and method inferred."""
        return await self._call("shipments.packing_slip", shipment_id)

    async def get(self, shipment_id: str) -> Reply:
        """Return a shipment. Path documented in the older portal, response documented."""
        return await self._call("shipments.get", shipment_id)

    async def update(self, shipment_id: str, body: Body) -> Reply:
        """Change fields of a shipment. Path inferred; the fields are not documented."""
        return await self._call("shipments.update", shipment_id, body=body)

    async def delete(self, shipment_id: str) -> Reply:
        """Delete a shipment with its packages. Path inferred."""
        return await self._call("shipments.delete", shipment_id)

    async def for_order(self, order_id: str, *, extra: Mapping[str, str] | None = None) -> ListReply:
        """Return all shipments of an order. Path inferred; a single shipment may be returned without a list."""
        return await self._list("shipments.for_order", order_id, extra=extra)

    async def create(self, order_id: str, vendor_id: str, body: Body | None = None) -> Reply:
        """Create a shipment of items of an order by a vendor. Path inferred; the fields are not documented."""
        return await self._call("shipments.create", order_id, vendor_id, body=body)

    async def for_order_and_vendor(self, order_id: str, vendor_id: str) -> Reply:
        """Return the shipment of an order by a vendor, with its packages. Path inferred."""
        return await self._call("shipments.for_order_and_vendor", order_id, vendor_id)

    async def for_order_item(self, order_item_id: str) -> Reply:
        """Return the shipment that contains an order item. Path inferred."""
        return await self._call("shipments.for_order_item", order_item_id)

    async def cancel(self, shipment_id: str, body: Body | None = None) -> Reply:
        """Cancel a shipment. Path inferred; the fields are not documented."""
        return await self._call("shipments.cancel", shipment_id, body=body)

    async def unassign(self, shipment_id: str, body: Body | None = None) -> Reply:
        """Remove items from a shipment. Path inferred; the fields are not documented."""
        return await self._call("shipments.unassign", shipment_id, body=body)

    async def resubmit(self, shipment_id: str) -> Reply:
        """Send a shipment to its facility again. Path inferred."""
        return await self._call("shipments.resubmit", shipment_id)

    async def retry_polling(self, shipment_id: str) -> Reply:
        """Make the vendor's system poll for a shipment again. Path and method inferred."""
        return await self._call("shipments.retry_polling", shipment_id)

    async def search(
        self,
        *,
        page: int = 0,
        page_size: int = PAGE_SIZE,
        order_id: str | None = None,
        merchant_id: str | None = None,
        vendor_id: str | None = None,
        facility_id: str | None = None,
        shipment_status: int | None = None,
        created_date_from: datetime | str | None = None,
        created_date_to: datetime | str | None = None,
        last_modified_date_from: datetime | str | None = None,
        sort_by: str | None = None,
        sort_direction: str | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> ListReply:
        """Return a page of shipments. Path and filters inferred; the server may ignore a filter it does not know."""
        filters = {
            "orderId": order_id,
            "merchantId": merchant_id,
            "vendorId": vendor_id,
            "facilityId": facility_id,
            "shipmentStatus": shipment_status,
            "createdDateFrom": created_date_from,
            "createdDateTo": created_date_to,
            "lastModifiedDateFrom": last_modified_date_from,
            "sortBy": sort_by,
            "sortDirection": sort_direction,
        }
        return await self._list("shipments.search", filters=filters, extra=extra, paged=(page, page_size))

    async def reroute(self, body: Body) -> Reply:
        """Move a shipment to another facility: a `Reroute`. Body documented, path inferred."""
        return await self._call("shipments.reroute", body=body)

    async def reject(self, shipment_id: str, body: Body | None = None) -> Reply:
        """Reject a shipment, as a vendor. Path and method inferred; the fields are not documented."""
        return await self._call("shipments.reject", shipment_id, body=body)

    async def reroute_many(self, reroutes: Sequence[Body], *, most_in_bulk: int = MAX_IN_BULK) -> BulkReply:
        """Move several shipments to other facilities: each a `Reroute`. Body documented, path inferred.

        Raises:
            PartialBulk: One of several requests failed after others had succeeded.

        """
        return await self._write_many("shipments.reroute_many", reroutes, most_in_bulk)

    async def audit_logs(
        self,
        shipment_id: str,
        *,
        page: int | None = None,
        page_size: int = PAGE_SIZE,
        resource_format: str | None = None,
    ) -> AuditReply:
        """Return the audit log of a shipment. Path and the parameter `format` inferred."""
        return await self._audit(
            "shipments.audit_logs",
            shipment_id,
            page=page,
            page_size=page_size,
            resource_format=resource_format,
        )

    async def message_audit_logs(
        self,
        shipment_id: str,
        *,
        page: int | None = None,
        page_size: int = PAGE_SIZE,
        resource_format: str | None = None,
    ) -> AuditReply:
        """Return the audit log of the messages of a shipment's updates. Path and the parameter `format` inferred."""
        return await self._audit(
            "shipments.message_audit_logs",
            shipment_id,
            page=page,
            page_size=page_size,
            resource_format=resource_format,
        )

    async def assign(self, shipment_id: str, body: Body | None = None) -> Reply:
        """Assign a shipment. Path and method inferred; the fields are not documented."""
        return await self._call("shipments.assign", shipment_id, body=body)


class Packages(ServiceGroup):
    """Packages of a shipment, with their tracking."""

    async def create(self, shipment_id: str, body: Body) -> Reply:
        """Create a package: a `CreatePackageDTO`, whose fields are inferred. Path inferred."""
        return await self._call("packages.create", shipment_id, body=body)

    async def update(self, shipment_id: str, package_id: str, body: Body) -> Reply:
        """Change fields of a package: an `UpdatePackageDTO`, whose fields are inferred. Path inferred."""
        return await self._call("packages.update", shipment_id, package_id, body=body)

    async def delete(self, shipment_id: str, package_id: str) -> Reply:
        """Delete a package. Path and method inferred; the operation is only in the QA portal."""
        return await self._call("packages.delete", shipment_id, package_id)

    async def audit_logs(
        self,
        shipment_id: str,
        package_id: str,
        *,
        page: int | None = None,
        page_size: int = PAGE_SIZE,
        resource_format: str | None = None,
    ) -> AuditReply:
        """Return the audit log of a package. Path and the parameter `format` inferred."""
        return await self._audit(
            "packages.audit_logs",
            shipment_id,
            package_id,
            page=page,
            page_size=page_size,
            resource_format=resource_format,
        )
