"""The rules of a privacy policy, and how they name fields. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

ANYWHERE = "**."
"""Prefix of a path that matches one name at any depth."""
HASH_AS = "hash:"
"""Prefix of a rule that hashes a field as one of a group of fields, whose name follows."""

_PLAIN_NAME = re.compile(r"[a-z0-9]+")
_IGNORED_IN_NAMES = str.maketrans("", "", "_-")


class Rule(StrEnum):
    """The action for a field."""

    KEEP = "keep"
    DROP = "drop"
    MASK = "mask"
    HASH = "hash"


class Known(Enum):
    """What `minimal` does with a known field."""

    VALUE = "value"
    """Its value is published, unless it is an object: no field in it is known."""
    OBJECT = "object"
    """The object is published, with those of its fields that are published."""
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class HashAs:
    """The action for a field that is hashed as one of a group of fields."""

    group: str


FieldRule: TypeAlias = Rule | HashAs


def rule_of(text: str) -> FieldRule:
    """Return the rule that a setting such as `drop` or `hash:mail` names.

    Raises:
        ValueError: There is no such action.

    """
    return HashAs(text.removeprefix(HASH_AS)) if text.startswith(HASH_AS) else Rule(text)


def folded(name: str) -> str:
    """Return a field name as rules compare it: in lower case, without `_` and `-`."""
    return name.lower().translate(_IGNORED_IN_NAMES) or name


def folded_path(path: str) -> str:
    """Return a path, such as `shippingAddress.email`, with each name folded."""
    return ".".join(map(folded, path.split(".")))


def search_for(names: Iterable[str]) -> re.Pattern[bytes] | None:
    """Return a pattern that finds one of these folded field names, or any name that is spelled with escapes.

    None if a name has another spelling that the pattern would not find.
    """
    if not all(_PLAIN_NAME.fullmatch(name) for name in names):
        return None
    either = "|".join(sorted("[_-]*".join(name) for name in names))
    return re.compile(rf'"[_-]*(?:{either})[_-]*"[ \t\r\n]*:|\\u'.encode(), re.IGNORECASE)
