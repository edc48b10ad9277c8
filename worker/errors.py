"""The errors of ordermesh-sync.

    OrdersyncError
    ├── SettingsError            wrong or missing settings, files or arguments         exit 2
    ├── RedisUnavailable         Redis does not answer, or refuses what the worker needs  exit 3
    │   └── RedisFull            Redis has reached its maxmemory and refuses to write     exit 3
    ├── LeaseLost                another worker took over while this one was working
    ├── LeaseHeld                another worker is at it
    ├── RedisWentBack            Redis contains less than was committed to it
    ├── DataError                an entry in Redis that this program did not write
    │   └── SourceMoved          the state in Redis comes from another gateway             exit 2
    ├── GroupGone                the consumer group was dropped while it was read
    ├── ConsumerReplaced         another process consumes under the same name
    ├── NotReplayable            a dead letter cannot be delivered again, or there is none
    └── OrderMeshError
        ├── GatewayUnreachable   no connection, or no answer in time                   exit 3
        ├── OutcomeUnknown       a write was sent and its answer is lost: it may have been done
        ├── PartialBulk          a list sent in several requests: one failed, those before it were answered
        ├── LoginRejected        the credentials were refused                          exit 3
        ├── TokenRejected        a token of a fresh login was refused                  exit 3
        ├── UnreadableAnswer     the answer is not what the contract says
        │   └── ResponseTooLarge the answer is larger than the settings permit
        ├── ContractMismatch     a resource has no list at any path that is known                exit 3
        ├── FilterBroken         a filter by modification that held does so no more
        ├── SortBroken           a sort by modification that held does so no more
        ├── ChoiceBroken         a choice by status or merchant that held does so no more
        └── ApiError             any other refusal: status, code, text, properties, request id
            ├── Forbidden        403
            ├── NotFound         404, 410
            ├── Conflict         409
            ├── Unaddressable    an id that no path can hold
            ├── RateLimited      429
            └── ServerError      5xx

Every error has a stable `code`, which logs and documentation use, and builds its own message. One that a
user can cause says what to do next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


class OrdersyncError(Exception):
    """The root of all expected errors. `exit_status` is the exit code of a command that ends with it."""

    code: ClassVar[str] = "failed"
    exit_status: ClassVar[int] = 1


class SettingsError(OrdersyncError):
    """Settings, a file or an argument cannot be used. The message names it and says what to do."""

    code = "settings"
    exit_status = 2


class RedisUnavailable(OrdersyncError):
    """Redis does not answer, or refuses a command that the worker needs."""

    code = "redis_unavailable"
    exit_status = 3


class RedisFull(RedisUnavailable):
    """Redis has reached its maxmemory and refuses writes. Nothing is lost."""

    code = "redis_full"

    def __init__(self) -> None:
        super().__init__(
            "Redis is full and refuses writes. Nothing is lost: the worker continues automatically when memory is "
            "free. Give Redis more memory (CONFIG SET maxmemory), or keep fewer events "
            "(ORDERSYNC_RETENTION__MAX_AGE, __MAX_ENTRIES, __MAX_BYTES). To see which groups block retention: "
            "ordersync groups."
        )


class LeaseLost(OrdersyncError):
    """A commit was refused: another worker has taken over the lease, and continues from the last commit."""

    code = "lease_lost"

    def __init__(self, resource: str, fence: int) -> None:
        self.resource, self.fence = resource, fence
        super().__init__(f"the lease on {resource} (fence {fence}) was taken over by another worker")


class LeaseHeld(OrdersyncError):
    """Another worker holds the lease, and reads the resource."""

    code = "lease_held"

    def __init__(self, resource: str, owner: str, seconds_left: float) -> None:
        self.resource, self.owner, self.seconds_left = resource, owner, seconds_left
        super().__init__(f"{owner} holds the lease on {resource} for another {seconds_left:.1f} s")


class RedisWentBack(OrdersyncError):
    """A commit was refused: Redis contains less than was committed to it. The next read goes on from there."""

    code = "redis_went_back"

    def __init__(self, resource: str, expected: int, sequence: int) -> None:
        self.resource, self.expected, self.sequence = resource, expected, sequence
        what = (
            f"{expected} is the last event of {resource} that was published, and Redis contains only those up to "
            f"{sequence}"
            if sequence < expected
            else f"the stream of {resource} is gone, or another worker has noticed a loss"
        )
        super().__init__(
            f"Redis has lost data: {what}. Nothing was written; the next poll reads what is missing."
        )


class DataError(OrdersyncError):
    """An entry in Redis was not written by this program. Nothing was changed."""

    code = "data"


class SourceMoved(DataError):
    """The events and states of an account come from another gateway than the settings name. Nothing was changed."""

    code = "source_moved"
    exit_status = 2

    def __init__(self, account: str, stored: str, url: str) -> None:
        super().__init__(
            f"the events and states of account {account} come from {stored}, and ORDERSYNC_API__BASE_URL is now {url}. "
            "Nothing was changed. If the same OrderMesh has moved, set "
            f"ORDERSYNC_API__MOVED_FROM={stored}. If it is another OrderMesh, give it an account of its own "
            "(accounts.toml), or another database in ORDERSYNC_REDIS__URL"
        )


class GroupGone(OrdersyncError):
    """The group no longer exists: it was dropped. One that Redis has lost is created again."""

    code = "group_gone"

    def __init__(self, group: str, streams: str) -> None:
        self.group, self.streams = group, streams
        super().__init__(
            f"group {group} of {streams} no longer exists: it was dropped while this consumer read it. Start the "
            "consumer again to create the group; it then starts with the oldest event in the stream."
        )


class ConsumerReplaced(OrdersyncError):
    """Another process consumes with the same name; this process stops."""

    code = "consumer_replaced"

    def __init__(self, group: str, name: str) -> None:
        self.group, self.name = group, name
        super().__init__(
            f"another process consumes for group {group} as {name!r}. Give each process its own name, and keep it "
            "after a restart: Consumer(..., name=...)."
        )


class NotReplayable(OrdersyncError):
    """A dead letter cannot be delivered again and is kept, or it does not exist."""

    code = "not_replayable"


class OrderMeshError(OrdersyncError):
    """An error between the worker and OrderMesh."""

    code = "ordermesh"


class GatewayUnreachable(OrderMeshError):
    """No connection to the gateway, or no response in time, after all retries."""

    code = "gateway_unreachable"
    exit_status = 3

    def __init__(self, operation: str, url: str, reason: str) -> None:
        self.operation, self.url, self.reason = operation, url, reason
        super().__init__(
            f"{operation}: {url} cannot be reached ({reason}). Check ORDERSYNC_API__BASE_URL and the network."
        )


class OutcomeUnknown(OrderMeshError):
    """A write was sent, and no answer came back: whether it was done cannot be known from here."""

    code = "outcome_unknown"

    def __init__(self, operation: str, reason: str) -> None:
        self.operation, self.reason = operation, reason
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
    exit_status = 3

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text
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
        self.operation, self.text = operation, text
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
        self.operation, self.what, self.page, self.excerpt = operation, what, page, excerpt
        where = operation if page is None else f"{operation} page {page}"
        super().__init__(f"{where}: {what}" + (f" ({excerpt})" if excerpt else ""))


class ResponseTooLarge(UnreadableAnswer):
    """A response has more bytes or values than the settings permit."""

    code = "response_too_large"

    def __init__(self, operation: str, limit: str, *, page: int | None = None) -> None:
        self.limit = limit
        super().__init__(operation, f"the response has more than {limit}", page=page)


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
        self.operation, self.what = operation, what
        super().__init__(f"{operation}: the gateway refused to continue the list: {what}")


class FilterBroken(OrderMeshError):
    """The gateway no longer honours a filter by modification time."""

    code = "filter_broken"

    def __init__(self, operation: str, what: str) -> None:
        self.operation, self.what = operation, what
        super().__init__(f"{operation}: {what}")


class SortBroken(OrderMeshError):
    """The gateway no longer honours a sort by modification time."""

    code = "sort_broken"

    def __init__(self, operation: str, what: str) -> None:
        self.operation, self.what = operation, what
        super().__init__(f"{operation}: {what}")


class ChoiceBroken(OrderMeshError):
    """The gateway no longer honours a filter by status or merchant."""

    code = "choice_broken"

    def __init__(self, operation: str, what: str) -> None:
        self.operation, self.what = operation, what
        super().__init__(f"{operation}: {what}")


@dataclass(frozen=True, slots=True)
class PropertyError:
    """What the server says is wrong with one property of a request."""

    message: str
    property_name: str


class ApiError(OrderMeshError):
    """OrderMesh refused a request. `request_id` is what the vendor's support asks for.

    `retry_after`: the pause in seconds that the server asks for, where it is too long for another try now.
    """

    code = "api_error"
    retry_after: float | None = None

    def __init__(
        self,
        operation: str,
        status: int,
        text: str,
        *,
        properties: tuple[PropertyError, ...] = (),
        request_id: str | None = None,
    ) -> None:
        self.operation, self.status, self.text = operation, status, text
        self.properties, self.request_id = properties, request_id
        told = [f"{p.property_name}: {p.message}" if p.property_name else p.message for p in properties]
        details = "; ".join(told) or text or "empty response"
        suffix = f" (request id {request_id})" if request_id else ""
        super().__init__(f"{operation}: status {status}: {details}{suffix}")


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
