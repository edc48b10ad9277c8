"""Half a surrogate pair in JSON: read with stand-ins, delivered as served."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.ordermesh.http.pages import split
from worker.surrogates import decode, parts_of, readable, restored, value_of

HALF = rb'{"a":"x \ud83d y","b":["\ude00"],"c":"\ud83d\ude00","d":"\\ud83d","\ud83d":1}'
MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

halves = st.characters(categories=["Cs"])
texts = st.text(
    st.characters(codec="utf-8") | halves | st.sampled_from('\\"u\ue03d\ue83d\uf03d'), max_size=12
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def as_json(value: Any, *, escaped: bool) -> bytes:
    """Return a value as a server may write it: all characters escaped, or half a pair alone."""
    text = json.dumps(value, ensure_ascii=escaped)
    return "".join(f"\\u{ord(one):04x}" if "\ud800" <= one <= "\udfff" else one for one in text).encode()


def test_each_half_gets_a_stand_in() -> None:
    """A whole pair and a backslash that is text stay as they are; so does the length."""
    assert readable(HALF) == (
        rb'{"a":"x \ue03d y","b":["\ue600"],"c":"\ud83d\ude00","d":"\\ud83d","\ue03d":1}'
    )
    assert restored(readable(HALF), HALF) == HALF


def test_text_without_half_a_pair_is_not_touched() -> None:
    """It is the same object, so that nothing is copied."""
    for text in (b'{"a":"\xf0\x9f\x98\x80"}', rb'{"a":"\u00e9"}'):
        assert readable(text) is text
    assert readable(rb'["\ud83d\ude00"]') == rb'["\ud83d\ude00"]'


def test_different_halves_differ() -> None:
    """All 2,048 of them."""
    found = {msgspec.json.decode(readable(b'"\\u%04X"' % code)) for code in range(0xD800, 0xE000)}
    assert len(found) == 2048


@given(values, st.booleans())
def test_what_is_read_can_be_restored(value: Any, escaped: bool) -> None:
    """With its stand-ins each text is one that msgspec reads; taken back, it is the text as served."""
    served = as_json(value, escaped=escaped)
    text = readable(served)
    assert len(text) == len(served)
    json.dumps(msgspec.json.decode(text), ensure_ascii=False).encode()  # it can be encoded
    if text != served:
        assert restored(text, served) == served
    assert value_of(served) == json.loads(served)


@given(st.dictionaries(texts, values, min_size=1, max_size=4), st.booleans())
def test_parts_are_as_served(value: dict[str, Any], escaped: bool) -> None:
    """The members of an object are cut out of the bytes that came."""
    served = as_json(value, escaped=escaped)
    parts = parts_of(served, decode(MEMBERS, served).values())
    assert [json.loads(bytes(part)) for part in parts] == list(json.loads(served).values())
    assert all(bytes(part) in served for part in parts)


@pytest.mark.parametrize(
    "body", [b"%b", b'{"orders":%b}', b'{"data":{"orders":%b,"total":2}}', b'{"list":%b}']
)
def test_a_page_is_split_with_its_records_as_served(body: bytes) -> None:
    """Whatever the wrapper."""
    served = [HALF, b'{"id":"b"}']
    page = split("orders.search", body % b"[%b, %b]" % (*served,), ("orders",), page=0)
    assert [bytes(record) for record in page.records] == served


@pytest.mark.parametrize("text", [b"", b'{"a":', rb'{"a":"\ud83d"', rb'["\ud83d]', b'"\\ud83'])
def test_other_faults_stay(text: bytes) -> None:
    """A text that is no JSON is refused, with half a pair in it or not."""
    with pytest.raises(msgspec.DecodeError):
        decode(msgspec.json.decode, text)
    with pytest.raises(msgspec.DecodeError):
        value_of(text)
