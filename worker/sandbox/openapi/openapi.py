"""The OpenAPI 3.1 document of the sandbox: all 79 operations as its contract lays them out.

It is generated from the table of operations and the table of schemas. If the vendor does not document the fields of a
response, the schema is that of the sandbox's response, so that responses can be validated against the document.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from worker.ordermesh.contract.operations import OPERATIONS, Operation
from worker.ordermesh.schemas import SCHEMAS, records_schema
from worker.sandbox.contract import PLURAL, ServedContract
from worker.sandbox.openapi.json_schemas import IN_OPENAPI, JsonSchema, json_schema, needed_by, of_type
from worker.sandbox.openapi.validation import is_bulk, needs_body, takes_body

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "3.1.0"
LARGEST_NUMBER = 999_999_999
"""The largest page number and page size that the sandbox accepts."""

_JSON = "application/json"
_ERROR = "ValidationErrorResponse"
_REFUSALS = {
    400: ("ValidationErrorResponse", "The request is malformed, or contradicts existing records."),
    401: ("UnauthorizedResult", "The access token is missing, unknown or expired; a login is refused."),
    403: ("ForbiddenErrorResponse", "The token lacks the permission."),
    404: ("NotFoundErrorResponse", "A record in the request does not exist."),
    409: ("ConflictErrorResponse", "The request contradicts existing records."),
}
"""Statuses of refusals, with the vendor's schema and the meaning of each."""

_SERVED = {
    "AssignShipmentResponse": "ShipmentDTO",
    "CancelOrderResponse": "GetOrderResponse",
    "CreateMerchantCatalogResponse": "MerchantCatalogDto",
    "CreateOrderResponse": "GetOrderResponse",
    "CreateProductResponse": "ProductModel",
    "CreateVariantResult": "VariantModel",
    "CreateShipmentResponse": "ShipmentDTO",
    "CustomerCareHoldOrderResponse": "GetOrderResponse",
    "ListOrderModel": "GetOrderModel",
    "PatchMerchantCatalogResponse": "MerchantCatalogDto",
    "RejectResponse": "ShipmentDTO",
    "RerouteResponse": "ShipmentDTO",
    "SearchOrderModel": "GetOrderModel",
    "SearchShipmentModel": "ShipmentDTO",
    "UpdateMerchantCatalogResponse": "MerchantCatalogDto",
    "UpdateOrderItemResponse": "GetOrderItemResponse",
    "UpdateOrderResponse": "GetOrderResponse",
    "UpdateProductResponse": "ProductModel",
    "UpdateProductVariantResponse": "VariantModel",
    "VendorShipmentResponse": "ShipmentDTO",
}
"""Schemas without documented fields, each with the schema whose fields the sandbox serves instead."""

_CREATES_ONE = {each for each in OPERATIONS if each.endswith(".create")} | {"orders.refund"}

_PARAMETER = re.compile(r"\{(\w+)\}")
_TEXT: JsonSchema = {"type": "string"}


def document(contract: ServedContract | None = None, url: str = "/") -> dict[str, Any]:
    """Return the document, as decoded JSON.

    Args:
        contract: The layout of the sandbox; None for the default one.
        url: The address of the sandbox.
    """
    layout = contract or ServedContract()
    paths: dict[str, dict[str, Any]] = {}
    # Paths that differ only in the names of their parameters are the same path in OpenAPI: the first names are used.
    first_spelling: dict[str, str] = {}
    for operation in OPERATIONS.values():
        path = layout.path(operation)
        path = first_spelling.setdefault(_PARAMETER.sub("{}", path), path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(layout, operation, path)
    return {
        "openapi": VERSION,
        "info": {
            "title": "OrderMesh, as served by the local sandbox",
            "version": "1.0.0",
            "description": "Paths, parameters and fields that the vendor does not document are inferred.",
        },
        "servers": [{"url": url}],
        "tags": [{"name": tag} for tag in dict.fromkeys(item.tag for item in OPERATIONS.values())],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": _components(layout),
        },
        "security": [{"bearer": []}],
    }


def statuses(operation: Operation) -> tuple[int, ...]:
    """Return the statuses of an operation, success first, without those of a failing server."""
    refusals = [401]
    if operation.service != "user":
        refusals.append(403)
    # The catalog has no schema for conflicts, so deleting a record that is in use gets a 400.
    in_use = operation.method == "DELETE" and operation.service == "catalog"
    if operation.paged or takes_body(operation) or _asks_for_ids(operation) or in_use:
        refusals.append(400)
    if operation.path_parameters or (operation.writes and operation.service != "user"):
        refusals.append(404)
    if operation.writes:
        refusals.append(409)
    known = (item for item in sorted(refusals) if operation.service in SCHEMAS[_REFUSALS[item][0]].services)
    return (success_status(operation), *known)


def success_status(operation: Operation) -> int:
    """Return 204 for a deletion, 201 for the creation of one record, and 200 for all other operations.

    The vendor documents only the 200 of the login.
    """
    if operation.method == "DELETE":
        return 204
    return 201 if operation.key in _CREATES_ONE else 200


def _operation(contract: ServedContract, operation: Operation, path: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "operationId": operation.key,
        "summary": operation.title,
        "tags": [operation.tag],
        "description": _description(operation),
        "parameters": [*_path_parameters(path), *_query_parameters(contract, operation)],
        "responses": {str(status): _response(contract, operation, status) for status in statuses(operation)},
    }
    if takes_body(operation):
        result["requestBody"] = {
            "required": needs_body(operation),
            "content": {_JSON: {"schema": _request_schema(contract, operation)}},
        }
    if operation.service == "user":
        result["security"] = []
    if operation.page:
        result["externalDocs"] = {"url": operation.page}
    return result


def _description(operation: Operation) -> str:
    path = "documented" if operation.documented else f"inferred ({operation.confidence} confidence)"
    method = "documented" if operation.method_documented else "inferred"
    note = f" Note: {operation.note}." if operation.note else ""
    return f"Path {path}, method {method}.{note}"


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query_parameters(contract: ServedContract, operation: Operation) -> Iterator[dict[str, Any]]:
    least = 0 if contract.lenient_pages else contract.page_base
    numbers: dict[str, JsonSchema] = {
        "pageSize": {"type": "integer", "minimum": 1, "maximum": LARGEST_NUMBER}
    }
    if not contract.ignore_page:
        numbers["page"] = {"type": "integer", "minimum": least, "maximum": LARGEST_NUMBER}
    if contract.refuse_large and contract.max_page_size is not None:
        numbers["pageSize"]["maximum"] = contract.max_page_size
    names = list(operation.query)
    if operation.method == "GET" and operation.request is not None:
        names += [item.name for item in SCHEMAS[operation.request].fields]
    for name in names:
        yield {
            "name": name,
            "in": "query",
            "required": name == "ids" and _asks_for_ids(operation),
            "schema": numbers.get(name, _TEXT),
        }


def _asks_for_ids(operation: Operation) -> bool:
    return "ids" in operation.query


def _request_schema(contract: ServedContract, operation: Operation) -> JsonSchema:
    assert operation.request is not None  # noqa: S101 - an operation that takes a body has a schema for it
    if operation.key == "clients.token" and contract.login_case != "camel":
        snake = _object({"client_id": _TEXT, "client_secret": _TEXT}, "client_id", "client_secret")
        either = {"anyOf": [of_type(operation.request, IN_OPENAPI), snake]}
        return snake if contract.login_case == "snake" else either
    return of_type(operation.request, IN_OPENAPI)


def _response(contract: ServedContract, operation: Operation, status: int) -> dict[str, Any]:
    if status in _REFUSALS:
        name, meaning = _REFUSALS[status]
        # The fields of most of the vendor's error schemas are not documented, so the sandbox has a single format.
        return {
            "description": f"{meaning} The vendor's schema: {name}.",
            "content": {_JSON: {"schema": of_type(_ERROR, IN_OPENAPI)}},
        }
    if status == 204:
        return {"description": "Done."}
    if operation.key == "shipments.packing_slip":
        return {"description": "The slip.", "content": {"application/pdf": {}}}
    return {"description": "Done.", "content": {_JSON: {"schema": _answer_schema(contract, operation)}}}


def _answer_schema(contract: ServedContract, operation: Operation) -> JsonSchema:
    if operation.records is not None:
        return _list_schema(contract, operation, operation.records)
    if operation.answer == "GetAuditLogResponse":
        return {"$ref": f"{IN_OPENAPI}AuditLogs"}
    if operation.answer == "BulkResponse":
        return {"$ref": f"{IN_OPENAPI}BulkResults"}
    if operation.answer == "CreatePackagesResponse":
        return _object({"packages": of_type("[PackageDTO]", IN_OPENAPI)}, "packages")
    if operation.answer is None:
        return {"type": "object"}
    return of_type(_SERVED.get(operation.answer, operation.answer), IN_OPENAPI)


def _list_schema(contract: ServedContract, operation: Operation, records: str) -> JsonSchema:
    answer = operation.answer or ""
    # For some operations the table has the schema of one record instead of that of the response.
    name = records_schema(answer, records) or answer
    rows: JsonSchema = {"type": "array", "items": of_type(_SERVED.get(name, name), IN_OPENAPI)}
    if contract.wrapper_key is None:
        return rows
    key = records if contract.wrapper_key == PLURAL else contract.wrapper_key
    fields: dict[str, JsonSchema] = {key: rows}
    if operation.paged and contract.paging:
        fields |= {"page": {"type": "integer"}, "pageSize": {"type": "integer"}}
    if operation.paged and contract.total is not None:
        fields[contract.total] = {"type": "integer"}
    return _object(fields, key)


def _components(contract: ServedContract) -> dict[str, JsonSchema]:
    names = [name for each in OPERATIONS.values() for name in (each.request, each.answer) if name]
    result = {
        each: json_schema(SCHEMAS[each], IN_OPENAPI)
        for each in needed_by([*names, *_SERVED, *_SERVED.values(), _ERROR])
    }
    for name in result:
        if is_bulk(name):
            result[name]["properties"]["bulk"] |= {"minItems": 1, "maxItems": 100}
    return result | {"AuditLogs": _audit_logs(contract), "BulkResults": _bulk_results()}


def _audit_logs(contract: ServedContract) -> JsonSchema:
    if contract.audit_shape == "bare":
        names = ("auditId", "createdAt", "eventType", "performedBy", "data")
        return {"type": "array", "items": _object(dict.fromkeys(names, _TEXT), *names)}
    change = _object({"property": _TEXT, "oldValue": {}, "newValue": {}}, "property")
    texts = dict.fromkeys(("id", "resourceId", "resourceType", "action", "user", "timestamp"), _TEXT)
    entry = _object(texts | {"changes": {"type": "array", "items": change}}, *texts, "changes")
    frame: dict[str, JsonSchema] = {}
    if contract.audit_page_size is not None:
        keys = [*(("page", "pageSize") if contract.paging else ()), contract.total]
        frame = {key: {"type": "integer"} for key in keys if key is not None}
    return _object({"auditLogs": {"type": "array", "items": entry}, **frame}, "auditLogs", *frame)


def _bulk_results() -> JsonSchema:
    result = _object(
        {
            "index": {"type": "integer"},
            "id": {"type": ["string", "null"]},
            "isSuccess": {"type": "boolean"},
            "statusCode": {"type": "integer"},
            "errors": {"type": "array", "items": of_type("Error", IN_OPENAPI)},
        },
        *("index", "id", "isSuccess", "statusCode", "errors"),
    )
    return _object({"items": {"type": "array", "items": result}}, "items")


def _object(properties: dict[str, JsonSchema], *required: str) -> JsonSchema:
    return {"type": "object", "properties": properties, "required": list(required)}
