"""Programs that some tests need beside Python: another server, Node, redis-cli, faketime.

Where one is missing its tests are skipped, with the reason. Not in CI, which sets `TEST_TOOLS=required`: there a
check that nobody notices to be gone would be none.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """End a test that cannot be done here."""
    if os.environ.get("TEST_TOOLS") == "required":
        pytest.fail(f"{reason}, and TEST_TOOLS=required says that everything is here")
    pytest.skip(reason)


def program(name: str) -> str:
    """The path of a program; the test ends where there is none."""
    return shutil.which(name) or missing(f"{name} is not on PATH")


def server_program(name: str) -> str | None:
    """That of a server, where `embedded` stands for the Valkey that comes along (None: the default of `Server`)."""
    return None if name == "embedded" else program(name)
