"""The questions that operators ask of the log: files in `docs/queries`, in jq and in LogQL (Grafana Loki).

The head of a jq file has the question and, after an empty line, how to read the answer. A test runs each on the log of
a worker that it has driven into trouble.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KEYS = (
    "fresh", "failing", "trace", "published", "slow", "budget", "paused", "unreadable", "outages", "restarts",
)  # fmt: skip
"""The files, in the order of the page."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question; `about` says how to read the answer. jq reads raw lines (`jq -nRr`)."""

    key: str
    question: str
    about: str
    jq: str
    logql: str


def load_queries(folder: Path) -> list[Query]:
    """Read all questions from a folder."""
    return [_query(folder, key) for key in KEYS]


def _query(folder: Path, key: str) -> Query:
    lines = (folder / f"{key}.jq").read_text(encoding="utf-8").splitlines()
    head = list(takewhile(lambda line: line.startswith("#"), lines))
    question, _, *about = [line.removeprefix("#").strip() for line in head]
    logql = (folder / f"{key}.logql").read_text(encoding="utf-8").rstrip()
    return Query(key, question, " ".join(about), "\n".join(lines[len(head) :]), logql)
