"""What all sections of the settings have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from worker.config.values import without_line_end


class Section(BaseModel):
    """A group of settings. Unknown names are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _without_line_end(cls, value: Any) -> Any:
        return without_line_end(value)
