"""What a job finds in its context beside the services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.planner import Planner


def planner_of(ctx: Mapping[Any, Any]) -> Planner:
    """Return what plans the jobs."""
    return cast("Planner", ctx["planner"])
