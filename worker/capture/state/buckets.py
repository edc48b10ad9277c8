"""The buckets of a resource: the hashes over which the states of its records are spread. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.capture.records.fingerprint import bucket_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RECORDS_PER_BUCKET = 48
MIN_BUCKETS, MOST_BUCKETS = 16, 1 << 17
"""Number of hashes that store the states of a resource: the hashes stay small, so that Redis packs them tightly.

A full scan asks for each of them, so a small account has few, and a gateway whose total lies does not get too many.
They are tight until each has 256 records: a state takes 65 bytes, and 88 in an account that has outgrown that.
"""
MANY_BUCKETS, MAX_BUCKETS = 1024, 1 << 20
"""Their number where nobody says how many records there are. It is the least in states that earlier versions wrote, and
the second number is the highest.
"""


def buckets_for(total: int | None) -> int:
    """Return the number of buckets for `total` records: a power of two, with some dozens of records per bucket."""
    if total is None:
        return MANY_BUCKETS
    buckets = MIN_BUCKETS
    while buckets < MOST_BUCKETS and buckets * RECORDS_PER_BUCKET < total:
        buckets *= 2
    return buckets


def count_from(contents: Mapping[int, Sequence[bytes]]) -> int:
    """Return the number of buckets from their contents: the least that places every record where it is.

    Args:
        contents: The packed ids in each bucket that exists, by its number.

    """
    buckets = MIN_BUCKETS
    while buckets < MAX_BUCKETS and any(
        bucket_of(key, buckets) != number for number, keys in contents.items() for key in keys
    ):
        buckets *= 2
    return buckets
