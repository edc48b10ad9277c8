"""What the errors of a server say of its state, and not of the command. No I/O.

After a failover the old primary may live on as a replica, with its connections: it refuses every write on them, and
only a new connection leads to the new primary.
"""

from __future__ import annotations

import redis.exceptions

_ROLE = ("READONLY", "MASTERDOWN", "NOREPLICAS", "CLUSTERDOWN", "UNBLOCKED")
_PASSING = ("LOADING", "BUSY ", "TRYAGAIN", "MISCONF")
_CLOSED = "the handler is closed"
"""Part of the RuntimeError that uvloop raises for a transport that was reset, where asyncio raises OSError."""


def is_of_role(error: BaseException) -> bool:
    """Return True if a server refuses the command since it is not, or cannot be, the primary.

    redis-py removes the code of an error that it has a class for.
    """
    return isinstance(error, redis.exceptions.ReadOnlyError) or _has_code(error, _ROLE)


def is_passing(error: BaseException) -> bool:
    """Return True if a server refuses the command for the moment: it starts, is busy, or its disk is full."""
    return _has_code(error, _PASSING)


def is_full(error: BaseException) -> bool:
    """True if Redis refused a write because it has reached maxmemory. Redis 6.2 wraps this in a script error."""
    return isinstance(error, redis.exceptions.OutOfMemoryError) or "OOM command not allowed" in str(error)


def is_lost(error: BaseException) -> bool:
    """Return True if an error says that the connection is gone, although its type does not."""
    return isinstance(error, RuntimeError) and _CLOSED in str(error)


def _has_code(error: BaseException, codes: tuple[str, ...]) -> bool:
    if not isinstance(error, redis.exceptions.ResponseError):
        return False
    message = str(error)  # Redis 6.2 puts its own words before the error of a script
    return message.startswith(codes) or any(f" -{code}" in message for code in codes)
