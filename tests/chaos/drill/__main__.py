"""`make drill`: twelve failures; how soon does each surface name the right cause?

`python -m tests.chaos.drill [--only NAME ...] [--at-once N]`. Needs Debian's `prometheus` and `faketime`, and root for
the disk that is full.

For each failure a daemon with the settings of a new installation works at an independent gateway and a real Valkey,
while orders change. Then something fails. Each half second these are looked at: `ordersync status`, the page of the
worker, the log, `ordersync health`, and the alerts that Prometheus fires by the rules of deploy/prometheus.
Ends with 1 if a surface does not name the right cause in time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.drill.failures import FAILURES
from tests.chaos.drill.watching import Seen, as_json, drill

MARK = "seen: "
WIDTH = 96


def main() -> int:
    """Run the drill."""
    names = [failure.name for failure in FAILURES]
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.drill", description=__doc__)
    parser.add_argument("--only", action="append", choices=names, help="this failure; may be repeated")
    parser.add_argument("--at-once", type=int, default=2, help="daemons at a time")
    parser.add_argument("--here", action="store_true", help="in this process, with JSON as the result")
    given = parser.parse_args()
    chosen = given.only or names
    if given.here:
        for failure in FAILURES:
            if failure.name in chosen:
                for seen in drill(failure):
                    print(MARK + json.dumps(as_json(seen)), flush=True)  # noqa: T201
        return 0
    with ThreadPoolExecutor(given.at_once) as pool:
        results = dict(zip(chosen, pool.map(_apart, chosen), strict=True))
    print("\n".join(_table(results)))  # noqa: T201
    return 0 if all(rows and all(seen.is_right for seen in rows) for rows in results.values()) else 1


def _apart(name: str) -> list[Seen]:
    """Run one failure in a process of its own; an empty list if that was impossible."""
    words = [sys.executable, "-m", "tests.chaos.drill", "--here", "--only", name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    found = [
        Seen(**json.loads(line.removeprefix(MARK)))
        for line in done.stdout.splitlines()
        if line.startswith(MARK)
    ]
    for seen in found:
        print(_line(seen), flush=True)  # noqa: T201
    if not found:
        print(f"{name}: {done.stderr[-4000:]}", flush=True)  # noqa: T201
    return found


def _table(results: dict[str, list[Seen]]) -> list[str]:
    """Return a table in Markdown: the failure, and the seconds for each surface."""
    surfaces = [seen.surface for seen in next(iter(results.values()))]
    lines = ["", f"| failure | {' | '.join(surfaces)} |", "|---" * (len(surfaces) + 1) + "|"]
    for name, rows in results.items():
        lines.append(f"| {name} | {' | '.join(_cell(seen) for seen in rows) or 'not possible here'} |")
    return lines


def _cell(seen: Seen) -> str:
    if seen.seconds is None:
        return "-" if seen.silent else "**never**"
    late = "" if seen.is_right else " **late**"
    return f"{seen.seconds:.0f} s{late}"


def _line(seen: Seen) -> str:
    words = seen.silent or " ".join(seen.words.split())
    return f"{seen.failure:<22}{seen.surface:<8}{_cell(seen):<12} {words[:WIDTH]}"


if __name__ == "__main__":
    sys.exit(main())
