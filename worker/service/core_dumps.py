"""No core dumps: a file with the memory of the process would contain its secrets and customers' data."""

from __future__ import annotations

import sys
from contextlib import suppress

_LIMIT = 1
"""Bytes. Too few for a file; and for this value alone, Linux does not call a handler that dumps are piped to."""


def forbid() -> None:
    """Limit core dumps of this process, and of those that it starts, to nothing."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - Unix only

    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    with suppress(ValueError, OSError):
        limit = _LIMIT if hard == resource.RLIM_INFINITY else min(_LIMIT, hard)
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
