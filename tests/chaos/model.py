"""`make model`: the model-based test with as many lives as you have time for.

`python -m tests.chaos.model [--examples N] [--seed S]`. TEST_SERVER names another server than Valkey. What fails is
made as short as can be, and printed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.integration.capture.test_model import lives
from tests.support.servers import Server


def main() -> None:
    """Live through them."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.model", description=__doc__)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ordersync-model-") as folder:
        server = Server(Path(folder))
        server.start()
        try:
            lives(server, given.examples, seed=given.seed)
        finally:
            server.stop(kill=True)
    print(f"{given.examples} lives: what was published was always what was true")  # noqa: T201


if __name__ == "__main__":
    main()
