"""Errors of Redis, and of the state in it."""

from __future__ import annotations

from ordersync_consumer.errors import DataError, OrdersyncError


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
            "free. Give Redis more memory (CONFIG SET maxmemory; for the embedded Valkey "
            "ORDERSYNC_EMBEDDED__MAX_MEMORY_BYTES and a restart of the worker), or keep fewer events "
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
