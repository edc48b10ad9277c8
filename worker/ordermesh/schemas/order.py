"""Schemas of the order service.

The body of the creation is documented best: a full sample (vendor:O-create) and a page with every type
(vendor:SC-bulk), both truncated inside the images of an item. Items as read are complete (vendor:SC-item).
"""

from __future__ import annotations

from worker.ordermesh.schemas.base import Schema, fields, schema, undocumented

_ITEM_AS_READ = "inferred: the item as read has it (vendor:SC-item)"
_AS_CREATED = "inferred: the body of the create has it (vendor:SC-bulk)"
_AS_ITEM = "inferred: the item of the order has it (vendor:O-item)"
_PLURAL = "inferred: plural of the resource, as in the one list that is shown (vendor:PC-taylor)"

_ADDRESS = fields("vendor:SC-bulk", "firstName: string", "lastName: string", "line1: string", "line2: string",
                  "line3: string", "city: string", "state: string", "zip: string", "countryCode: string",
                  "phone: string", "email: string")  # fmt: skip
_IMAGE = ("url: string", "thumbnailUrl: string", "area: string", "printMethod: string")
_IMAGE_AS_READ = (*_IMAGE, "ourUrl: string", "ourFileId: string", "ourThumbnailUrl: string",
                  "ourThumbnailFileId: string", "vendorReadyFileId: string")  # fmt: skip
_PAYMENT = ("method: string", "subMethod: string", "cardFirst4: string", "cardLast4: string",
            "billingInfo: BillingInfoModel")  # fmt: skip
_TRANSACTION = ("total: number", "currencyCode: string", "transactionDate: string", "transactionId: string",
                "authorizationCode: string")  # fmt: skip
_DETAILS = ("externalId: string", "languageCode: string", "isTest: boolean", "isSample: boolean",
            "client: APIClientInfoModel", "meta: object", "currencyCode: string",
            "customerShippingMethod: string", "customerTotal: number", "customerItemTotal: number",
            "customerTotalShipping: number", "customerTotalTaxes: number",
            "customerTotalDiscountAndPromotions: number")  # fmt: skip

# fmt: off
ORDER: tuple[Schema, ...] = (
    schema("APIClientInfoModel", "order",
           fields("vendor:SC-bulk", "source: string", "details: string", "version: string", "ip: string")),
    schema("AddRefundItemModel", "order",
           fields("vendor:SC-refund", "itemId: string!", "isShippingRefund: boolean", "amount: number!",
                  "reason: string")),
    schema("AddRefundModel", "order",
           fields("vendor:SC-refund", "orderId: string!", "refunds: [AddRefundItemModel]!")),
    schema("AddressModel", "order", _ADDRESS, fields("vendor:SC-bulk", "location: CoordinatesModel"),
           note="countryCode: ISO 3166 alpha-2 (US, CA, FR)"),
    schema("AttributeModel", "order", fields("vendor:SC-item", "name: string", "value: string")),
    schema("BaseAddressModel", "order", _ADDRESS, note="countryCode: ISO 3166 alpha-2 (US, CA, FR)"),
    schema("BillingInfoModel", "order",
           fields("vendor:SC-bulk", "fullName: string", "address: AddressModel")),
    schema("CancelOrderItemModel", "order"),
    schema("CancelOrderModel", "order", note="names the items to cancel, by the name of CancelOrderItemModel"),
    schema("CoordinatesModel", "order", fields("vendor:SC-bulk", "longitude: number", "latitude: number")),
    schema("CreateOrderCustomerPaymentMethodModel", "order", fields("vendor:SC-bulk", *_PAYMENT,
           "customerTransactions: [CreateOrderCustomerTransactionModel]")),
    schema("CreateOrderCustomerTransactionModel", "order", fields("vendor:SC-bulk", *_TRANSACTION)),
    schema("CreateOrderItemImageModel", "order", fields("vendor:SC-bulk", *_IMAGE)),
    schema("CreateOrderItemModel", "order",
           fields("vendor:SC-bulk", "sku: string!", "quantity: integer!", "images: [CreateOrderItemImageModel]"),
           fields(_ITEM_AS_READ, "externalId: string", "originalSKU: string", "options: [OptionModel]",
                  "attributes: [AttributeModel]", "clientAttributes: object", "meta: object", "isSample: boolean",
                  "skipImgManip: boolean", "skipImageValidation: boolean", "skipSkuValidation: boolean"),
           note="the page is truncated inside the images"),
    schema("CreateOrderModel", "order",
           fields("vendor:SC-bulk", "safeId: string", "merchantId: string",
                  "shippingAddress: BaseAddressModel!", "billingAddress: BaseAddressModel",
                  "returnAddress: BaseAddressModel", *_DETAILS,
                  "customerPaymentMethods: [CreateOrderCustomerPaymentMethodModel]",
                  "items: [CreateOrderItemModel]!"),
           note="a sample with values: vendor:O-create; currencyCode: USD (default), CAD, EUR; languageCode: en, "
                "es, pt; meta: texts by name; safeId: "
                "unique, to be chosen by the caller. What must be there is not documented: items and an address "
                "to send them to are taken to be"),
    schema("CreateOrderModelBulkModel", "order", fields("vendor:SC-bulk", "bulk: [CreateOrderModel]!")),
    schema("GetOrderCustomerPaymentMethodModel", "order", fields(_AS_CREATED, *_PAYMENT,
           "customerTransactions: [GetOrderCustomerTransactionModel]")),
    schema("GetOrderCustomerTransactionModel", "order", fields(_AS_CREATED, *_TRANSACTION)),
    schema("GetOrderItemImageModel", "order", fields("vendor:SC-item", *_IMAGE_AS_READ)),
    schema("GetOrderItemModel", "order",
           fields("vendor:SC-item", "id: string!", "shortId: string", "externalId: string", "sku: string",
                  "originalSKU: string", "quantity: integer", "status: OrderItemStatus", "statusDesc: string",
                  "createdAt: string", "updatedAt: string", "processedAt: string", "cancelledAt: string",
                  "images: [GetOrderItemImageModel]", "options: [OptionModel]", "attributes: [AttributeModel]",
                  "customerSubtotal: PriceModel", "customerPrice: PriceModel",
                  "customerShippingPrice: PriceModel", "customerTaxes: PriceModel", "merchantPrice: PriceModel",
                  "merchantShippingPrice: PriceModel", "merchantTax: PriceModel", "merchantSubTotal: PriceModel",
                  "merchantItemTotal: PriceModel", "clientAttributes: object", "meta: object",
                  "isSample: boolean", "skipImgManip: boolean", "skipImageValidation: boolean",
                  "skipSkuValidation: boolean", "fulfillmentReady: boolean",
                  "refundData: GetOrderItemRefundDataModel"),
           note="has no orderId; updatedAt is null until the first change (vendor:O-safe)"),
    schema("GetOrderItemRefundDataItemModel", "order",
           fields("vendor:SC-item", "transactionId: string", "isShippingRefund: boolean", "amount: number",
                  "reason: string")),
    schema("GetOrderItemRefundDataModel", "order",
           fields("vendor:SC-item", "refunds: [GetOrderItemRefundDataItemModel]",
                  "remainingShippingBalance: number", "remainingPriceBalance: number")),
    schema("GetOrderItemResponse", "order", fields("vendor:SC-item", "orderItem: GetOrderItemModel!")),
    schema("GetOrderModel", "order",
           fields("vendor:O-safe", "items: [GetOrderItemModel]", "merchantItemTotal: PriceModel",
                  "merchantTaxTotal: PriceModel", "merchantShippingTotal: PriceModel",
                  "merchantTotal: PriceModel", "reprint: ReprintModel", "facilityNames: [string]",
                  "shipmentCreatedDates: [string]", "shipmentIds: [string]", "id: string!", "shortId: string",
                  "shippingAddress: AddressModel", "billingAddress: AddressModel"),
           fields(_AS_CREATED, "returnAddress: AddressModel", "safeId: string", "merchantId: string", *_DETAILS,
                  "customerPaymentMethods: [GetOrderCustomerPaymentMethodModel]"),
           fields(_AS_ITEM, "status: OrderStatus", "statusDesc: string", "createdAt: string",
                  "updatedAt: string", "processedAt: string", "cancelledAt: string"),
           note="the sample is truncated after billingAddress; shipmentIds joins to the shipment service"),
    schema("GetOrderResponse", "order", fields("vendor:O-safe", "order: GetOrderModel!")),
    schema("GetOrdersCountByStatusResponse", "order", note="no published operation uses it"),
    schema("GetOrdersPollingStoppedCountResponse", "order", note="no published operation uses it"),
    schema("ListOrdersResponse", "order", fields(_PLURAL, "orders: [ListOrderModel]!")),
    schema("OptionModel", "order", fields("vendor:SC-item", "name: string", "value: string")),
    schema("OrderStatus", "order", type="string",
           note="an enumeration; seen: Open and Fulfilled (of items); Customer Care Hold and a cancelled state "
                "exist by the titles of operations"),
    schema("ReprintCostCoverageModel", "order", fields("vendor:O-safe", "item: string", "shipping: string"),
           note="values seen: Merchant, Customer"),
    schema("ReprintModel", "order",
           fields("vendor:O-safe", "originalOrderId: string", "reasonId: integer",
                  "shipments: [ReprintShipmentModel]")),
    schema("ReprintShipmentItemModel", "order", fields("vendor:O-safe", "sku: string", "quantity: integer")),
    schema("ReprintShipmentModel", "order",
           fields("vendor:O-safe", "facilityId: string", "shippingMethod: string",
                  "costCoverage: ReprintCostCoverageModel", "items: [ReprintShipmentItemModel]")),
    schema("SearchOrderItemsResponse", "order", fields(_PLURAL, "orderItems: [GetOrderItemModel]!")),
    schema("SearchOrdersResponse", "order", fields(_PLURAL, "orders: [SearchOrderModel]!")),
    schema("UpdateOrderModelBulkModel", "order",
           fields("inferred: envelope of the bulk models (vendor:SC-bulk)", "bulk: [UpdateOrderModel]!")),
    *undocumented("order", """
        CancelOrderResponse CreateOrderResponse CustomerCareHoldOrderResponse ListOrderModel OrdersCountByStatus
        RefreshProcessingModel RefreshProcessingResponse SearchOrderModel ShipmentMetadata StartProcessingModel
        StartProcessingResponse UpdateOrderItemImageModel UpdateOrderItemModel UpdateOrderItemResponse
        UpdateOrderModel UpdateOrderResponse UpdatePriceModel VariantAttribute VariantOption"""),
)
# fmt: on
