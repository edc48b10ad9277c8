"""Lua scripts: each in a file of its own, whose header states keys, arguments, answer and invariants."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript


def load(redis: Redis, package: str, name: str) -> AsyncScript:
    """The script `lua/NAME.lua` of a package, sent to the server on first use and by its hash from then on."""
    text = files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return redis.register_script(text)
