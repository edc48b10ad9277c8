"""Runs `ordersync` on a host whose wall clock is off: `python -m tests.support.shifted_clock FILE ARGUMENTS...`.

FILE holds the seconds by which the clock is ahead, and may be written while the program runs. The monotonic clock, by
which everything waits, is not changed, as on a host whose clock is set.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

_wall = time.time


def shift(file: Path) -> None:
    """Make `time.time` that of a clock which is ahead by the seconds in `file`. To be called before other imports."""
    time.time = lambda: _wall() + float(file.read_text() or 0)


if __name__ == "__main__":
    shift(Path(sys.argv[1]))
    from worker.cli import main

    sys.argv = ["ordersync", *sys.argv[2:]]
    main()
