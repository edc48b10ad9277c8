"""The page of recorded commands: how outputs become readable, and what of them must not change by itself. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

BEGAN = datetime.fromisoformat("2026-03-02T10:41:00+00:00")
"""When the scene is said to have begun."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)?")
_ENTRY = re.compile(r"\b(1[6-9]\d{11})-(\d+)\b")
_SHAPES = (
    (_TIME, "TIME"),
    (_ENTRY, "ENTRY"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "HEX"),
    (re.compile(r"\b[0-9a-f]{8,}\b"), "HEX"),
    (re.compile(r"[▁▂▃▄▅▆▇█]+"), "BARS"),
    (re.compile(r"[■·]+"), "HOURS"),
    (re.compile(r"\b\d+(?:\.\d+)? (?:s|min|h|d|MB|GB)\b"), "AMOUNT"),
    # A machine that is busy takes a second to ask, and cannot tell it from a clock that is behind.
    (
        re.compile(r"clock (?:agrees with ours within AMOUNT|is AMOUNT (?:behind|ahead of) ours)"),
        "clock is so",
    ),
    # The compiled reader is there where a C compiler was.
    (re.compile(r"(?:ok|note)\s+records are read by .*"), "records are read"),
    (re.compile(r"(?<!\w)-?\d+(?:\.\d+)?|\d+(?:\.\d+)?"), "N"),
    (re.compile(r"Valkey|Redis"), "SERVER"),
    (re.compile(r"[ \t]+"), " "),
)
_HEAD = """\
# Output of commands

<!-- Written by `make docs`; do not change it by hand. -->

Recorded from a scene: a small OrderMesh whose orders change, a daemon, a group that reads the orders, and a group that
fails at every note. Only times, addresses and host names are made up; `...` replaces lines that were left out.
[Commands](commands.md) describes every option.
"""


@dataclass(frozen=True, slots=True)
class Example:
    """One call: the command it stands for, what that does, the line as typed, what was printed, the exit code."""

    command: str
    does: str
    line: str
    output: str
    code: int = 0

    @property
    def block(self) -> str:
        """As it stands on the page."""
        ended = f"\n(exit code {self.code})" if self.code else ""
        return f"```console\n$ {self.line}\n{self.output}{ended}\n```"


def readable(text: str, began: datetime, names: dict[str, str]) -> str:
    """Times as if the scene had begun at `BEGAN`; `names`: what stands for addresses, folders and hosts."""
    shift = BEGAN - began
    for real, shown in sorted(names.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(real, shown)
    text = _TIME.sub(lambda found: _shifted(found[0], shift), text)
    return _ENTRY.sub(lambda found: f"{int(found[1]) + round(shift.total_seconds() * 1000)}-{found[2]}", text)


def _shifted(text: str, shift: timedelta) -> str:
    moved = datetime.fromisoformat(text) + shift
    seconds, _, fraction = moved.isoformat(timespec="microseconds").partition("+")[0].partition(".")
    _, _, given = text.rstrip("Z").removesuffix("+00:00").partition(".")
    zone = text[len(text.rstrip("Z")) :] or ("+00:00" if text.endswith("+00:00") else "")
    return f"{seconds}.{fraction.ljust(len(given), '0')[: len(given)]}{zone}" if given else f"{seconds}{zone}"


def cut(text: str, lines: int) -> str:
    """No more than so many lines, without spaces at their ends."""
    all_lines = [line.rstrip() for line in text.rstrip("\n").split("\n")]
    return "\n".join(all_lines if len(all_lines) <= lines else [*all_lines[:lines], "..."])


def render(examples: list[Example]) -> str:
    """The whole page: the commands in the order of the scene, each with all its examples."""
    parts = [_HEAD]
    for command in dict.fromkeys(each.command for each in examples):
        mine = [each for each in examples if each.command == command]
        parts.append(f"## ordersync {command}\n\n{mine[0].does}\n")
        parts += [f"{each.block}\n" for each in mine]
    return "\n".join(parts)


def shape(page: str) -> list[str]:
    """The page without what differs from one recording to the next: times, ids, numbers, widths of columns."""
    lines = []
    for line in page.splitlines():
        text = line
        for pattern, name in _SHAPES:
            text = pattern.sub(name, text)
        lines.append(text.strip())
    return lines
