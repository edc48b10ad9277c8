"""What the words of a command line mean: which dead letters, which moment."""

from __future__ import annotations

import click
import pytest

from worker.admin.dead_letters import Selection
from worker.cli.common.redis import moment
from worker.cli.dead import select
from worker.errors import SettingsError

NOW = 1_772_445_600.0
"""2026-03-02T10:00:00Z."""


def test_letters() -> None:
    """Ids, each once, or all of a resource, group or kind."""
    assert select(("1-1", "orders", "2-0", "1-1"), every=False) == Selection("orders", ("1-1", "2-0"))
    assert select((), every=True) == Selection(None, ())
    assert select(("notes",), every=True, group="g", kind="record") == Selection("notes", (), "g", "record")
    assert select(("1-1",)) == Selection(None, ("1-1",))
    assert select(("orders",)) == Selection("orders", ())


@pytest.mark.parametrize(
    ("words", "options", "told"),
    [
        ((), {"every": False}, "Pass either the IDs of dead letters, or --all"),
        (("orders",), {"every": False}, "Pass either the IDs of dead letters, or --all"),
        (("1-1",), {"every": True}, "Pass either the IDs of dead letters, or --all"),
        (("1-1",), {"every": False, "group": "g"}, "--group and --kind can only be combined with --all"),
        (("orders", "notes"), {"every": True}, "Name one resource"),
    ],
)
def test_unclear_letters(words: tuple[str, ...], options: dict[str, object], told: str) -> None:
    """It must be clear which letters are meant."""
    with pytest.raises(click.UsageError, match=told):
        select(words, **options)  # type: ignore[arg-type] # as click gives them


def test_a_word_that_is_neither() -> None:
    """A word is an id or a resource."""
    with pytest.raises(
        SettingsError, match=r"'parcels' is neither the id of a dead letter, .* nor a resource"
    ):
        select(("1-1", "parcels"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-03-02T10:00:00Z", NOW),
        ("2026-03-02T10:00:00", NOW),
        (" 2026-03-02 11:00:00.5+01:00 ", NOW + 0.5),
        ("2026-03-02", NOW - 36_000),
        ("45s", NOW - 45),
        ("30min", NOW - 1800),
        ("2 h", NOW - 7200),
        ("3d", NOW - 259_200),
        (None, None),
    ],
)
def test_moments(text: str | None, seconds: float | None) -> None:
    """A time, in UTC where it names no zone, or a span before now."""
    assert moment(text, "--since", NOW) == seconds


@pytest.mark.parametrize("text", ["", "soon", "2 weeks", "-2h", "2026-13-01", "1772445600"])
def test_no_moments(text: str) -> None:
    """Anything else is refused, with what is meant."""
    with pytest.raises(
        SettingsError, match=r"--since: .* is neither a time .2026-03-02T10:00:00Z. nor an age"
    ):
        moment(text, "--since", NOW)
