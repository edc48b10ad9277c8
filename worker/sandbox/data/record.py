"""The type of a record in the sandbox."""

from __future__ import annotations

from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]
"""One record as decoded JSON."""
