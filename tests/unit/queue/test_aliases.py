"""The names that `worker.queue` had for consumers stay for one release, each with a warning."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

KIT = (
    "Backoff",
    "Batch",
    "Consumer",
    "ConsumerReplaced",
    "Delivery",
    "Event",
    "GroupGone",
    "NotReplayable",
    "Reject",
    "Statistics",
    "Trimmed",
)


NAMES = {
    "": KIT,
    ".idempotency": ("RedisOnce", "SqlOnce"),
    ".dead": ("DeadLetter", "DeadLetters", "DeadLetterSummary"),
    ".replay": ("ReplayRange", "ReplayResult", "replay"),
}


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, some in NAMES.items() for name in some]
)
def test_an_old_name_is_an_alias(module: str, name: str) -> None:
    """It is the same object, so that `isinstance` and `except` work with both names; the warning says the new name."""
    old, new = f"worker.queue{module}", f"ordersync_consumer{module}"
    with pytest.warns(DeprecationWarning, match=rf"^{old}\.{name} is now {new}\.{name};") as warnings:
        found = getattr(importlib.import_module(old), name)
    assert warnings[0].filename == __file__  # at the line of whoever uses it
    assert found is getattr(importlib.import_module(new), name)


@pytest.mark.parametrize("module", NAMES)
def test_an_unknown_name_is_not_there(module: str) -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = importlib.import_module(f"worker.queue{module}").Nothing


def test_the_engine_uses_no_old_name() -> None:
    """A command ends where a warning is an error."""
    words = (
        "-W",
        "error::DeprecationWarning",
        "-c",
        "import worker.cli.consume.command, worker.app, worker.contracts.asyncapi",
    )
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
