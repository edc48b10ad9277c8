"""Places in a trace, and the spans that watchers are told."""

from __future__ import annotations

import pytest

from worker.telemetry import tracing
from worker.telemetry.tracing import Span, begin, here, span, watching

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_place_below_a_given_one() -> None:
    """The trace and its flag stay, the span is another one, and knows which is above it."""
    at = begin(GIVEN)
    assert (at.trace_id, at.parent_id, at.sampled) == (GIVEN[3:35], GIVEN[36:52], True)
    assert at.span_id != at.parent_id
    assert begin(at.traceparent).parent_id == at.span_id
    assert at.traceparent == f"00-{at.trace_id}-{at.span_id}-01"


@pytest.mark.parametrize(
    "odd",
    ["", "nonsense", GIVEN.upper(), GIVEN.replace("00-", "ff-", 1), f"00-{'0' * 32}-{'1' * 16}-01",
     f"00-{'1' * 32}-{'0' * 16}-01", GIVEN + "-more"],
)  # fmt: skip
def test_what_is_no_place_begins_a_trace(odd: str) -> None:
    """A new trace, that nobody records unless somebody says so."""
    first, second = begin(odd), begin(odd)
    assert first.trace_id != second.trace_id
    assert (first.parent_id, first.sampled, len(first.trace_id), len(first.span_id)) == ("", False, 32, 16)
    assert begin(first.traceparent).trace_id == first.trace_id
    with watching(lambda _: None, sampler=lambda _: True):
        assert begin(odd).sampled


def _fail() -> None:
    with span("inner") as inner:
        inner.attributes["b"] = 2
        raise ValueError("no")


def test_watchers_are_told_when_a_span_ends() -> None:
    """Inner ones first, each below the one around it; a failure is noted, and goes on its way."""
    told: list[Span] = []
    with watching(told.append):
        with span("outer", begin(GIVEN), a=1) as outer:
            assert here() == outer.trace
            with pytest.raises(ValueError, match="no"):
                _fail()
        assert here() is None
    assert [each.name for each in told] == ["inner", "outer"]
    assert told[0].trace.parent_id == outer.trace.span_id
    assert (told[0].attributes, told[0].error) == ({"b": 2}, "ValueError: no")
    assert (told[1].attributes, told[1].error) == ({"a": 1}, "")
    assert 0 <= told[0].seconds <= told[1].seconds


def test_without_watchers_only_the_place_is_known() -> None:
    """A run knows where it is in any case; other spans cost nothing, and keep nothing."""
    with span("poll", begin(GIVEN)) as poll, span("commit", a=1) as commit:
        commit.attributes["b"] = 2
        assert here() == poll.trace
        assert commit.attributes == {}
    assert tracing._watchers == []
