"""The verdict on everything that is shown, in one line, and the command to type next. No I/O."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING

from worker.capture.causes import Cause
from worker.capture.health import WORST_FIRST, Health

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.admin.status import Row

NO_ROWS = "No worker has used this Redis yet. To start one: ordersync run"


def verdict(rows: Sequence[Row]) -> tuple[Health, str]:
    """Return the worst health of the rows, and a sentence that says how many resources have which."""
    if not rows:
        return Health.STARTING, NO_ROWS
    counts = Counter(Health(row["health"]) for row in rows)
    worst = next(health for health in WORST_FIRST if counts[health])
    without = sorted({row["account"] for row in rows if not row["workers"] and not row["writes_refused"]})
    if without and worst is not Health.FAILING:
        return Health.FAILING, f"No worker is alive for {', '.join(without)}: nothing is read."
    if worst is Health.OK:
        return worst, f"All {len(rows)} resources are ok." if len(rows) > 1 else "The resource is ok."
    parts = [f"{counts[health]} {health.value}" for health in WORST_FIRST if counts[health]]
    first = next(row for row in rows if Health(row["health"]) is worst)
    cause = f": {first['cause']}" if first["cause"] else ""
    text = f"{', '.join(parts)}. {first['account']}/{first['resource']} is {worst.value}{cause}"
    return worst, text if text.endswith((".", "!", "?")) else f"{text}."


def advice(row: Row, *, name_account: bool) -> list[str]:
    """Return the commands that help with a resource, the first one first; empty if there is nothing to do.

    They are made of what the worker knows, never of the words of a gateway or a consumer.

    Args:
        row: The row of the status.
        name_account: Name the account, as is needed where there are several.

    """
    health, resource = Health(row["health"]), row["resource"]
    commands: list[list[str]] = []
    if row["paused"]:
        commands.append(["resume"] if row["paused"]["scope"] == "account" else ["resume", resource])
    elif row["backpressure"]["cause"] or row["cause_code"] == Cause.GROUP_LATE:
        commands.append(["groups"])
    elif row["failures"]:
        commands += [["runs", resource, "--failed"], ["doctor"]]
    elif row["cause_code"] == Cause.CAPABILITY_WITHDRAWN:
        commands += [["contract", "probe", resource], ["runs", resource]]
    elif row["cause_code"] == Cause.UNREAD_LOGS:
        commands += [["runs", resource], ["contract", "probe"]]
    elif health in {Health.DEGRADED, Health.FAILING}:
        commands += [["runs", resource], ["coverage", resource]]
    if row["dead"]:
        commands.append(["dead", "list", resource])
    return [command_line(row["account"], words, name_account=name_account) for words in commands]


def command_line(account: str, words: Sequence[str], *, name_account: bool) -> str:
    """Return a command as it is typed in a shell."""
    named = ["--account", account] if name_account and words[0] != "doctor" else []
    return shlex.join(["ordersync", *words, *named])
