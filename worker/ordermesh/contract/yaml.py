"""Reading YAML files of users. PyYAML is imported only when one is read: the worker starts faster without it."""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 200
"""Levels of a document. The parser is written in C and crashes if there are too many."""
MAX_MERGED = 100_000
"""Entries that merge keys (`<<`) may add in total: a small file can add any number of them."""


def load_yaml(text: str) -> Any:
    """Return the only document in a text. All aliases of an anchor are the same object, and may form cycles.

    Raises:
        ValueError: The text is not YAML, has custom tags, or has too many levels or entries.

    """
    import yaml  # noqa: PLC0415 - see above

    safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(safe):  # type: ignore[misc] # one of two classes
        """The safe loader with a limit for merge keys."""

        merged = 0

        def flatten_mapping(self, node: Any) -> None:
            before = len(node.value)
            super().flatten_mapping(node)
            self.merged += max(0, len(node.value) - before)
            if self.merged > MAX_MERGED:
                raise ValueError(f"its merge keys add up to more than {MAX_MERGED:,} entries")

    try:
        depth = 0
        for event in yaml.parse(text, Loader=safe):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        return yaml.load(text, Loader=Loader)  # noqa: S506 - the loader is a safe one
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
