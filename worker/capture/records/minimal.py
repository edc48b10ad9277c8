"""The fields that the policy `minimal` publishes, out of the fields that are known. No I/O.

Everything else is removed: known fields that are not in `_KEPT`, and every field that no schema of the vendor contains.
A field is kept if its values are ids, codes, times, amounts, counts or flags. A field is not kept if a person or a shop
may write anything into it, if it is about a person, or if it is the name that a merchant or a vendor has given to
itself.
"""

from __future__ import annotations

from functools import cache

from worker.capture.records.rules import Known
from worker.capture.registry import AUDIT_LOGS, RESOURCES
from worker.ordermesh.http.reply import AUDIT_IDS, AUDIT_TIMES
from worker.ordermesh.record_schema import row_of
from worker.ordermesh.schemas import SCHEMAS, element

_ITEM_IDS = "id shortId externalId sku originalSKU quantity"
_TIMES = "createdAt updatedAt processedAt cancelledAt"
_SHIPMENT_TOTALS = (
    "merchantOrderTotal merchantPackageTotal merchantTaxTotal merchantShippingTotal packageTotal taxTotal "
    "shippingTotal total costTotal costTaxTotal costShippingTotal costShippingTaxTotal"
)

_KEPT = {
    schema: frozenset(names.split())
    for schema, names in {
        # Orders and their items
        "GetOrderModel": f"id shortId safeId externalId merchantId status {_TIMES} items reprint shipmentIds "
        "shipmentCreatedDates shippingAddress billingAddress returnAddress client languageCode currencyCode isTest "
        "isSample customerShippingMethod customerTotal customerItemTotal customerTotalShipping customerTotalTaxes "
        "customerTotalDiscountAndPromotions merchantItemTotal merchantTaxTotal merchantShippingTotal merchantTotal",
        "AddressModel": "countryCode",
        "APIClientInfoModel": "source version",
        "GetOrderItemModel": f"{_ITEM_IDS} status {_TIMES} images customerSubtotal customerPrice "
        "customerShippingPrice customerTaxes merchantPrice merchantShippingPrice merchantTax merchantSubTotal "
        "merchantItemTotal isSample skipImgManip skipImageValidation skipSkuValidation fulfillmentReady refundData",
        "GetOrderItemImageModel": "area printMethod",
        "GetOrderItemRefundDataModel": "refunds remainingShippingBalance remainingPriceBalance",
        "GetOrderItemRefundDataItemModel": "isShippingRefund amount",
        "PriceModel": "currency amount",
        "ReprintModel": "originalOrderId reasonId shipments",
        "ReprintShipmentModel": "facilityId shippingMethod costCoverage items",
        "ReprintCostCoverageModel": "item shipping",
        "ReprintShipmentItemModel": "sku quantity",
        # Shipments
        "ShipmentDTO": "id shortId safeId orderId orderExternalId merchantOrderId merchantId vendorId facilityId "
        "shippingCountryCodeISO shippingCountryCode shipmentStatus isRejectedByVendor shippingMethod "
        "isPollingStopped currencyCode languageCodeISO languageCode transactionalCostModel createdDate "
        f"orderCreatedDate lastModifiedDate {_SHIPMENT_TOTALS} packages orderItemIDs orderItems "
        "selectedShippingMapping",
        "PackageDTO": "id shortId shipmentId carrierName carrierMethodName shippedDate fulfilledDate carrierAccount "
        "orderItemIDs packingSlipId",
        "OrderItemDTO": "id shortId sku vendorSku variantId vendorProductId quantity status merchantPrice price "
        "images",
        "OrderItemImageDTO": "area",
        "SelectedShippingMappingDTO": "carrierName type",
        "Price": "amount currency tax",
        # Notes
        "GetNoteResponseItemModel": "id resource createdAt updatedAt",
        "ResourceReferenceModel": "id type",
        # The catalog
        "CategoryModel": "id name createdAt updatedAt",
        "ProductModel": "id name status categories variants createdAt updatedAt",
        "VariantModel": "id productId sku price decorations createdAt updatedAt",
        "MultiPriceModel": "currencies amount currency",
        "MultiPrice": "currencies amount currency",
        "DecorationModel": "area width height dpi method price printImage",
        "PrintImageModel": "imageUploadStatus",
        "MerchantCatalogDto": "id isEnabled assignedToSubAccountIds variants createdAt updatedAt",
        "MerchantVariantDto": "id sku merchantSku merchantPrice skipImageManipulation productId decorations",
    }.items()
}

_ENTRY_KEPT = (
    *AUDIT_IDS, *AUDIT_TIMES, "action", "type", "eventType", "operation", "version",
    "resourceId", "resourceType", "entityId", "entityType",
)  # fmt: skip
"""The fields of an entry of an audit log that are kept: its id, its time, the operation and the object.

No field of entries is documented. The user, and old and new values, may contain personal data."""


@cache
def known_fields(resource: str) -> dict[str, Known]:
    """Return the known fields of a resource or an audit log by their paths, without those within removed fields."""
    if resource in AUDIT_LOGS:
        return dict.fromkeys(_ENTRY_KEPT, Known.VALUE)
    result: dict[str, Known] = {}

    def add(schema: str, within: str) -> None:
        kept = _KEPT.get(schema, frozenset())
        for field in SCHEMAS[schema].fields:
            path, kind = f"{within}{field.name}", element(field.type)
            is_object = kind in SCHEMAS and bool(SCHEMAS[kind].fields)
            if field.name not in kept:
                result[path] = Known.REMOVED
            elif is_object:
                result[path] = Known.OBJECT
                add(kind, f"{path}.")
            else:
                result[path] = Known.VALUE

    add(row_of(RESOURCES[resource].search), "")
    return result
