"""Schemas of the shipment service.

A shipment is documented by two samples (vendor:S-get, S-order), truncated inside selectedShippingMapping and the
images of an item. Times have no time zone, statuses are integers, and the ids of items are spelled `orderItemIDs`.
"""

from __future__ import annotations

from worker.ordermesh.schemas.base import Schema, fields, schema, undocumented

_PACKAGE_AS_READ = "inferred: the package as read has it (vendor:S-get)"
_SHIPMENT_AS_READ = "inferred: the shipment as read has it (vendor:S-get)"
_PLURAL = "inferred: plural of the resource, as in the one list that is shown (vendor:PC-taylor)"
_REROUTED = "inferred: the items of a reroute (vendor:SC-reroute)"
_UNPUBLISHED = "no published operation uses it"

_PACKAGE_BODY = ("carrierName: string", "carrierMethodName: string", "shippedDate: string",
                 "fulfilledDate: string", "carrierTrackingNumber: string", "carrierLink: string",
                 "carrierAccount: boolean", "orderItemIDs: [string]",
                 "packageOrderItems: [PackageOrderItemDTO]")  # fmt: skip

# fmt: off
SHIPMENT: tuple[Schema, ...] = (
    schema("AssignDTO", "shipment", fields(_SHIPMENT_AS_READ, "vendorId: string", "facilityId: string")),
    schema("CancelShipmentDto", "shipment"),
    schema("CountryCodes", "shipment", type="any",
           note="an enumeration; integers in shippingCountryCodeISO (236 is the US), letters in "
                "shippingCountryCode (US): vendor:S-get. The numbers are not those of ISO 3166"),
    schema("CreatePackageDTO", "shipment", fields(_PACKAGE_AS_READ, *_PACKAGE_BODY)),
    schema("CreateShipmentDTO", "shipment",
           fields(_SHIPMENT_AS_READ, "facilityId: string", "shippingMethod: string", "orderItemIDs: [string]")),
    schema("CurrencyCodes", "shipment", type="any",
           note="an enumeration; letters in currencyCode (USD: vendor:S-get)"),
    schema("GetOrdersCountByFacilityResponse", "shipment", note=_UNPUBLISHED),
    schema("GetShipmentPollingStoppedCountResponse", "shipment", note=_UNPUBLISHED),
    schema("GetShipmentsCountByStatusResponse", "shipment", note=_UNPUBLISHED),
    schema("GetVendorShipmentsCountByStatusResponse", "shipment", note=_UNPUBLISHED),
    schema("LanguageCodes", "shipment", type="any",
           note="an enumeration; integers in languageCodeISO (40), letters in languageCode: vendor:S-get"),
    schema("OrderItemDTO", "shipment",
           fields("vendor:S-get", "id: string!", "sku: string", "vendorSku: string", "variantId: string",
                  "vendorProductId: string", "quantity: integer", "merchantPrice: Price", "price: Price"),
           fields("vendor:S-order", "shortId: string", "status: OrderItemStatus",
                  "images: [OrderItemImageDTO]")),
    schema("OrderItemImageDTO", "shipment", fields("vendor:S-order", "area: string", "ourUrl: string"),
           note="the sample is truncated here"),
    schema("PackageDTO", "shipment",
           fields("vendor:S-get", "id: string!", "shortId: string", "shipmentId: string", *_PACKAGE_BODY,
                  "packingSlipId: string")),
    schema("PackageOrderItemDTO", "shipment", note="packageOrderItems is empty in every sample"),
    schema("Reject", "shipment", fields("inferred: as in a reroute (vendor:SC-reroute)", "reason: string")),
    schema("Reroute", "shipment",
           fields("vendor:SC-reroute", "shipmentId: string!", "facilityId: string!", "reason: string",
                  "orderItems: [RerouteOrderItem]")),
    schema("RerouteBulkModel", "shipment", fields("vendor:SC-rerouteb", "bulk: [Reroute]!")),
    schema("RerouteOrderItem", "shipment", fields("vendor:SC-reroute", "id: string!", "quantity: integer")),
    schema("SearchShipmentResponse", "shipment", fields(_PLURAL, "shipments: [SearchShipmentModel]!")),
    schema("SelectedShippingMappingDTO", "shipment",
           fields("vendor:S-get", "carrierName: string", "type: string",
                  "shippingMethods: [SelectedShippingMappingMethodDTO]"),
           note="type seen: Detailed; the sample is truncated here"),
    schema("ShipmentDTO", "shipment",
           fields("vendor:S-get", "id: string!", "merchantId: string", "merchantName: string",
                  "vendorId: string", "vendorName: string", "facilityId: string", "facilityName: string",
                  "orderId: string", "shortId: string", "orderExternalId: string"),
           fields("vendor:S-order", "merchantOrderId: string"),
           fields("vendor:S-get", "safeId: string", "customerId: string", "customerShippingAddressId: integer",
                  "merchantPaymentId: string", "shippingCountryCodeISO: integer",
                  "shippingCountryCode: string", "shipmentStatus: ShipmentStatus"),
           fields("vendor:S-order", "isRejectedByVendor: boolean"),
           fields("vendor:S-get", "shippingMethod: string", "isPollingStopped: boolean",
                  "currencyCode: string", "languageCodeISO: integer", "languageCode: string",
                  "transactionalCostModel: string", "createdDate: string", "orderCreatedDate: string",
                  "lastModifiedDate: string", "merchantOrderTotal: number", "merchantPackageTotal: number",
                  "merchantTaxTotal: number", "merchantShippingTotal: number", "packageTotal: number",
                  "taxTotal: number", "shippingTotal: number", "total: number", "costTotal: number",
                  "costTaxTotal: number", "costShippingTotal: number", "costShippingTaxTotal: number",
                  "packages: [PackageDTO]", "orderItemIDs: [string]", "orderItems: [OrderItemDTO]",
                  "selectedShippingMapping: SelectedShippingMappingDTO"),
           note="not wrapped in the samples; times such as 2022-04-03T12:00:00, without a time zone"),
    schema("ShipmentStatus", "shipment", type="integer",
           note="an enumeration; seen: 1 (vendor:S-get), 4 (vendor:S-order); meanings not documented"),
    schema("UnassignOrderItemDTO", "shipment", fields(_REROUTED, "orderItems: [RerouteOrderItem]")),
    schema("UpdatePackageDTO", "shipment", fields(_PACKAGE_AS_READ, *_PACKAGE_BODY)),
    schema("UpdateShipmentDTO", "shipment",
           fields(_SHIPMENT_AS_READ, "shippingMethod: string", "shipmentStatus: ShipmentStatus",
                  "isPollingStopped: boolean")),
    schema("VendorRejectShipmentDTO", "shipment", note="for vendor users, by its name"),
    schema("VendorSearchShipmentModel", "shipment", note="for vendor users, by its name"),
    schema("VendorSearchShipmentResponse", "shipment", note="for vendor users, by its name"),
    schema("VendorShipmentResponse", "shipment", note="for vendor users, by its name"),
    schema("VendorUpdateTrackingDTO", "shipment", note="for vendor users, by its name"),
    *undocumented("shipment", """
        AssignShipmentResponse CreatePackagesResponse CreateShipmentResponse GeneratePackingSlipResponse
        OrderCount OrderItem OrderItemImage PackingSlipDto RejectResponse ReprintDTO RerouteResponse
        SearchShipmentModel SelectedCarrierShippingServiceMethodDTO SelectedShippingMappingMethodDTO
        SelectedVendorMappingDTO ShipmentsCountByStatus ShippingAddressDTO VendorOrderItemModel
        VendorPackageModel"""),
)
# fmt: on
