"""What `ordersync doctor` tells: one finding after another."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    """Good to know; nothing to do."""
    WARNING = "warning"
    """The worker can do its job, but something will hurt one day."""
    PROBLEM = "problem"
    """The worker cannot do its job."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `exit_status`: what a problem makes the command end with; above 1 nothing can be built on it."""

    area: str
    level: Severity
    text: str
    advice: str = ""
    account: str = ""
    exit_status: int = 1

    @property
    def stops(self) -> bool:
        """Whether what needs it cannot be looked at."""
        return self.level is Severity.PROBLEM and self.exit_status > 1
