"""Times as text: whatever form of a time the parser accepts, the event has the same moment in RFC 3339."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.clock import as_rfc3339, parse_time

# The grammar of RFC 3339, section 5.6, in upper case, without second 60.
DATE_TIME = re.compile(
    r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)


@pytest.mark.parametrize(
    ("served", "published"),
    [
        ("2026-02-27T22:29:29.4914307Z", "2026-02-27T22:29:29.4914307Z"),
        ("2024-01-19T18:42:42.086+00:00", "2024-01-19T18:42:42.086+00:00"),
        ("2026-11-20T10:00:00", "2026-11-20T10:00:00Z"),
        ("2026-11-20T10:00:00+0200", "2026-11-20T10:00:00+02:00"),
        ("2026-11-20T10:00:00.4914307+0200", "2026-11-20T10:00:00.4914307+02:00"),
        ("2026-11-20T10:00:00-02", "2026-11-20T10:00:00-02:00"),
        ("2026-11-20", "2026-11-20T00:00:00Z"),
        ("20261120T100000.5Z", "2026-11-20T10:00:00.5Z"),
        ("2026-11-20T10:00Z", "2026-11-20T10:00:00Z"),
        ("2026-11-20T10+02", "2026-11-20T10:00:00+02:00"),
        ("2026-11-20 10:00:00", "2026-11-20T10:00:00Z"),
        ("2026-W47-5T10:00", "2026-11-20T10:00:00Z"),
        ("2026-W47", "2026-11-16T00:00:00Z"),
        ("2026-11-20T10:00:00,123", "2026-11-20T10:00:00.123Z"),
        ("2026-11-20T10:00:00,123+02:00:30", "2026-11-20T07:59:30.123000Z"),
        ("2026-11-20t10:00:00z", "2026-11-20T10:00:00Z"),
        ("2026-11-20T24:00:00Z", "2026-11-21T00:00:00Z"),
        ("2026-11-20T24:00", "2026-11-21T00:00:00Z"),
        ("2026-12-31T23:59:60Z", "2027-01-01T00:00:00Z"),
        ("2026-12-31T23:59:60.25+0100", "2027-01-01T00:00:00.25+01:00"),
        ("9999-12-31T23:59:59.9-02:00", "9999-12-31T23:59:59.9-02:00"),
        ("0001-01-01T00:00:00", "0001-01-01T00:00:00Z"),
    ],
)
def test_a_time_becomes_rfc3339(served: str, published: str) -> None:
    """Each form that a server may write has one result; a time in RFC 3339 stays as it is."""
    assert as_rfc3339(served) == published
    assert DATE_TIME.fullmatch(published)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2026-02-30",
        "2026-11-20T25:00:00Z",
        "2026-11-20T24:00:01Z",
        "2026-11-20T24:00:00.5Z",
        "2026-11-20T10:00:61Z",
        "9999-12-31T24:00:00Z",
        "10000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:00:30",
    ],
)
def test_other_texts_are_no_times(text: str) -> None:
    """A text that is no time, or no time of the years 1 to 9999, has no form in RFC 3339."""
    assert as_rfc3339(text) == ""


def _forms(moment: datetime, digits: str, zone: str) -> list[str]:
    """Return this moment in the forms of ISO 8601."""
    week = "{}-W{:02}-{}".format(*moment.isocalendar())
    days = [moment.strftime("%Y-%m-%d").zfill(10), moment.strftime("%Y%m%d").zfill(8), week]
    clocks = [moment.strftime(form) for form in ("%H", "%H:%M", "%H%M", "%H:%M:%S", "%H%M%S")]
    clocks += [f"{moment:%H:%M:%S}{comma}{digits}" for comma in ".,"]
    return [*days, *(f"{day}{t}{clock}{zone}" for day in days for t in "Tt " for clock in clocks)]


@given(
    st.datetimes().filter(lambda moment: 1000 <= moment.year < 9999),
    st.from_regex(r"[0-9]{1,9}", fullmatch=True),
    st.sampled_from(["", "Z", "z", "+02", "-0930", "+02:00", "-00:00", "+02:00:30"]),
    st.data(),
)
def test_every_form_keeps_its_moment(moment: datetime, digits: str, zone: str, data: st.DataObject) -> None:
    """Whatever the parser accepts becomes RFC 3339, and the parser reads the same moment from it."""
    served = data.draw(st.sampled_from(_forms(moment, digits, zone)))
    published = as_rfc3339(served)
    assert DATE_TIME.fullmatch(published), served
    assert parse_time(published) == parse_time(served)


@given(
    st.text("0123456789-:.,TtZzW+ ", max_size=32)
    | st.from_regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9].[0-9:,.]{0,15}([Z+-][0-9:]{0,9})?", fullmatch=True)
)
def test_no_text_becomes_another_form(text: str) -> None:
    """Any text is either no time at all, or becomes RFC 3339 of the moment that the parser reads."""
    published = as_rfc3339(text)
    if parse_time(text) is None:
        assert published == ""
    elif published:
        assert DATE_TIME.fullmatch(published)
        assert parse_time(published) == parse_time(text)


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])))
def test_rfc3339_stays_as_it_is(moment: datetime) -> None:
    """A time that is RFC 3339 already is published as it was served."""
    text = moment.isoformat()
    assert as_rfc3339(text) == text
