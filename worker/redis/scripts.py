"""Lua scripts. Each is a file whose header states its keys, arguments, answer and invariants."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript


def load(redis: Redis, package: str, name: str, *, begin: Sequence[str] = ()) -> AsyncScript:
    """Return the script `lua/NAME.lua` of a package. It is sent with its first call, then called by its hash.

    `begin` names files of the same folder, with functions that the script uses; their text is put before it.
    """
    folder = files(package).joinpath("lua")
    texts = [folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in (*begin, name)]
    return redis.register_script("\n".join(texts))
