"""All that reads inputs of others, with a few inputs that nobody would write. `make fuzz` tries many more."""

from __future__ import annotations

import pytest

from tests.chaos.fuzz import fuzz
from tests.support.fuzzing.targets import TARGETS

INPUTS = {"contract import": 60}


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_ends_in_a_traceback(name: str) -> None:
    """Every error is one that the callers of the reader expect."""
    assert fuzz(name, INPUTS.get(name, 300)).failures == {}
