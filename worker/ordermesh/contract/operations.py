"""The 79 operations of the OrderMesh API: one table for client, sandbox, reference and probe.

Source: the vendor's portal (titles, tags and schema names) and its pages and samples (`page`). Only 13 paths
and 42 methods are documented; the others are inferred from these, and a contract profile can replace each of them
(see `profile.py`).
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import msgspec

Confidence: TypeAlias = Literal["documented", "high", "medium", "low"]

_PARAMETER = re.compile(r"\{(\w+)\}")


class Operation(msgspec.Struct, frozen=True):
    """One operation of the API."""

    key: str
    """This project's name of the operation."""
    title: str
    """The vendor's title."""
    tag: str
    """The vendor's tag."""
    method: str
    path: str
    """The path at the gateway, with `{names}` of parameters. It begins with the prefix of the service."""
    confidence: Confidence
    """Whether the vendor documents the path, or how certain the inferred path is."""
    method_documented: bool = True
    query: tuple[str, ...] = ()
    """The query parameters that are known or, for most operations, expected."""
    body: tuple[str, ...] = ()
    """The fields of the body that are known or expected."""
    request: str | None = None
    """The schema of the body."""
    answer: str | None = None
    """The schema of the response."""
    records: str | None = None
    """The key of the list in the response; None if the response is not a list."""
    record: str | None = None
    """The key that wraps a single record in the response; None if the record is not wrapped."""
    alternatives: tuple[str, ...] = ()
    """Other paths that are about as likely."""
    page: str | None = None
    """The address of the vendor's page."""
    note: str = ""

    @property
    def service(self) -> str:
        """The service of the operation, which is also the first segment of its path."""
        return self.path.split("/", 2)[1]

    @property
    def documented(self) -> bool:
        """True if the vendor documents the path."""
        return self.confidence == "documented"

    @property
    def path_parameters(self) -> tuple[str, ...]:
        """The names of the parameters in the path, in order."""
        return tuple(_PARAMETER.findall(self.path))

    @property
    def paged(self) -> bool:
        """True if the operation has a page number and a page size."""
        return "page" in self.query

    @property
    def is_log(self) -> bool:
        """True if the response is the audit log of one record."""
        return self.answer == "GetAuditLogResponse"

    @property
    def is_list(self) -> bool:
        """True if the response is a list: of records, or of the entries of an audit log."""
        return self.records is not None or self.is_log

    @property
    def writes(self) -> bool:
        """True if the operation changes data at OrderMesh. Searches by POST do not."""
        return self.method != "GET" and self.records is None and self.service != "user"


# fmt: off
_ROWS = (
    # User service
    Operation("clients.token", "Generate Service Client Access Token", "Client", "POST",
        "/user/v1/clients/token", confidence="documented", body=("clientId", "clientSecret"),
        request="GetServiceClientTokenDto", answer="ClientTokenResponseDTO",
        page="https://docs.dev.ordermesh.io/getting-started-1961217m0"),
    Operation("users.login", "Login User by Username and Password", "User", "POST", "/user/v1/login",
        confidence="documented", query=("source",), body=("username", "password"), request="LoginUserDto",
        answer="TokenResponseDTO", page="https://docs.dev.ordermesh.io/getting-started-1961217m0",
        note="listed as /v1/login, called as /user/v1/login: the gateway adds the prefix"),
    Operation("users.refresh", "Login User with Refresh Token", "User", "POST", "/user/v1/login/refresh",
        confidence="low", body=("refreshToken",), request="LoginUserWithRefreshToken",
        answer="TokenResponseDTO",
        alternatives=("/user/v1/login/refreshToken", "/user/v1/login/refresh-token")),
    # Order service
    Operation("order_items.search", "Search for order items based on various criteria and filters",
        "OrderItems", "GET", "/order/v1/orderItems", confidence="low",
        query=("page", "pageSize", "orderId", "status", "sku", "merchantId"),
        answer="SearchOrderItemsResponse", records="orderItems",
        alternatives=("/order/v1/orderItems/search", "/order/v1/orders/items/search"),
        page="https://docs.dev.ordermesh.io/search-for-order-items-based-on-various-criteria-and-filters-28746116e0"),
    Operation("orders.create", "Create a New Order.", "Orders", "POST", "/order/v1/orders",
        confidence="documented", request="CreateOrderModel", answer="CreateOrderResponse",
        page="https://docs.dev.ordermesh.io/create-a-new-order-28746117e0",
        note="the vendor's sample calls /v1/orders without a prefix"),
    Operation("orders.search", "Search for orders based on various criteria and filters.", "Orders", "GET",
        "/order/v1/orders", confidence="medium",
        query=("page", "pageSize", "merchantId", "status", "externalId", "safeId", "shortId", "isTest",
               "createdFrom", "createdTo", "updatedFrom", "updatedTo", "sortBy", "sortDirection"),
        answer="SearchOrdersResponse", records="orders", alternatives=("/order/v1/orders/search",),
        page="https://docs.dev.ordermesh.io/search-for-orders-based-on-various-criteria-and-filters-28746118e0"),
    Operation("orders.create_many", "Create multiple orders", "Orders", "POST", "/order/v1/orders/bulk",
        confidence="low", body=("bulk",), request="CreateOrderModelBulkModel", answer="BulkResponse",
        alternatives=("/order/v1/orders/multiple",),
        page="https://docs.dev.ordermesh.io/create-multiple-orders-28746119e0"),
    Operation("orders.get_many", "Retrieve multiple orders", "Orders", "GET", "/order/v1/orders/bulk",
        confidence="low", query=("ids",), answer="BulkResponse",
        alternatives=("/order/v1/orders/multiple",)),
    Operation("orders.update_many", "Update multiple orders", "Orders", "PATCH", "/order/v1/orders/bulk",
        confidence="low", body=("bulk",), request="UpdateOrderModelBulkModel", answer="BulkResponse",
        alternatives=("/order/v1/orders/multiple",)),
    Operation("orders.list", "Retrieve a list of orders", "Orders", "GET", "/order/v1/orders/list",
        confidence="low", query=("page", "pageSize"), answer="ListOrdersResponse", records="orders",
        page="https://docs.dev.ordermesh.io/retrieve-a-list-of-orders-28746122e0"),
    Operation("orders.get", "Retrieve an order by Order ID.", "Orders", "GET", "/order/v1/orders/{orderId}",
        confidence="high", answer="GetOrderResponse", record="order",
        page="https://docs.qa.ordermesh.io/retrieve-an-order-by-order-id-31798797e0"),
    Operation("orders.update", "Update order data.", "Orders", "PATCH", "/order/v1/orders/{orderId}",
        confidence="medium", request="UpdateOrderModel", answer="UpdateOrderResponse",
        alternatives=("/order/v1/orders",),
        page="https://docs.dev.ordermesh.io/update-order-data-28746124e0"),
    Operation("orders.get_by_safe_id", "Retrieve an order by Safe ID", "Orders", "GET",
        "/order/v1/orders/safeId/{safeId}", confidence="low", answer="GetOrderResponse", record="order",
        alternatives=("/order/v1/orders/safe/{safeId}", "/order/v1/orders/bySafeId/{safeId}"),
        page="https://docs.dev.ordermesh.io/retrieve-an-order-by-safe-id-28746125e0"),
    Operation("order_items.get", "Retrieve order item by Order Item ID", "Orders", "GET",
        "/order/v1/orders/items/{itemId}", confidence="low", answer="GetOrderItemResponse",
        record="orderItem", alternatives=("/order/v1/orders/{orderId}/items/{itemId}",),
        page="https://docs.dev.ordermesh.io/retrieve-order-item-by-order-item-id-28746126e0"),
    Operation("order_items.update", "Update an item within an order.", "Orders", "PATCH",
        "/order/v1/orders/{orderId}/items/{itemId}", confidence="low", request="UpdateOrderItemModel",
        answer="UpdateOrderItemResponse", alternatives=("/order/v1/orders/items/{itemId}",)),
    Operation("orders.cancel", "Cancel Order or order items", "Orders", "POST",
        "/order/v1/orders/{orderId}/cancel", confidence="low", request="CancelOrderModel",
        answer="CancelOrderResponse", alternatives=("/order/v1/orders/cancel",),
        page="https://docs.dev.ordermesh.io/cancel-order-or-order-items-28746128e0",
        note="CancelOrderItemModel: a part of the items can be cancelled"),
    Operation("orders.hold", "Change the order status to Customer Care Hold", "Orders", "POST",
        "/order/v1/orders/{orderId}/customerCareHold", confidence="low",
        answer="CustomerCareHoldOrderResponse"),
    Operation("orders.audit_logs", "Retrieve audit logs for a specific order.", "Orders", "GET",
        "/order/v1/orders/{orderId}/auditLogs", confidence="medium", query=("format",),
        answer="GetAuditLogResponse"),
    Operation("orders.audit_logs_by_safe_id", "Retrieve audit logs for a specific order.", "Orders", "GET",
        "/order/v1/orders/safeId/{safeId}/auditLogs", confidence="low", query=("format",),
        answer="GetAuditLogResponse", alternatives=("/order/v2/orders/{orderId}/auditLogs",),
        note="the seed lists this title twice; the reason is not documented"),
    Operation("order_items.audit_logs", "Retrieve audit logs for a specific order item.", "Orders", "GET",
        "/order/v1/orders/items/{itemId}/auditLogs", confidence="low", query=("format",),
        answer="GetAuditLogResponse", alternatives=("/order/v1/orders/{orderId}/items/{itemId}/auditLogs",)),
    Operation("orders.refund", "Add a Refund Request.", "Orders", "POST", "/order/v1/orders/refunds",
        confidence="low", body=("orderId", "refunds"), request="AddRefundModel",
        alternatives=("/order/v1/orders/refund", "/order/v1/orders/{orderId}/refunds"),
        page="https://docs.dev.ordermesh.io/addrefundmodel-12760536d0",
        note="orderId is in the body, so probably not in the path"),
    # Note service
    Operation("notes.create", "Create a New Note", "Notes", "POST", "/note/v1/notes",
        confidence="documented", request="CreateNoteModel", answer="CreateNoteReponse",
        page="https://docs.dev.ordermesh.io/v1notes-28546518e0"),
    Operation("notes.search", "Search All Notes", "Notes", "GET", "/note/v1/notes", confidence="documented",
        query=("page", "pageSize", "resourceId", "resourceType"), answer="GetNotesResponse", records="notes",
        page="https://docs.dev.ordermesh.io/v1notes-28546518e0"),
    Operation("notes.get", "View Note by ID", "Notes", "GET", "/note/v1/notes/{noteId}",
        confidence="documented", answer="GetNoteByIdResponse",
        page="https://docs.dev.ordermesh.io/v1notes-28546518e0"),
    Operation("notes.update", "Update Note", "Notes", "PUT", "/note/v1/notes/{id}", confidence="documented",
        request="UpdateNotePayload", answer="UpdateNoteResponse",
        page="https://docs.dev.ordermesh.io/v1notes-28546518e0"),
    Operation("notes.delete", "Delete Note", "Notes", "DELETE", "/note/v1/notes/{id}",
        confidence="documented", page="https://docs.dev.ordermesh.io/v1notes-28546518e0"),
    Operation("notes.audit_logs", "View Note Audit Logs", "Notes", "GET", "/note/v1/notes/{id}/auditLogs",
        confidence="documented", query=("format",), answer="GetAuditLogResponse",
        page="https://docs.dev.ordermesh.io/v1notes-28546518e0"),
    # Catalog service
    Operation("categories.list", "View all product categories", "Categories", "GET",
        "/catalog/v1/categories", confidence="medium", method_documented=False, query=("page", "pageSize"),
        answer="GetCategoriesResponse", records="categories"),
    Operation("categories.create", "Create a new category", "Categories", "POST", "/catalog/v1/categories",
        confidence="medium", method_documented=False, request="CreateCategoryModel",
        answer="CreateCategoryResponse"),
    Operation("categories.update", "Update category", "Categories", "PUT", "/catalog/v1/categories/{id}",
        confidence="low", method_documented=False, request="UpdateCategoryModel",
        alternatives=("/catalog/v1/categories",)),
    Operation("categories.delete", "Delete category", "Categories", "DELETE", "/catalog/v1/categories/{id}",
        confidence="low", method_documented=False),
    Operation("categories.audit_logs", "Get audit logs of a category", "Categories", "GET",
        "/catalog/v1/categories/{id}/auditLogs", confidence="low", method_documented=False,
        query=("format",), answer="GetAuditLogResponse"),
    Operation("merchant_catalogs.create", "Create a merchant catalog", "MerchantCatalog", "POST",
        "/catalog/v1/merchantCatalog", confidence="high", method_documented=False,
        request="CreateMerchantCatalogDto", answer="CreateMerchantCatalogResponse"),
    Operation("merchant_catalogs.update", "Update a merchant catalog", "MerchantCatalog", "PUT",
        "/catalog/v1/merchantCatalog", confidence="documented",
        body=("id", "name", "description", "isEnabled", "assignedToSubAccountIds", "variants"),
        request="UpdateMerchantCatalogDto", answer="UpdateMerchantCatalogResponse",
        page="https://docs.ordermesh.io/update-a-merchant-catalog-31798998e0"),
    Operation("merchant_catalogs.patch", "Partially update a merchant catalog", "MerchantCatalog", "PATCH",
        "/catalog/v1/merchantCatalog", confidence="documented",
        body=("id", "name", "description", "isEnabled", "assignedToSubAccountIds", "variantsToAdd",
               "variantsSkusToRemove", "variantsToUpdate"), request="PatchMerchantCatalogDto",
        answer="PatchMerchantCatalogResponse",
        page="https://docs.qa.ordermesh.io/partially-update-a-merchant-catalog-31799245e0"),
    Operation("merchant_catalogs.list", "Get a list of merchant catalogs", "MerchantCatalog", "GET",
        "/catalog/v1/merchantCatalog/list", confidence="low", method_documented=False,
        query=("page", "pageSize"), answer="ListMerchantCatalogsResponse", records="merchantCatalogs",
        alternatives=("/catalog/v1/merchantCatalog",)),
    Operation("merchant_catalogs.delete", "Delete a merchant catalog", "MerchantCatalog", "DELETE",
        "/catalog/v1/merchantCatalog/{id}", confidence="low", method_documented=False),
    Operation("merchant_catalogs.search_variants", "Get a merchant catalog and search variants in it",
        "MerchantCatalog", "GET", "/catalog/v1/merchantCatalog/{id}/variants/search", confidence="low",
        method_documented=False, query=("page", "pageSize"), request="SearchMerchantVariantDto",
        answer="SearchMerchantCatalogVariantsResponse", records="variants"),
    Operation("merchant_catalogs.get", "Get a merchant catalog with variants", "MerchantCatalog", "GET",
        "/catalog/v1/merchantCatalog/{id}", confidence="medium", method_documented=False,
        answer="MerchantCatalogDto"),
    Operation("merchant_catalogs.effective_variants",
        "Get a list of variants the merchant can use in accordance with their enabled catalog",
        "MerchantCatalog", "GET", "/catalog/v1/merchantCatalog/effective/variants/list",
        confidence="documented", query=("page", "pageSize"), answer="GetEffectiveVariantListResponse",
        records="variants", page="https://taylor.ordermesh.io/product-catalog"),
    Operation("merchant_catalogs.search_effective_variants",
        "Search for variants in enabled merchant catalog with fallback to global catalog", "MerchantCatalog",
        "POST", "/catalog/v1/merchantCatalog/effective/variants/search", confidence="medium",
        method_documented=False, query=("page", "pageSize"), request="SearchEffectiveVariantsDto",
        answer="SearchEffectiveVariantsResponse", records="variants",
        note="GET is possible too; a request schema exists, which suggests POST"),
    Operation("merchant_catalogs.audit_logs", "Get audit logs of a merchant catalog", "MerchantCatalog",
        "GET", "/catalog/v1/merchantCatalog/{id}/auditLogs", confidence="low", method_documented=False,
        query=("format",), answer="GetAuditLogResponse"),
    Operation("products.list", "View all products", "Products", "GET", "/catalog/v1/products",
        confidence="medium", method_documented=False, query=("page", "pageSize"),
        answer="GetProductsResponse", records="products"),
    Operation("products.variants", "Retrieve product variant details", "Products", "GET",
        "/catalog/v1/products/{productId}/variants", confidence="low", method_documented=False,
        answer="GetProductVariantsResponse", records="variants",
        page="https://docs.stg.ordermesh.io/retrieve-product-variant-details-33595989e0"),
    Operation("products.create", "Create a new product", "Products", "POST", "/catalog/v1/products",
        confidence="medium", method_documented=False, request="CreateProductModel",
        answer="CreateProductResponse"),
    Operation("products.search", "Search products", "Products", "GET", "/catalog/v1/products/search",
        confidence="low", method_documented=False, query=("page", "pageSize"),
        answer="SearchProductsResponse", records="products",
        page="https://docs.ordermesh.io/search-products-31799010e0"),
    Operation("products.create_many", "Bulk create products", "Products", "POST",
        "/catalog/v1/products/bulk", confidence="low", method_documented=False, body=("bulk",),
        request="CreateProductModelBulkModel", answer="BulkResponse"),
    Operation("products.update_many", "Bulk update products", "Products", "PUT", "/catalog/v1/products/bulk",
        confidence="low", method_documented=False, body=("bulk",), request="UpdateProductModelBulkModel",
        answer="BulkResponse", note="PATCH is possible too"),
    Operation("products.update", "Update product", "Products", "PUT", "/catalog/v1/products/{productId}",
        confidence="low", method_documented=False, request="UpdateProductModel",
        answer="UpdateProductResponse"),
    Operation("products.delete", "Delete product", "Products", "DELETE", "/catalog/v1/products/{productId}",
        confidence="low", method_documented=False),
    Operation("variants.update", "Update variant", "Products", "PUT",
        "/catalog/v1/products/{productId}/variants/{variantId}", confidence="low", method_documented=False,
        request="UpdateProductVariantModel", answer="UpdateProductVariantResponse"),
    Operation("products.audit_logs", "Get audit logs of a product", "Products", "GET",
        "/catalog/v1/products/{productId}/auditLogs", confidence="low", method_documented=False,
        query=("format",), answer="GetAuditLogResponse"),
    Operation("variants.delete", "Delete variant", "Variants", "DELETE", "/catalog/v1/variants/{variantId}",
        confidence="low", method_documented=False),
    Operation("variants.create", "Create a variant", "Variants", "POST", "/catalog/v1/variants",
        confidence="low", method_documented=False, request="CreateVariantModel",
        answer="CreateVariantResult"),
    Operation("variants.search", "Search product variants", "Variants", "GET", "/catalog/v1/variants/search",
        confidence="low", method_documented=False, query=("page", "pageSize"), answer="SearchVariantsModel",
        records="variants"),
    Operation("variants.audit_logs", "Get audit logs of a variant", "Variants", "GET",
        "/catalog/v1/variants/{variantId}/auditLogs", confidence="low", method_documented=False,
        query=("format",), answer="GetAuditLogResponse"),
    # Shipment service
    Operation("shipments.packing_slip", "Generates a packing slip for a specific shipment by Shipment ID.",
        "Packing Slip", "GET", "/shipment/v1/{shipmentId}/packingSlip", confidence="low",
        method_documented=False, answer="GeneratePackingSlipResponse", note="POST is possible too"),
    Operation("shipments.get", "Get details of a specific shipment by Shipment ID.", "Shipments", "GET",
        "/shipment/v1/{shipmentId}", confidence="documented", answer="ShipmentDTO",
        page="https://docs.dev.ordermesh.io/get-details-of-a-specific-shipment-by-shipment-id-29000503e0",
        note="from the older portal; /shipment/v1/shipments/{shipmentId} is possible too"),
    Operation("shipments.update", "Update details of a specific shipment by Shipment ID.", "Shipments",
        "PATCH", "/shipment/v1/{shipmentId}", confidence="medium", request="UpdateShipmentDTO",
        answer="ShipmentDTO"),
    Operation("packages.create", "Create packages for a specific shipment.", "Shipments", "POST",
        "/shipment/v1/{shipmentId}/packages", confidence="low", request="CreatePackageDTO",
        answer="CreatePackagesResponse", alternatives=("/shipment/v1/{shipmentId}",),
        page="https://docs.dev.ordermesh.io/create-packages-for-a-specific-shipment-29000505e0"),
    Operation("shipments.delete", "Delete shipment with packages.", "Shipments", "DELETE",
        "/shipment/v1/{shipmentId}", confidence="medium"),
    Operation("shipments.for_order", "Get all shipments for an order by Order ID.", "Shipments", "GET",
        "/shipment/v1/orders/{orderId}", confidence="low", answer="ShipmentDTO", records="shipments",
        alternatives=("/shipment/v1/order/{orderId}",),
        page="https://docs.stg.ordermesh.io/get-all-shipments-for-an-order-by-order-id-33596007e0"),
    Operation("shipments.create", "Create shipment for order, vendor, and order items.", "Shipments", "POST",
        "/shipment/v1/orders/{orderId}/vendors/{vendorId}", confidence="low", request="CreateShipmentDTO",
        answer="CreateShipmentResponse", alternatives=("/shipment/v1",)),
    Operation("shipments.for_order_and_vendor", "Get shipment with packages for order and vendor.",
        "Shipments", "GET", "/shipment/v1/orders/{orderId}/vendors/{vendorId}", confidence="low",
        answer="VendorShipmentResponse",
        page="https://docs.dev.ordermesh.io/get-shipment-with-packages-for-order-and-vendor-29000509e0"),
    Operation("shipments.for_order_item", "Get shipment details by Order Item ID.", "Shipments", "GET",
        "/shipment/v1/orderItems/{orderItemId}", confidence="low", answer="ShipmentDTO"),
    Operation("packages.update", "Update a specific shipment package.", "Shipments", "PATCH",
        "/shipment/v1/{shipmentId}/packages/{packageId}", confidence="low", request="UpdatePackageDTO",
        answer="PackageDTO"),
    Operation("packages.delete", "Delete a specific shipment package.", "Shipments", "DELETE",
        "/shipment/v1/{shipmentId}/packages/{packageId}", confidence="low", method_documented=False,
        note="in the QA portal, not in the dev portal"),
    Operation("shipments.cancel", "Cancel shipment.", "Shipments", "PATCH",
        "/shipment/v1/{shipmentId}/cancel", confidence="low", request="CancelShipmentDto"),
    Operation("shipments.unassign", "Unassign items to shipment.", "Shipments", "POST",
        "/shipment/v1/{shipmentId}/unassign", confidence="low", request="UnassignOrderItemDTO"),
    Operation("shipments.resubmit", "Shipment resubmission to assigned facility.", "Shipments", "POST",
        "/shipment/v1/{shipmentId}/resubmit", confidence="low"),
    Operation("shipments.retry_polling",
        "Retry outbound polling for a shipment by publishing an OutboundShipmentUpdate event.", "Shipments",
        "POST", "/shipment/v1/{shipmentId}/retryPolling", confidence="low", method_documented=False,
        note="its name suggests that it resets isPollingStopped"),
    Operation("shipments.search", "Search shipments.", "Shipments", "GET", "/shipment/v1/search",
        confidence="low", method_documented=False,
        query=("page", "pageSize", "orderId", "merchantId", "vendorId", "facilityId", "shipmentStatus",
               "createdDateFrom", "createdDateTo", "lastModifiedDateFrom", "sortBy", "sortDirection"),
        answer="SearchShipmentResponse", records="shipments",
        alternatives=("/shipment/v1/shipments/search", "/shipment/v1"),
        note="the schema names suggest that vendor users get VendorSearchShipmentResponse"),
    Operation("shipments.reroute", "Reroute shipment.", "Shipments", "POST", "/shipment/v1/reroute",
        confidence="low", method_documented=False, body=("shipmentId", "facilityId", "reason", "orderItems"),
        request="Reroute", answer="RerouteResponse", page="https://docs.dev.ordermesh.io/reroute-13197345d0",
        note="shipmentId is in the body, so probably not in the path"),
    Operation("shipments.reject", "Rejects a shipment.", "Shipments", "POST",
        "/shipment/v1/{shipmentId}/reject", confidence="low", method_documented=False, request="Reject",
        answer="RejectResponse", note="vendor users have VendorRejectShipmentDTO"),
    Operation("shipments.reroute_many", "Bulk reroute shipments.", "Shipments", "POST",
        "/shipment/v1/reroute/bulk", confidence="low", method_documented=False, body=("bulk",),
        request="RerouteBulkModel", answer="BulkResponse", alternatives=("/shipment/v1/bulk/reroute",),
        page="https://docs.dev.ordermesh.io/reroutebulkmodel-13197346d0"),
    Operation("shipments.audit_logs", "Get shipment audit logs.", "Shipments", "GET",
        "/shipment/v1/{shipmentId}/auditLogs", confidence="medium", method_documented=False,
        query=("format",), answer="GetAuditLogResponse"),
    Operation("packages.audit_logs", "Get package audit logs.", "Shipments", "GET",
        "/shipment/v1/{shipmentId}/packages/{packageId}/auditLogs", confidence="low",
        method_documented=False, query=("format",), answer="GetAuditLogResponse"),
    Operation("shipments.message_audit_logs", "Get message audit logs for shipment updates.", "Shipments",
        "GET", "/shipment/v1/{shipmentId}/messages/auditLogs", confidence="low", method_documented=False,
        query=("format",), answer="GetAuditLogResponse"),
    Operation("shipments.assign", "Assign Shipment.", "Shipments", "POST",
        "/shipment/v1/{shipmentId}/assign", confidence="low", method_documented=False, request="AssignDTO",
        answer="AssignShipmentResponse"),
)
# fmt: on

OPERATIONS: dict[str, Operation] = {row.key: row for row in _ROWS}
"""Every operation by its key."""

SERVICES = ("user", "order", "note", "catalog", "shipment")
"""The services, in the order of the portal."""
