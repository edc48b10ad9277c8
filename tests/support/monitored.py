"""What a block asks of Redis: commands that are sent, and commands within scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Commands:
    """The names of commands: those that were sent, and those within scripts."""

    sent: Counter[str] = field(default_factory=Counter)
    inside: Counter[str] = field(default_factory=Counter)
    lookups: int = 0
    """Those within scripts that look up the states of records."""
    lines: list[str] = field(default_factory=list)
    """Those that were sent, with their arguments."""

    def add(self, line: dict[str, Any]) -> None:
        """Add what MONITOR has shown."""
        if line["client_type"] == "lua":
            commands = self.inside
        else:
            commands = self.sent
            self.lines.append(line["command"])
        name, *arguments = line["command"].split()
        commands[name.upper()] += 1
        self.lookups += name.upper() == "HMGET" and ":seen:" in arguments[0]


@asynccontextmanager
async def watched(redis: Any) -> AsyncIterator[Commands]:
    """All commands of the block, as the server shows them."""
    commands = Commands()
    async with redis.monitor() as monitor:
        await redis.echo("the begin")  # which connects, since MONITOR has the connection of the pool
        while "the begin" not in (await monitor.next_command())["command"]:
            pass
        yield commands
        await redis.echo("the end")
        while "the end" not in (line := await monitor.next_command())["command"]:
            commands.add(line)
