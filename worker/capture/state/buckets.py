"""The buckets of a resource: the hashes over which the states of its records are spread. No I/O."""

from __future__ import annotations

RECORDS_PER_BUCKET = 48
MIN_BUCKETS, MAX_BUCKETS = 1024, 1 << 20
"""Hashes that keep the states of a resource: small ones, which Redis packs tightly."""


def buckets_for(total: int | None) -> int:
    """How many buckets keep so many records: a power of two, so that each holds some dozens."""
    buckets = MIN_BUCKETS
    while buckets < MAX_BUCKETS and total is not None and buckets * RECORDS_PER_BUCKET < total:
        buckets *= 2
    return buckets
