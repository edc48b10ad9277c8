"""Which records a read has withheld: a sample, by which the next one recognizes them. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SAMPLED = 256
"""Records that are kept: some of each page, unless some hundred pages are withheld. Then it takes a few reads more."""


def with_sample(kept: str, identities: Iterable[bytes]) -> str:
    """Return the sample of these records and of those of which `kept` is the sample.

    It is the lowest identities, which are hashes: so each record is as likely, in whatever order the pages come.
    """
    return " ".join(sorted({*kept.split(), *(identity.hex() for identity in identities)})[:SAMPLED])


def is_among(sample: str, identities: Iterable[bytes]) -> bool:
    """Return whether one of these records is in a sample."""
    names = frozenset(sample.split())
    return bool(names) and any(identity.hex() in names for identity in identities)
