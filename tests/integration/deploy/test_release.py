"""What a release asks of a package that was installed: the reading of a sandbox."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tools.release import ORDERS, READ_ONCE, judge

if TYPE_CHECKING:
    from pathlib import Path

READ = {"orders": (ORDERS + 1, ORDERS + 1, "complete"), "order_audit": (2, 0, "complete")}


def printed(read: dict[str, tuple[int, int, str]]) -> str:
    """What the command prints of these runs."""
    return json.dumps(
        [
            {"resource": name, "records": records, "snapshot": events, "outcome": outcome}
            for name, (records, events, outcome) in read.items()
        ]
    )


def test_a_sandbox_that_is_read(tmp_path: Path) -> None:
    """The command of a release prints what it is judged by."""
    command = [sys.executable, "-m", "worker.cli", *READ_ONCE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=True)
    assert judge(done.stdout).endswith(" events published")


def test_it_is_said_in_words() -> None:
    """How much was read and published."""
    assert judge(printed(READ)) == "201 orders read, 201 events published"


@pytest.mark.parametrize(
    ("read", "words"),
    [
        ({"order_audit": (2, 0, "failed")}, "must be complete: order_audit failed"),
        ({"orders": (ORDERS + 1, ORDERS, "complete")}, "published once: 201 orders read, 200 events"),
        ({"orders": (ORDERS - 1, ORDERS - 1, "complete")}, "published once: 199 orders read, 199 events"),
    ],
)
def test_a_sandbox_that_is_not_read(read: dict[str, tuple[int, int, str]], words: str) -> None:
    """No package is released."""
    with pytest.raises(SystemExit, match=words):
        judge(printed(READ | read))
