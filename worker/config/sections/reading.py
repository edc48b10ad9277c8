"""Settings of what is read, when, and how much at a time."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from worker.clock import parse_time
from worker.config.resources import PRESETS, WITH_STATUS
from worker.config.sections.section import Section
from worker.config.values import Moment, ResourceName


class PollSettings(Section):
    """What is read, and how often."""

    preset: Literal["standard", "orders", "records", "all"] = Field(
        "standard", description="what is polled at the default intervals, if no intervals are set"
    )
    intervals: dict[ResourceName, Annotated[float, Field(ge=1, le=86400)]] = Field(
        default={},
        description="resources to poll, with the seconds between two polls, 1 to 86400; replaces the preset",
    )
    ignore_fields: dict[ResourceName, tuple[str, ...]] = Field(
        default={}, description="top-level fields whose change alone is not an event"
    )
    complete_every: float = Field(
        3600,
        ge=1,
        le=86400,
        description="seconds between two full scans, or up to a tenth less, where polls are incremental reads",
    )
    since: Moment = Field(
        None,
        description="date or time (2026-03-01, 2026-03-01T08:00:00Z): records that a first full scan finds are not "
        "published if they were modified before it; no limit if not set",
    )
    snapshot: Literal["publish", "silent"] = Field(
        "publish",
        description="silent: records are not published that were last modified before the first full scan began",
    )
    audit_history: Literal["changed", "all"] = Field(
        "changed",
        description="audit logs to read: those of records that change from now on, each in full; or all: those of "
        "every known record as well, a request for each, when no other read is due",
    )
    confirm_deletes: float = Field(
        300,
        ge=0,
        le=86400,
        description="seconds between the two answers that a record does not exist, after which it is published as "
        "deleted",
    )

    @property
    def since_ms(self) -> int:
        """The start date in milliseconds since 1970; 0 for none."""
        return max(0, parse_time(self.since) or 0)

    @property
    def chosen(self) -> dict[str, float]:
        """Seconds between two polls, by resource; resources that are not polled are missing."""
        return dict(self.intervals or PRESETS[self.preset])


class ReconcileSettings(Section):
    """How published events are compared with the audit logs of OrderMesh."""

    every: float = Field(
        3600, ge=0, le=2_592_000, description="seconds between two comparisons with the audit logs; 0: never"
    )
    share: float = Field(
        0.1, gt=0, le=1, description="share of the request budget that the comparison may use, such as 0.1"
    )
    lag: float = Field(
        120,
        ge=0,
        le=86_400,
        description="seconds after a change until it counts as missed if it is not published",
    )


class InterestSettings(Section):
    """Which records are published: the scope. Which resources are read is set by the section Poll."""

    merchants: tuple[str, ...] = Field(
        default=(), description="ids of merchants whose records are published; all if not set"
    )
    statuses: dict[ResourceName, tuple[str | int, ...]] = Field(
        default={}, description="statuses of each resource whose records are published; all if not set"
    )
    final_statuses: dict[ResourceName, tuple[str | int, ...]] = Field(
        default={"orders": ("Fulfilled", "Cancelled")},
        description="statuses whose records only full scans read, with the strategy open",
    )

    @model_validator(mode="after")
    def _have_statuses(self) -> Self:
        for resource in {**self.statuses, **self.final_statuses}:
            if resource not in WITH_STATUS:
                raise ValueError(
                    f"{resource} have no status. Resources with a status: {', '.join(WITH_STATUS)}"
                )
        return self


class ResyncSettings(Section):
    """Resyncs."""

    share: float = Field(
        0.5, gt=0, le=1, description="largest share of the request budget that resyncs use, such as 0.5"
    )


class ConcurrencySettings(Section):
    """How many jobs of each class run at the same time in one process. No class waits for the places of another one.

    A process runs nothing of a class with 0 places: another one has to.
    """

    polls: int = Field(
        32,
        ge=0,
        le=1000,
        description="polls: reads of newer changes, and reads by id; 0: none in this process",
    )
    resyncs: int = Field(8, ge=0, le=1000, description="slices of resyncs")
    scans: int = Field(
        16, ge=0, le=1000, description="full scans that take longer than a poll, such as first ones"
    )
    audit: int = Field(4, ge=0, le=1000, description="reads of audit logs of records of the past")
    reconcile: int = Field(4, ge=0, le=1000, description="comparisons with audit logs")

    @model_validator(mode="after")
    def _any(self) -> Self:
        if not any(self.model_dump().values()):
            raise ValueError("a process that runs no class of jobs does nothing: set one of them above 0")
        return self
