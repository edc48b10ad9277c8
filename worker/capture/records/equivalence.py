"""Whether two spellings of JSON have the same value. No I/O."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import msgspec

_as_anything = msgspec.json.Decoder().decode
_loosely = partial(json.loads, parse_int=str, parse_float=str)  # accepts numbers of any length


def is_equivalent(published: bytes, served: bytes) -> bool:
    """True if both are spellings of the same value, so that no rule has changed anything.

    False if a name occurs twice in an object: the first of the two fields would be published unchecked.
    """
    try:
        if _as_anything(published) != _as_anything(served):
            return False
    except msgspec.DecodeError:
        pass  # numbers beyond the range of msgspec
    unique = True

    def check_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal unique
        fields = dict(pairs)
        unique = unique and len(fields) == len(pairs)
        return fields

    same: bool = _loosely(served, object_pairs_hook=check_names) == _loosely(published)
    return same and unique
