"""The catalog service: categories, products, variants, and the catalogs of merchants.

The vendor documents only the replacement and the change of a merchant catalog, and the list of effective variants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.ordermesh.http.bulk import MAX_IN_BULK
from worker.ordermesh.services.group import PAGE_SIZE, ServiceGroup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.ordermesh.bodies import Body
    from worker.ordermesh.http.bulk import BulkReply
    from worker.ordermesh.http.reply import AuditReply, ListReply, Reply


class Categories(ServiceGroup):
    """Categories of products."""

    async def list(
        self, *, page: int = 0, page_size: int = PAGE_SIZE, extra: Mapping[str, str] | None = None
    ) -> ListReply:
        """Return a page of categories. Path inferred."""
        return await self._list("categories.list", extra=extra, paged=(page, page_size))

    async def create(self, body: Body) -> Reply:
        """Create a category. Path inferred; the fields are not documented."""
        return await self._call("categories.create", body=body)

    async def update(self, category_id: str, body: Body) -> Reply:
        """Replace a category. Path inferred; the fields are not documented."""
        return await self._call("categories.update", category_id, body=body)

    async def delete(self, category_id: str) -> Reply:
        """Delete a category. Path inferred."""
        return await self._call("categories.delete", category_id)

    async def audit_logs(
        self,
        category_id: str,
        *,
        page: int | None = None,
        page_size: int = PAGE_SIZE,
        resource_format: str | None = None,
    ) -> AuditReply:
        """Return the audit log of a category. Path and the parameter `format` inferred."""
        return await self._audit(
            "categories.audit_logs",
            category_id,
            page=page,
            page_size=page_size,
            resource_format=resource_format,
        )


class MerchantCatalogs(ServiceGroup):
    """The catalogs of merchants: the variants that they sell."""

    async def create(self, body: Body) -> Reply:
        """Create a merchant catalog: a `CreateMerchantCatalogDto`, whose fields are inferred. Path inferred."""
        return await self._call("merchant_catalogs.create", body=body)

    async def update(self, body: Body) -> Reply:
        """Replace a merchant catalog: an `UpdateMerchantCatalogDto`, which has its id. Path and body documented."""
        return await self._call("merchant_catalogs.update", body=body)

    async def patch(self, body: Body) -> Reply:
        """Change a merchant catalog: a `PatchMerchantCatalogDto`, which has its id. Path and body documented."""
        return await self._call("merchant_catalogs.patch", body=body)

    async def list(
        self, *, page: int = 0, page_size: int = PAGE_SIZE, extra: Mapping[str, str] | None = None
    ) -> ListReply:
        """Return a page of merchant catalogs. Path inferred."""
        return await self._list("merchant_catalogs.list", extra=extra, paged=(page, page_size))

    async def delete(self, catalog_id: str) -> Reply:
        """Delete a merchant catalog. Path inferred."""
        return await self._call("merchant_catalogs.delete", catalog_id)

    async def search_variants(
        self,
        catalog_id: str,
        *,
        page: int = 0,
        page_size: int = PAGE_SIZE,
        extra: Mapping[str, str] | None = None,
    ) -> ListReply:
        """Return a page of the variants in a merchant catalog. Path inferred; filters (`extra`) are not documented."""
        return await self._list(
            "merchant_catalogs.search_variants", catalog_id, extra=extra, paged=(page, page_size)
        )

    async def get(self, catalog_id: str) -> Reply:
        """Return a merchant catalog with its variants. Path inferred."""
        return await self._call("merchant_catalogs.get", catalog_id)

    async def effective_variants(
        self, *, page: int = 0, page_size: int = PAGE_SIZE, extra: Mapping[str, str] | None = None
    ) -> ListReply:
        """Return a page of the variants that the merchant can order. Path, parameters and response documented."""
        return await self._list("merchant_catalogs.effective_variants", extra=extra, paged=(page, page_size))

    async def search_effective_variants(
        self,
        body: Body | None = None,
        *,
        page: int = 0,
        page_size: int = PAGE_SIZE,
        extra: Mapping[str, str] | None = None,
    ) -> ListReply:
        """Return variants of the enabled merchant catalog, or of the global one. Inferred; fields not documented."""
        return await self._list(
            "merchant_catalogs.search_effective_variants", extra=extra, paged=(page, page_size), body=body
        )

    async def audit_logs(
        self,
        catalog_id: str,
        *,
        page: int | None = None,
        page_size: int = PAGE_SIZE,
        resource_format: str | None = None,
    ) -> AuditReply:
        """Return the audit log of a merchant catalog. Path and the parameter `format` inferred."""
        return await self._audit(
            "merchant_catalogs.audit_logs",
            catalog_id,
            page=page,
            page_size=page_size,
            resource_format=resource_format,
        )


class Products(ServiceGroup):
    """Products of the global catalog."""

    async def list(
        self, *, page: int = 0, page_size: int = PAGE_SIZE, extra: Mapping[str, str] | None = None
    ) -> ListReply:
        """Return a page of products. Path inferred."""
        return await self._list("products.list", extra=extra, paged=(page, page_size))

    async def variants(self, product_id: str, *, extra: Mapping[str, str] | None = None) -> ListReply:
        """Return the variants of a product. Path inferred."""
        return await self._list("products.variants", product_id, extra=extra)

    async def create(self, body: Body) -> Reply:
        """Create a product. Path inferred; the fields are not documented."""
        return await self._call("products.create", body=body)

    async def search(
        self, *, page: int = 0, page_size: int = PAGE_SIZE, extra: Mapping[str, str] | None = None
    ) -> ListReply:
        """Return a page of products by filters. Path inferred; filters (`extra`) are not documented."""
        return await self._list("products.search", extra=extra, paged=(page, page_size))

    async def create_many(self, products: Sequence[Body], *, most_in_bulk: int = MAX_IN_BULK) -> BulkReply:
        """Create products. Path inferred; the fields are not documented.

        Raises:
            PartialBulk: One of several requests failed after others had succeeded.

        """
        return await self._write_many("products.create_many", products, most_in_bulk)

    async def update_many(self, products: Sequence[Body], *, most_in_bulk: int = MAX_IN_BULK) -> BulkReply:
        """Replace products, each with the `id` of its product. Path and `id` inferred.

        Raises:
            PartialBulk: One of several requests failed after others had succeeded.

        """
        return await self._write_many("products.update_many", products, most_in_bulk)

    async def update(self, product_id: str, body: Body) -> Reply:
        """Replace a product. Path inferred; the fields are not documented."""
        return await self._call("products.update", product_id, body=body)

    async def delete(self, product_id: str) -> Reply:
        """Delete a product. Path inferred."""
        return await self._call("products.delete", product_id)

    async def audit_logs(
        self,
        product_id: str,
        *,
        page: int | None = None,
        page_size: int = PAGE_SIZE,
        resource_format: str | None = None,
    ) -> AuditReply:
        """Return the audit log of a product. Path and the parameter `format` inferred."""
        return await self._audit(
            "products.audit_logs", product_id, page=page, page_size=page_size, resource_format=resource_format
        )


class Variants(ServiceGroup):
    """Variants of products: sizes, colours."""

    async def update(self, product_id: str, variant_id: str, body: Body) -> Reply:
        """Replace a variant. Path inferred; the fields are not documented."""
        return await self._call("variants.update", product_id, variant_id, body=body)

    async def delete(self, variant_id: str) -> Reply:
        """Delete a variant. Path inferred."""
        return await self._call("variants.delete", variant_id)

    async def create(self, body: Body) -> Reply:
        """Create a variant. Path inferred; the fields are not documented."""
        return await self._call("variants.create", body=body)

    async def search(
        self, *, page: int = 0, page_size: int = PAGE_SIZE, extra: Mapping[str, str] | None = None
    ) -> ListReply:
        """Return a page of variants by filters. Path inferred; filters (`extra`) are not documented."""
        return await self._list("variants.search", extra=extra, paged=(page, page_size))

    async def audit_logs(
        self,
        variant_id: str,
        *,
        page: int | None = None,
        page_size: int = PAGE_SIZE,
        resource_format: str | None = None,
    ) -> AuditReply:
        """Return the audit log of a variant. Path and the parameter `format` inferred."""
        return await self._audit(
            "variants.audit_logs", variant_id, page=page, page_size=page_size, resource_format=resource_format
        )
