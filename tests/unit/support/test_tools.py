"""What becomes of a test whose program is not there."""

from __future__ import annotations

import pytest

from tests.support.tools import program


def test_a_missing_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """It skips the test, with the reason; in CI it fails it."""
    monkeypatch.delenv("TEST_TOOLS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not on PATH"):
        program("no-such-program")
    monkeypatch.setenv("TEST_TOOLS", "required")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not on PATH"):
        program("no-such-program")
