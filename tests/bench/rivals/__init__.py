"""What the engine is compared with: scripts as people write them, and the limit without any guarantee.

Each rival is a module with `run(url, redis_url) -> Result` and runs alone as
`python -m tests.bench.rivals.NAME URL REDIS_URL`, printing its `Result` as a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, field
from typing import Self

STREAM = "bench:stream"
SEEN = "bench:seen"
PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Result:
    """One full read.

    Attributes:
        records: Records read.
        published: Records written to the stream.
        seconds: Wall time of the read, without the start of the interpreter.
        cpu_seconds: User and system time of the process in the read.
    """

    records: int
    published: int
    seconds: float
    cpu_seconds: float

    def as_json(self) -> str:
        """As the line that a rival prints."""
        return json.dumps(asdict(self))


@dataclass(slots=True)
class Stopwatch:
    """Counts records from its creation to `result()`."""

    records: int = 0
    published: int = 0
    _wall: float = field(default_factory=time.perf_counter)
    _cpu: float = field(default_factory=time.process_time)

    def count(self, records: int, published: int) -> Self:
        """Add what was read and what of it was published."""
        self.records += records
        self.published += published
        return self

    def result(self) -> Result:
        """What was counted, and the time since creation."""
        return Result(
            records=self.records,
            published=self.published,
            seconds=time.perf_counter() - self._wall,
            cpu_seconds=time.process_time() - self._cpu,
        )


def arguments(name: str) -> argparse.Namespace:
    """The command line that every rival understands: URL, REDIS_URL, `--in-flight`, `--mode`."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.bench.rivals.{name}")
    parser.add_argument("url")
    parser.add_argument("redis_url")
    parser.add_argument("--in-flight", type=int, default=4)
    parser.add_argument("--mode", choices=("first", "unchanged"), default="first")
    return parser.parse_args()
