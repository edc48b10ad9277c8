"""Inputs that nobody would write, for all that reads inputs of others: `python -m tests.chaos.fuzz --inputs 200000`.

Prints for each reader how many inputs it got, and how many ended in an error that its callers do not expect; the exit
status is 1 if one did. An input is made from the seed and its number, so that a failure can be repeated.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from dataclasses import dataclass

from tests.support.fuzzing.targets import TARGETS


@dataclass(frozen=True)
class Fuzzed:
    """What became of the inputs of one reader. `failures`: the number of each input that failed, and how."""

    inputs: int
    seconds: float
    slowest: float
    failures: dict[int, str]


def fuzz(name: str, inputs: int, seed: int = 1, first: int = 0) -> Fuzzed:
    """Give so many inputs to a reader, beginning with number `first`."""
    target, failures, began, slowest = TARGETS[name], dict[int, str](), time.perf_counter(), 0.0
    for number in range(first, first + inputs):
        at = time.perf_counter()
        try:
            target(random.Random(f"{name} {seed} {number}"))
        except Exception:  # noqa: BLE001 - that is what is looked for
            failures[number] = traceback.format_exc(limit=-4)
        slowest = max(slowest, time.perf_counter() - at)
    return Fuzzed(inputs, time.perf_counter() - began, slowest, failures)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=200_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=tuple(TARGETS), default=tuple(TARGETS))
    given = parser.parse_args()
    each = max(1, given.inputs // len(given.only))
    failed = 0
    say(f"{'reader':20}{'inputs':>9}{'tracebacks':>12}{'seconds':>9}{'slowest, ms':>13}")
    for name in given.only:
        result = fuzz(name, each, given.seed)
        failed += len(result.failures)
        figures = (
            f"{result.inputs:9}{len(result.failures):12}{result.seconds:9.0f}{result.slowest * 1000:13.0f}"
        )
        say(f"{name:20}{figures}")
        for number, error in list(result.failures.items())[:5]:
            say(f"\ninput {number} of seed {given.seed}:\n{error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
