"""The page with the output of commands: it has every command, and shows what each prints."""

from __future__ import annotations

import difflib
import socket
import tempfile
from datetime import UTC, datetime, timedelta

import pytest

from tests.recorded.page import BEGAN, Example, cut, readable, render, shape
from tests.recorded.scene import record
from tests.support.commands import LEAVES
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "reference" / "command-output.md"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    return record(tmp_path_factory.mktemp("scene"))


def test_the_page_shows_what_is_printed(examples: list[Example]) -> None:
    """But for times, ids and numbers. When it does not, and what is printed is right: `make docs`."""
    shown, printed = shape(PAGE.read_text(encoding="utf-8")), shape(render(examples))
    assert shown == printed, "\n".join(
        difflib.unified_diff(shown, printed, "command-output.md", "printed", n=1)
    )


def test_every_command_is_recorded(examples: list[Example]) -> None:
    """A new one needs a line in tests/recorded/scene.py. None of them fails in the scene, nor tells of its machine."""
    assert set(LEAVES) <= {each.command for each in examples}
    assert {each.line: each.code for each in examples if each.code} == {}
    page = render(examples)
    for word in ("Traceback", "\x1b", tempfile.gettempdir(), socket.gethostname() + "-"):
        assert word not in page


def test_times_and_names_are_made_up() -> None:
    """Moved to when the scene is said to have begun, as precise as they were; entries of streams as well."""
    began = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    later = began + timedelta(seconds=61)
    text = f"{later.isoformat()} 2031-05-06T07:08:10.1234567Z {int(later.timestamp() * 1000)}-3 /x/y "
    text += "at 2031-05-06T07:08:09Z"
    assert readable(text, began, {"/x": "/var", "/x/y": "/lib"}) == (
        f"2026-03-02T10:42:01+00:00 2026-03-02T10:41:01.1234560Z {int(BEGAN.timestamp() + 61) * 1000}-3 /lib "
        "at 2026-03-02T10:41:00Z"
    )


def test_what_may_differ_and_what_may_not() -> None:
    """Numbers, ids, times and widths of columns may; a word, a column or a line may not."""
    one = shape("orders    ok  12  3 s  ▁▁█ 7  67748786912265b1f5000006  1772448069211-0")
    assert one == shape("orders  ok  3  12.5 min  █▁▂▁ 123  67748786912265b1f5000aaa  1772448069999-2")
    assert one != shape("orders  failing  3  12.5 min  █▁▂▁ 123  67748786912265b1f5000aaa  1772448069999-2")
    assert one != shape("orders  ok  3  12.5 min  █▁▂▁ 123  67748786912265b1f5000aaa")
    assert shape(cut("a\nb\nc", 2)) == ["a", "b", "..."]
