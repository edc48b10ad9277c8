"""The OpenAPI 3.1 document of the sandbox: all 79 operations as it serves them under its contract.

Built from the table of operations and the table of schemas. Where the vendor documents no fields of an answer,
the schema is that of what the sandbox serves instead, so that its answers can be held against the document.
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
MOST = 999_999_999
"""The largest page and page size that are read."""

_JSON = "application/json"
_ERROR = "ValidationErrorResponse"
_REFUSALS = {
    400: ("ValidationErrorResponse", "The request is malformed, or contradicts what is there."),
    401: ("UnauthorizedResult", "The access token is missing, unknown or expired; a login is refused."),
    403: ("ForbiddenErrorResponse", "The token lacks the permission."),
    404: ("NotFoundErrorResponse", "Something that the request names is not there."),
    409: ("ConflictErrorResponse", "The request contradicts what is there."),
}
"""Statuses of refusals, the vendor's schema that tells of them, and what they mean."""

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
"""Schemas without documented fields, and the one whose fields the sandbox serves in their place."""

_MAKES_ONE = {each for each in OPERATIONS if each.endswith(".create")} | {"orders.refund"}

_PARAMETER = re.compile(r"\{(\w+)\}")
_TEXT: JsonSchema = {"type": "string"}


def document(contract: ServedContract | None = None, url: str = "/") -> dict[str, Any]:
    """The document, as decoded JSON.

    Args:
        contract: The layout that the sandbox serves; the default one when left out.
        url: Where the sandbox stands.
    """
    layout = contract or ServedContract()
    paths: dict[str, dict[str, Any]] = {}
    # Paths that differ in the names of their parameters alone are one path in OpenAPI: the first name stands.
    spelled: dict[str, str] = {}
    for operation in OPERATIONS.values():
        path = layout.path(operation)
        path = spelled.setdefault(_PARAMETER.sub("{}", path), path)
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
    """The statuses that an operation answers with when nothing is wrong with the sandbox, success first."""
    refusals = [401]
    if operation.service != "user":
        refusals.append(403)
    # The catalog has no schema for conflicts: a deletion of what is in use is malformed there.
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
    """204 for a deletion, which has nothing to tell, 201 for what makes one record, and 200 for all others.

    The vendor shows 200 for the login, and nothing of the others.
    """
    if operation.method == "DELETE":
        return 204
    return 201 if operation.key in _MAKES_ONE else 200


def _operation(contract: ServedContract, operation: Operation, path: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation.key,
        "summary": operation.title,
        "tags": [operation.tag],
        "description": _description(operation),
        "parameters": [*_path_parameters(path), *_query_parameters(contract, operation)],
        "responses": {str(status): _response(contract, operation, status) for status in statuses(operation)},
    }
    if takes_body(operation):
        made["requestBody"] = {
            "required": needs_body(operation),
            "content": {_JSON: {"schema": _request_schema(contract, operation)}},
        }
    if operation.service == "user":
        made["security"] = []
    if operation.page:
        made["externalDocs"] = {"url": operation.page}
    return made


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
    whole: dict[str, JsonSchema] = {"pageSize": {"type": "integer", "minimum": 1, "maximum": MOST}}
    if not contract.ignore_page:
        whole["page"] = {"type": "integer", "minimum": least, "maximum": MOST}
    if contract.refuse_large and contract.max_page_size is not None:
        whole["pageSize"]["maximum"] = contract.max_page_size
    names = list(operation.query)
    if operation.method == "GET" and operation.request is not None:
        names += [item.name for item in SCHEMAS[operation.request].fields]
    for name in names:
        yield {
            "name": name,
            "in": "query",
            "required": name == "ids" and _asks_for_ids(operation),
            "schema": whole.get(name, _TEXT),
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
        # The fields of most of the vendor's error schemas are not documented: the sandbox knows one shape.
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
    # With some operations the table names the schema of one record instead of one of the answer.
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
    names = [item for one in OPERATIONS.values() for item in (one.request, one.answer) if item]
    made = {
        each: json_schema(SCHEMAS[each], IN_OPENAPI)
        for each in needed_by([*names, *_SERVED, *_SERVED.values(), _ERROR])
    }
    for name in made:
        if is_bulk(name):
            made[name]["properties"]["bulk"] |= {"minItems": 1, "maxItems": 100}
    return made | {"AuditLogs": _audit_logs(contract), "BulkResults": _bulk_results()}


def _audit_logs(contract: ServedContract) -> JsonSchema:
    if contract.audit_shape == "bare":
        names = ("auditId", "createdAt", "eventType", "performedBy", "data")
        return {"type": "array", "items": _object(dict.fromkeys(names, _TEXT), *names)}
    change = _object({"property": _TEXT, "oldValue": {}, "newValue": {}}, "property")
    texts = dict.fromkeys(("id", "resourceId", "resourceType", "action", "user", "timestamp"), _TEXT)
    entry = _object(texts | {"changes": {"type": "array", "items": change}}, *texts, "changes")
    return _object({"auditLogs": {"type": "array", "items": entry}}, "auditLogs")


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
