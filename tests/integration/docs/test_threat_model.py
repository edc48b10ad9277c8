"""The figures of the threat model are those of the code."""

from __future__ import annotations

from tests.support.documentation import read
from worker.capture.fairness import PAUSE
from worker.ordermesh.http.auth import MAX_TOKEN
from worker.ordermesh.http.transport import MAX_ERROR, MAX_HEADER, MAX_HEADERS


def test_the_limits_without_a_setting() -> None:
    """Each is named with its figure."""
    page = read("docs/project/threat-model.md")
    header = f"a header ({MAX_HEADERS} lines, {MAX_HEADER >> 10} KiB each)"
    assert (
        f"{header}, a token ({MAX_TOKEN >> 10} KiB) and the body of an error ({MAX_ERROR >> 10} KiB)" in page
    )


def test_the_share_of_long_pages() -> None:
    """It is what the pause after a long page leaves."""
    assert PAUSE + 1 == 5
    assert "get a fifth of the worker's time" in read("docs/project/threat-model.md")
