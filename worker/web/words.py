"""The one way in which the page shows text: templates that escape, and make all text of others printable. No I/O."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from worker.clock import duration, rfc3339
from worker.printable import printable


def shown(value: Any) -> Any:
    """Return a value as a template shows it. Text becomes printable; what templates made themselves stays."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return "" if value is None else value


def short(moment: str) -> str:
    """Return an RFC 3339 time in UTC to the second, as people read it."""
    return moment.replace("T", " ", 1)[:19]


def ago(seconds: float | None) -> str:
    """Return how long ago something was, in words."""
    return "never" if seconds is None else f"{duration(max(0.0, seconds))} ago"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where there are several."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def environment() -> Environment:
    """Return the templates of the page."""
    env = Environment(
        loader=PackageLoader("worker.web"),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(ago=ago, counted=counted, duration=duration, moment=rfc3339, short=short)
    return env
