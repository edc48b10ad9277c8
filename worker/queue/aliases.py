"""Old names of what is in the consumer kit now, for one release."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def aliases(old: str, new: str, *names: str) -> Callable[[str], object]:
    """Return the `__getattr__` of module `old`: these names are those of module `new`, and give a warning."""

    def find(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        warnings.warn(
            f"{old}.{name} is now {new}.{name}; the old name goes with the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(new), name)

    return find
