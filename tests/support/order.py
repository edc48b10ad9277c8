"""In which order the workers of pytest-xdist run the tests."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T")


def dealt(tests: Sequence[T], slow_group: Callable[[T], Hashable], workers: int) -> list[T]:
    """Return the tests in an order in which each worker begins with its share of the slow ones.

    `--dist worksteal` gives each worker one part of the list, all parts of the same length, and lets a worker that is
    done take tests from the end of another one's part.

    Args:
        tests: All tests.
        slow_group: Names the group of a slow test, which stays together; None for a test that is not slow.
        workers: How many there are.
    """
    slow = dict[Hashable, list[T]]()
    rest = list[T]()
    for test in tests:
        group = slow_group(test)
        (rest if group is None else slow.setdefault(group, [])).append(test)
    groups = list(slow.values())
    order: list[T] = []
    for worker in range(workers):
        share = [test for group in groups[worker::workers] for test in group]
        room = max(0, (len(tests) - len(order)) // (workers - worker) - len(share))
        order += [*share, *rest[:room]]
        rest = rest[room:]
    return order
