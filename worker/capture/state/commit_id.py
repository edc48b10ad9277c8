"""The ids of commits, by which a script knows one that it is sent again; see `chain.lua`."""

from __future__ import annotations

import itertools
import secrets

_COMMITS = itertools.count(1)


def new_commit_id(fence: int) -> str:
    """Return the id of the next commit under the lease of `fence`, which belongs to one process."""
    return f"{fence}.{next(_COMMITS)}.{secrets.token_hex(8)}"
