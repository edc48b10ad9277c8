"""In which order the workers of pytest-xdist run the tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def dealt(tests: Sequence[T], is_slow: Callable[[T], bool], workers: int) -> list[T]:
    """Return the tests in an order in which each worker begins with its share of the slow ones.

    `--dist worksteal` gives each worker one part of the list, all parts of the same length, and lets a worker that is
    done take tests from the end of another one's part.
    """
    slow = [test for test in tests if is_slow(test)]
    rest = [test for test in tests if not is_slow(test)]
    order: list[T] = []
    for worker in range(workers):
        share = slow[worker::workers]
        room = max(0, (len(tests) - len(order)) // (workers - worker) - len(share))
        order += [*share, *rest[:room]]
        rest = rest[room:]
    return order
