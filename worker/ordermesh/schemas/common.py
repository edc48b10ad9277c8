"""Schemas that several services share: errors, bulk answers, audit logs, prices, statuses."""

from __future__ import annotations

from worker.ordermesh.schemas.base import Schema, fields, schema

_EVERYWHERE = "user order note catalog shipment"
_AUDITED = "order note catalog shipment"
_ERROR_FIELDS = ("errorMessage: string", "propertyName: string", "attemptedValue: any")

# fmt: off
COMMON: tuple[Schema, ...] = (
    schema("BulkResponse", "user order catalog shipment", type="any",
           note="by its name a list of BulkResponseItem; whether bare or wrapped is not documented"),
    schema("BulkResponseItem", "user order catalog shipment"),
    schema("ConflictErrorResponse", "user order shipment", note="shows that 409 exists"),
    schema("Error", _EVERYWHERE,
           fields("inferred: the errors of a partial success (vendor:MV-add)", *_ERROR_FIELDS)),
    schema("ExternalErrorResponse", "user shipment"),
    schema("ForbiddenErrorResponse", _EVERYWHERE, note="shows that 403 exists"),
    schema("GetAuditLogResponse", _AUDITED, type="any", note="entries of StringAuditEvent, by the schema names"),
    schema("NotFoundErrorResponse", _EVERYWHERE, note="shows that 404 exists"),
    schema("OrderItemStatus", "order shipment", type="any",
           note="a string in the order service (Open, Fulfilled: vendor:O-item, O-safe), an integer in the "
                "shipment service (1: vendor:S-order); the values are not documented"),
    schema("Price", "catalog shipment", fields("vendor:MC-put", "amount: number", "currency: string"),
           fields("vendor:S-get", "tax: number"), note="tax in the shipment service only"),
    schema("PriceModel", "order catalog",
           fields("vendor:O-item", "currency: string", "amount: number")),
    schema("ResourceFormat", _AUDITED, type="string",
           note="probably the values of the query parameter `format` of audit logs"),
    schema("StringAuditEvent", _AUDITED),
    schema("UnauthorizedResult", _EVERYWHERE, note="shows that 401 exists"),
    schema("UnhandledErrorResponse", _EVERYWHERE, note="shows that 500 exists (seed: response list of the login)"),
    schema("ValidationErrorResponse", _EVERYWHERE,
           fields("inferred: the errors of a partial success (vendor:MV-add)", "errors: [Error]!")),
)
# fmt: on
