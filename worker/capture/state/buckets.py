"""The buckets of a resource: the hashes over which the states of its records are spread. No I/O."""

from __future__ import annotations

RECORDS_PER_BUCKET = 48
MIN_BUCKETS, MAX_BUCKETS = 1024, 1 << 20
"""Number of hashes that store the states of a resource: the hashes stay small, so that Redis packs them tightly."""


def buckets_for(total: int | None) -> int:
    """Return the number of buckets for `total` records: a power of two, with some dozens of records per bucket."""
    buckets = MIN_BUCKETS
    while buckets < MAX_BUCKETS and total is not None and buckets * RECORDS_PER_BUCKET < total:
        buckets *= 2
    return buckets
