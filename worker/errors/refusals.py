"""Responses of OrderMesh that are errors."""

from __future__ import annotations

import msgspec

from ordersync_consumer.redaction import redaction
from worker.errors.ordermesh import OrderMeshError


class PropertyError(msgspec.Struct, frozen=True):
    """What the server says is wrong with one property of a request."""

    message: str
    property_name: str


class ApiError(OrderMeshError):
    """OrderMesh refused a request. `request_id` is what the vendor's support asks for.

    `retry_after`: the pause in seconds that the server asks for before another try.
    """

    code = "api_error"

    def __init__(
        self,
        operation: str,
        status: int,
        text: str,
        *,
        properties: tuple[PropertyError, ...] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.operation, self.status, self.text = operation, status, redaction.text(text)
        self.retry_after = retry_after
        self.properties, self.request_id = properties, request_id
        told = [f"{p.property_name}: {p.message}" if p.property_name else p.message for p in properties]
        details = "; ".join(told) or text or "empty response"
        suffix = f" (request id {request_id})" if request_id else ""
        if retry_after:
            suffix += f"; OrderMesh asks to wait {retry_after:.0f} s before the next request"
        super().__init__(
            f"{operation}: status {status}: {details.rstrip('.') if retry_after else details}{suffix}"
        )


class Forbidden(ApiError):
    """The token lacks a permission: an administrator of the merchant has to grant it."""

    code = "forbidden"


class NotFound(ApiError):
    """The record does not exist, or the gateway has the operation at another path."""

    code = "not_found"


class Conflict(ApiError):
    """The record exists already, or was changed in the meantime."""

    code = "conflict"


class Unaddressable(ApiError):
    """An id that cannot be part of a path, such as `..`. Nothing was sent; it counts as a refusal with status 400."""

    code = "unaddressable"


class RateLimited(ApiError):
    """Too many requests, even after waiting as long as the server asked."""

    code = "rate_limited"


class ServerError(ApiError):
    """The server failed, even after all retries."""

    code = "server_error"


_BY_STATUS: dict[int, type[ApiError]] = {
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    429: RateLimited,
}


def api_error_class(status: int) -> type[ApiError]:
    """The class of error for an HTTP status."""
    return ServerError if status >= 500 else _BY_STATUS.get(status, ApiError)
