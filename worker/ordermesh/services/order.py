"""The order service: orders, their items, refunds.

The vendor documents only the path and body of the creation of an order, and the responses of reading an order by its
safe id and of reading an item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.ordermesh.http.bulk import MAX_IN_BULK
from worker.ordermesh.services.group import PAGE_SIZE, Caller, ServiceGroup
from worker.ordermesh.services.once import create_once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from worker.clock import Clock
    from worker.ordermesh.bodies import Body
    from worker.ordermesh.http.bulk import BulkReply
    from worker.ordermesh.http.reply import AuditReply, ListReply, Reply
    from worker.ordermesh.services.once import PlacedOrder


class Orders(ServiceGroup):
    """Orders. Statuses are strings; `updatedAt` is null until the first change."""

    __slots__ = ("_clock",)

    def __init__(self, client: Caller, clock: Clock) -> None:
        super().__init__(client)
        self._clock = clock

    async def create(self, body: Body) -> Reply:
        """Create an order: a `CreateOrderModel`. Path and body documented. Prefer `create_once`.

        Raises:
            OutcomeUnknown: The order was sent, and the response was lost. Look the order up by its safe id.
            Conflict: An order with this safe id exists.

        """
        return await self._call("orders.create", body=body)

    async def create_once(self, body: Body) -> PlacedOrder:
        """Create an order unless one with its `safeId` exists, and return it, even if a response is lost meanwhile.

        Raises:
            ValueError: `body` has no `safeId`.
            OutcomeUnknown: The response was lost and the order was not found. It is not sent a second time, because
                it may still be created.
            Conflict: The server reports a conflict, and no order with this safe id exists.

        """
        return await create_once(self.create, self.get_by_safe_id, body, self._clock)

    async def search(
        self,
        *,
        page: int = 0,
        page_size: int = PAGE_SIZE,
        merchant_id: str | None = None,
        status: str | None = None,
        external_id: str | None = None,
        safe_id: str | None = None,
        short_id: str | None = None,
        is_test: bool | None = None,
        created_from: datetime | str | None = None,
        created_to: datetime | str | None = None,
        updated_from: datetime | str | None = None,
        updated_to: datetime | str | None = None,
        sort_by: str | None = None,
        sort_direction: str | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> ListReply:
        """Return a page of orders. Path and filters inferred; the server may ignore a filter that it does not know."""
        filters = {
            "merchantId": merchant_id,
            "status": status,
            "externalId": external_id,
            "safeId": safe_id,
            "shortId": short_id,
            "isTest": is_test,
            "createdFrom": created_from,
            "createdTo": created_to,
            "updatedFrom": updated_from,
            "updatedTo": updated_to,
            "sortBy": sort_by,
            "sortDirection": sort_direction,
        }
        return await self._list("orders.search", filters=filters, extra=extra, paged=(page, page_size))

    async def create_many(self, orders: Sequence[Body], *, most_in_bulk: int = MAX_IN_BULK) -> BulkReply:
        """Create orders, each with its own `safe_id`. Envelope documented, path inferred.

        Raises:
            PartialBulk: One of several requests failed after others had succeeded.

        """
        return await self._write_many("orders.create_many", orders, most_in_bulk)

    async def get_many(self, order_ids: Sequence[str], *, most_in_bulk: int = MAX_IN_BULK) -> BulkReply:
        """Return orders by their ids. Path and query inferred.

        Raises:
            PartialBulk: One of several requests failed after others had succeeded.

        """
        return await self._read_many("orders.get_many", order_ids, most_in_bulk)

    async def update_many(self, orders: Sequence[Body], *, most_in_bulk: int = MAX_IN_BULK) -> BulkReply:
        """Change orders, each with the `id` of its order. Path and `id` inferred. The fields are not documented.

        Raises:
            PartialBulk: One of several requests failed after others had succeeded.

        """
        return await self._write_many("orders.update_many", orders, most_in_bulk)

    async def list(
        self, *, page: int = 0, page_size: int = PAGE_SIZE, extra: Mapping[str, str] | None = None
    ) -> ListReply:
        """Return a page of orders, probably with fewer fields than `search` (ListOrderModel). Path inferred."""
        return await self._list("orders.list", extra=extra, paged=(page, page_size))

    async def get(self, order_id: str) -> Reply:
        """Return an order. Path inferred."""
        return await self._call("orders.get", order_id)

    async def update(self, order_id: str, body: Body) -> Reply:
        """Change fields of an order. Path inferred; the fields are not documented."""
        return await self._call("orders.update", order_id, body=body)

    async def get_by_safe_id(self, safe_id: str) -> Reply:
        """Return an order by the safe id that it was created with. Path inferred, response documented."""
        return await self._call("orders.get_by_safe_id", safe_id)

    async def cancel(self, order_id: str, body: Body | None = None) -> Reply:
        """Cancel an order, or the items that `body` names. Path inferred; the fields are not documented."""
        return await self._call("orders.cancel", order_id, body=body)

    async def hold(self, order_id: str) -> Reply:
        """Change the status of an order to Customer Care Hold. Path inferred."""
        return await self._call("orders.hold", order_id)

    async def audit_logs(
        self,
        order_id: str,
        *,
        page: int | None = None,
        page_size: int = PAGE_SIZE,
        resource_format: str | None = None,
    ) -> AuditReply:
        """Return the audit log of an order. Path and the parameter `format` inferred."""
        return await self._audit(
            "orders.audit_logs", order_id, page=page, page_size=page_size, resource_format=resource_format
        )

    async def audit_logs_by_safe_id(
        self,
        safe_id: str,
        *,
        page: int | None = None,
        page_size: int = PAGE_SIZE,
        resource_format: str | None = None,
    ) -> AuditReply:
        """Return the audit log of an order by its safe id. Inferred: the portal lists the operation twice."""
        return await self._audit(
            "orders.audit_logs_by_safe_id",
            safe_id,
            page=page,
            page_size=page_size,
            resource_format=resource_format,
        )

    async def refund(self, body: Body) -> Reply:
        """Request refunds: an `AddRefundModel`. Body documented, path inferred."""
        return await self._call("orders.refund", body=body)


class OrderItems(ServiceGroup):
    """Items of orders. A single item does not contain the id of its order (docs/reference/api-facts.md, 3.3)."""

    async def search(
        self,
        *,
        page: int = 0,
        page_size: int = PAGE_SIZE,
        order_id: str | None = None,
        status: str | None = None,
        sku: str | None = None,
        merchant_id: str | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> ListReply:
        """Return a page of order items. Path and filters inferred."""
        filters = {"orderId": order_id, "status": status, "sku": sku, "merchantId": merchant_id}
        return await self._list("order_items.search", filters=filters, extra=extra, paged=(page, page_size))

    async def get(self, item_id: str) -> Reply:
        """Return an order item. Path inferred, response documented."""
        return await self._call("order_items.get", item_id)

    async def update(self, order_id: str, item_id: str, body: Body) -> Reply:
        """Change fields of an item within an order. Path inferred; the fields are not documented."""
        return await self._call("order_items.update", order_id, item_id, body=body)

    async def audit_logs(
        self,
        item_id: str,
        *,
        page: int | None = None,
        page_size: int = PAGE_SIZE,
        resource_format: str | None = None,
    ) -> AuditReply:
        """Return the audit log of an order item. Path and the parameter `format` inferred."""
        return await self._audit(
            "order_items.audit_logs", item_id, page=page, page_size=page_size, resource_format=resource_format
        )
