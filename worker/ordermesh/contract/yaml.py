"""Reading YAML of another hand. PyYAML is imported when there is some: starting the worker need not wait for it."""

from __future__ import annotations

from functools import cache
from typing import Any

DEEPEST = 200
"""Levels of a document. The parser is written in C and does not survive any number of them."""
MAX_MERGED = 100_000
"""Entries that merge keys (`<<`) may come to: a small file may ask for any number."""


def load_yaml(text: str) -> Any:
    """The one document in a text. Aliases are the same object each time, and may lead in circles.

    Raises:
        ValueError: It is no YAML, holds other tags than those of YAML itself, or too many levels or entries.

    """
    import yaml  # noqa: PLC0415 - see above

    loader = _loader()
    try:
        _check_depth(text, loader)
        return yaml.load(text, Loader=loader)  # noqa: S506 - the loader is the safe one
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


@cache
def _loader() -> Any:
    import yaml  # noqa: PLC0415 - see above

    safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(safe):  # type: ignore[misc] # one of two classes
        """The safe loader, which gives up where merge keys multiply."""

        merged = 0

        def flatten_mapping(self, node: Any) -> None:
            before = len(node.value)
            super().flatten_mapping(node)
            self.merged += max(0, len(node.value) - before)
            if self.merged > MAX_MERGED:
                raise ValueError(f"its merge keys come to more than {MAX_MERGED:,} entries")

    return Loader


def _check_depth(text: str, loader: Any) -> None:
    import yaml  # noqa: PLC0415 - see above

    depth = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ValueError(f"it is nested more than {DEEPEST} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
