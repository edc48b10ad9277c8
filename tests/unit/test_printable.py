"""Text that others wrote is shown without effect on a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hostile import TEXTS
from worker.printable import printable, printable_json


@pytest.mark.parametrize("text", TEXTS)
def test_shown_text_is_printable_and_on_one_line(text: str) -> None:
    """Escape sequences, line breaks, bidi controls and halves of pairs become visible; the words around them stay."""
    shown = printable(text)
    assert shown.isprintable()
    assert shown != text


@given(st.text(st.characters(codec=None)))
def test_any_text_is_shown_on_one_printable_line(text: str) -> None:
    """Printable text stays as it is, and every text becomes printable."""
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    if text.isprintable():
        assert printable(text) == text


@given(
    st.recursive(
        st.text() | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_keeps_its_value(value: object) -> None:
    """JSON is printable, and has the same value as before, whichever way it was written."""
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps(value, indent="\t")):
        shown = printable_json(text)
        assert shown.isprintable()
        assert json.loads(shown) == value
