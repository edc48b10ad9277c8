"""The findings of `ordersync doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.errors import OrdersyncError


class Severity(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    """Information; no action is needed."""
    WARNING = "warning"
    """The worker can do its job, but something may cause trouble later."""
    PROBLEM = "problem"
    """The worker cannot do its job."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    `exit_status` is the exit code that a problem gives the command. Above 1, checks that depend on it cannot be run.
    """

    area: str
    level: Severity
    text: str
    advice: str = ""
    account: str = ""
    exit_status: int = 1

    @property
    def stops(self) -> bool:
        """True if the checks that depend on this one cannot be run."""
        return self.level is Severity.PROBLEM and self.exit_status > 1


def problem_of(area: str, error: OrdersyncError, account: str) -> Finding:
    """Return an error as a finding."""
    return Finding(area, Severity.PROBLEM, str(error), account=account, exit_status=error.exit_status)
