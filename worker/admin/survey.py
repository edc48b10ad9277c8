"""The health of very many accounts at a glance: read in a few large pipelines, from cursors and pauses alone.

What only a row of the status knows (late groups, a full stream, failures that a worker could not record) is missing
here. The accounts that look worst are then shown in full.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from worker.capture.health import WORST_FIRST, Health, judge
from worker.capture.state import pauses
from worker.capture.state.cursor import Cursor
from worker.config.resources import RESOURCES
from worker.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from redis.asyncio import Redis

    from worker.keys import KeySpace

MANY = 20
"""More accounts than this are surveyed, and so many of them are shown in full."""
_AT_ONCE = 200
"""Accounts of one pipeline."""


class Survey(msgspec.Struct, frozen=True):
    """The health of all accounts.

    Attributes:
        accounts: The names of all accounts, those that look worst first.
        resources: How many resources have which health.
        by_account: How many accounts have which health: that of their worst resource.

    """

    accounts: list[str]
    resources: Counter[Health] = msgspec.field(default_factory=Counter)
    by_account: Counter[Health] = msgspec.field(default_factory=Counter)

    @property
    def worst(self) -> list[str]:
        """The accounts that are shown in full, by name."""
        return sorted(self.accounts[:MANY])

    def as_json(self) -> dict[str, Any]:
        """Return the counts as commands print them."""
        return {
            "accounts": len(self.accounts),
            "by_health": {health.value: self.by_account[health] for health in WORST_FIRST},
            "resources": {health.value: self.resources[health] for health in WORST_FIRST},
        }

    def lines(self) -> list[str]:
        """Return the counts in words, and how many accounts are not shown."""
        accounts = ", ".join(
            f"{self.by_account[each]} {each.value}" for each in WORST_FIRST if self.by_account[each]
        )
        text = f"{len(self.accounts)} accounts by their worst resource: {accounts}."
        shown = min(MANY, len(self.accounts))
        return [
            text,
            f"The {shown} that look worst are shown. For one of them: ordersync status --account NAME",
        ]


async def survey(redis: Redis, keys: KeySpace, names: Sequence[str], now: float) -> Survey:
    """Return the health of these accounts."""
    resources, by_account = Counter[Health](), Counter[Health]()
    ranks: dict[str, tuple[int, int]] = {}
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        async with redis.pipeline(transaction=False) as pipe:
            for name in part:
                pipe.hgetall(keys.of(name).paused)
                for resource in RESOURCES:
                    pipe.hgetall(keys.of(name).cursor(resource))
            answers = await pipe.execute(raise_on_error=False)
        width = 1 + len(RESOURCES)
        for at, name in enumerate(part):
            found = _healths(answers[at * width : (at + 1) * width], now)
            worst = next((health for health in WORST_FIRST if found[health]), Health.STARTING)
            resources += found
            by_account[worst] += 1
            ranks[name] = (WORST_FIRST.index(worst), -found[worst])
    return Survey(sorted(names, key=lambda name: (ranks[name], name)), resources, by_account)


def _healths(answers: Sequence[Any], now: float) -> Counter[Health]:
    """Return how many resources of an account have which health."""
    paused, *cursors = answers
    parsed = {} if isinstance(paused, Exception) else pauses.parse(paused)
    return Counter(
        _health(fields, now, parsed, name)
        for name, fields in zip(RESOURCES, cursors, strict=True)
        if isinstance(fields, Exception) or fields
    )


def _health(fields: Any, now: float, paused: Mapping[str, pauses.Pause], name: str) -> Health:
    if isinstance(fields, Exception):
        return Health.FAILING
    try:
        return judge(Cursor.parse(fields), now, pause=pauses.of(paused, name)).health
    except DataError:
        return Health.FAILING
