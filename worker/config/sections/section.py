"""What all sections of the settings have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from worker.config.values import without_line_ends


class Section(BaseModel):
    """A group of settings. Unknown names are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # One validator for all fields: one for each takes longer to build, with every start of a command.
    @model_validator(mode="before")
    @classmethod
    def _without_line_ends(cls, values: Any) -> Any:
        return without_line_ends(values)
