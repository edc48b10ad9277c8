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
    ├── CommandFails             the command of `ordersync consume --once` fails for every event
    ├── ReceiverGone             the receiver of `ordersync forward` was removed            exit 1
    ├── ReceiverUnavailable      it takes no events at the moment                        exit 1
    └── OrderMeshError
        ├── GatewayUnreachable   no connection, or no answer in time                   exit 3
        ├── OutcomeUnknown       a write was sent and its answer is lost: it may have been done
        ├── PartialBulk          a list sent in several requests: one failed, those before it were answered
        ├── LoginRejected        the credentials were refused                          exit 2
        ├── TokenRejected        a token of a fresh login was refused                  exit 3
        ├── UnreadableAnswer     the answer is not what the contract says
        │   └── ResponseTooLarge the answer, or the list, is larger than is read
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

Every error has a stable `code`, which logs and documentation use, and builds its own message. One that a user can
cause says what to do next. Those that consumers see as well are defined in their kit.
"""

from ordersync_consumer.errors import (
    ConsumerReplaced,
    DataError,
    GroupGone,
    NotReplayable,
    OrdersyncError,
    SettingsError,
)
from worker.errors.ordermesh import (
    ChoiceBroken,
    ContinuationRefused,
    ContractMismatch,
    FilterBroken,
    GatewayUnreachable,
    LoginRejected,
    OrderMeshError,
    OutcomeUnknown,
    PartialBulk,
    ResponseTooLarge,
    SortBroken,
    TokenRejected,
    UnreadableAnswer,
)
from worker.errors.receivers import CommandFails, ReceiverGone, ReceiverUnavailable
from worker.errors.redis import LeaseHeld, LeaseLost, RedisFull, RedisUnavailable, RedisWentBack, SourceMoved
from worker.errors.refusals import (
    ApiError,
    Conflict,
    Forbidden,
    NotFound,
    PropertyError,
    RateLimited,
    ServerError,
    Unaddressable,
    api_error_class,
)

__all__ = [
    "ApiError",
    "ChoiceBroken",
    "CommandFails",
    "Conflict",
    "ConsumerReplaced",
    "ContinuationRefused",
    "ContractMismatch",
    "DataError",
    "FilterBroken",
    "Forbidden",
    "GatewayUnreachable",
    "GroupGone",
    "LeaseHeld",
    "LeaseLost",
    "LoginRejected",
    "NotFound",
    "NotReplayable",
    "OrderMeshError",
    "OrdersyncError",
    "OutcomeUnknown",
    "PartialBulk",
    "PropertyError",
    "RateLimited",
    "ReceiverGone",
    "ReceiverUnavailable",
    "RedisFull",
    "RedisUnavailable",
    "RedisWentBack",
    "ResponseTooLarge",
    "ServerError",
    "SettingsError",
    "SortBroken",
    "SourceMoved",
    "TokenRejected",
    "Unaddressable",
    "UnreadableAnswer",
    "api_error_class",
]
