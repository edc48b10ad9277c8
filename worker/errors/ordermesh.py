"""Errors of OrderMesh: it does not answer, refuses the login, or does not keep to its contract."""

from __future__ import annotations

from typing import Any

from ordersync_consumer.errors import OrdersyncError
from ordersync_consumer.redaction import redaction


class OrderMeshError(OrdersyncError):
    """An error between the worker and OrderMesh. A server may echo what was sent to it, so its words hide secrets."""

    code = "ordermesh"

    def __init__(self, message: str = "") -> None:
        super().__init__(redaction.text(message))


class GatewayUnreachable(OrderMeshError):
    """No connection to the gateway, or no response in time, after all retries."""

    code = "gateway_unreachable"
    exit_status = 3

    def __init__(self, operation: str, url: str, reason: str) -> None:
        self.operation, self.url, self.reason = operation, url, redaction.text(reason)
        super().__init__(
            f"{operation}: {url} cannot be reached ({reason}). Check ORDERSYNC_API__BASE_URL and the network."
        )


class OutcomeUnknown(OrderMeshError):
    """A write was sent, and no answer came back: whether it was done cannot be known from here."""

    code = "outcome_unknown"

    def __init__(self, operation: str, reason: str) -> None:
        self.operation, self.reason = operation, redaction.text(reason)
        super().__init__(
            f"{operation}: the request was sent, but no response arrived ({reason}). OrderMesh may have applied "
            "it: read the record (an order by its safe id) before you send the request again."
        )


class PartialBulk(OrderMeshError):
    """One request of a long bulk list failed after others had been answered; the rest was not sent.

    `items`: the results so far, one for each position of the list below `failed`. `failed` and `unsent`: the
    first position of the request that failed, and of what was not sent. `error`: why. Where it is an
    `OutcomeUnknown`, the positions from `failed` up to `unsent` may have been done.
    """

    code = "partial_bulk"

    def __init__(
        self, operation: str, items: tuple[Any, ...], unsent: int, total: int, error: OrderMeshError
    ) -> None:
        self.operation, self.items, self.error = operation, items, error
        self.failed, self.unsent, self.total = len(items), unsent, total
        left = f" Items from position {unsent} on were not sent." if unsent < total else ""
        super().__init__(
            f"{operation}: {len(items)} of {total} items were processed, then the request with positions "
            f"{len(items)} to {unsent - 1} failed: {error}{left}"
        )


class LoginRejected(OrderMeshError):
    """OrderMesh refused the credentials."""

    code = "login_rejected"
    exit_status = 2  # it does not become right by trying again, as a supervisor would

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, redaction.text(text)
        advice = (
            "Check that ORDERSYNC_API__BASE_URL is the address of the gateway."
            if status == 404
            else "Check ORDERSYNC_API__CLIENT_ID and ORDERSYNC_API__CLIENT_SECRET (or ORDERSYNC_API__USERNAME "
            "and ORDERSYNC_API__PASSWORD, or the account in ORDERSYNC_ACCOUNTS_FILE)."
        )
        words = (text or "empty response").rstrip(".")
        super().__init__(f"OrderMesh refused the login with status {status}: {words}. {advice}")


class TokenRejected(OrderMeshError):
    """OrderMesh accepted the credentials, and refused the token that it had given out for them."""

    code = "token_rejected"
    exit_status = 3

    def __init__(self, operation: str, text: str) -> None:
        self.operation, self.text = operation, redaction.text(text)
        words = (text or "empty response").rstrip(".")
        super().__init__(
            f"{operation}: OrderMesh answered 401 to the token of a login that had just succeeded: {words}. The "
            "credentials are right. Check in OrderMesh what this client may read, and that ORDERSYNC_API__BASE_URL "
            "is the gateway that the client belongs to."
        )


class UnreadableAnswer(OrderMeshError):
    """An answer with a good status that is not what the contract says. The cursor has not moved."""

    code = "unreadable_answer"

    def __init__(self, operation: str, what: str, *, page: int | None = None, excerpt: str = "") -> None:
        self.operation, self.page = operation, page
        self.what, self.excerpt = redaction.text(what), redaction.text(excerpt)
        where = operation if page is None else f"{operation} page {page}"
        super().__init__(f"{where}: {what}" + (f" ({excerpt})" if excerpt else ""))


class ResponseTooLarge(UnreadableAnswer):
    """A response, or a list, has more bytes, records, values, header lines or pages than are read.

    `limit`: of what, and how many, in words. `what`: what is too large.
    """

    code = "response_too_large"

    def __init__(
        self, operation: str, limit: str, *, page: int | None = None, what: str = "the response"
    ) -> None:
        self.limit = limit
        super().__init__(operation, f"{what} has more than {limit}", page=page)


class ContractMismatch(OrderMeshError):
    """No known path of a list returns a list."""

    code = "contract_mismatch"
    exit_status = 3

    def __init__(self, operation: str, resource: str, tried: tuple[str, ...], problem: str) -> None:
        self.operation, self.resource, self.tried, self.problem = operation, resource, tried, problem
        super().__init__(
            f"{operation}: no list of {resource} at {', '.join(tried)} ({problem.rstrip('.')}). Import the vendor's "
            "OpenAPI document with `ordersync contract import`, or set the path in ORDERSYNC_CONTRACT_FILE."
        )


class ContinuationRefused(OrderMeshError):
    """The gateway no longer takes the continuation of a list: the list has to be read from its beginning."""

    code = "continuation_refused"

    def __init__(self, operation: str, what: str) -> None:
        self.operation, self.what = operation, redaction.text(what)
        super().__init__(f"{operation}: the gateway refused to continue the list: {what}")


class FilterBroken(OrderMeshError):
    """The gateway no longer honours a filter by modification time."""

    code = "filter_broken"

    def __init__(self, operation: str, what: str) -> None:
        self.operation, self.what = operation, redaction.text(what)
        super().__init__(f"{operation}: {what}")


class SortBroken(OrderMeshError):
    """The gateway no longer honours a sort by modification time."""

    code = "sort_broken"

    def __init__(self, operation: str, what: str) -> None:
        self.operation, self.what = operation, redaction.text(what)
        super().__init__(f"{operation}: {what}")


class ChoiceBroken(OrderMeshError):
    """The gateway no longer honours a filter by status or merchant."""

    code = "choice_broken"

    def __init__(self, operation: str, what: str) -> None:
        self.operation, self.what = operation, redaction.text(what)
        super().__init__(f"{operation}: {what}")
