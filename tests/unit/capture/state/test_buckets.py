"""How many hashes store the states of a resource."""

from __future__ import annotations

from collections import defaultdict

import pytest

from worker.capture.records.fingerprint import bucket_of, pack_id
from worker.capture.state.buckets import MOST_BUCKETS, buckets_for, count_from


@pytest.mark.parametrize(
    ("total", "buckets"),
    [
        (0, 16),
        (30, 16),
        (768, 16),
        (769, 32),
        (3073, 128),
        (100_000, 4096),
        (10**9, MOST_BUCKETS),
        (None, 1024),
    ],
)
def test_a_small_account_has_few(total: int | None, buckets: int) -> None:
    """Some dozens of records in each; many of them where the number of records is not known."""
    assert buckets_for(total) == buckets


@pytest.mark.parametrize("buckets", [16, 64, 128, 1024])
def test_their_number_from_the_records(buckets: int) -> None:
    """It is found again from the places of the records, also of those of an earlier version."""
    contents = defaultdict[int, list[bytes]](list)
    for number in range(100):
        key = pack_id(f"{number:024x}")
        contents[bucket_of(key, buckets)].append(key)
    assert count_from(contents) == buckets


def test_one_record_is_found_in_either() -> None:
    """Where several numbers place all records alike, the least is as good as any."""
    key = pack_id("6778960b912265b1f5000b90")
    number = bucket_of(key, 1024)
    found = count_from({number: [key]})
    assert bucket_of(key, found) == number
    assert count_from({}) == 16
