"""What the tests of several folders start with."""

from __future__ import annotations

import pytest

from tests.support.logged import LogReader, read_log


@pytest.fixture
def told() -> LogReader:
    """The lines of the log with an event."""
    return read_log()
