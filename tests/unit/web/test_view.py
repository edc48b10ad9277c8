"""What the page draws and says, from plain values."""

from __future__ import annotations

import pytest

from worker.admin.group_lag import DAY_SECONDS, MOST, GroupLag
from worker.admin.run_bars import SLOT_SECONDS, SLOTS, Bar
from worker.admin.timeline_entries import TimelineEntry
from worker.config.sections import MetricsSettings
from worker.web.view import CHART_HEIGHT, curve, fresh, moment_words, run_chart
from worker.web.words import environment

ANY = "0.0.0.0"  # noqa: S104 - the address that is not to serve the page


def bars(*runs: tuple[int, int], known: int = SLOTS) -> list[Bar]:
    """A day whose last half hours have these runs and failures; `known`: half hours of which something is known."""
    counts = [(0, 0)] * (SLOTS - len(runs)) + list(runs)
    return [Bar(n * SLOT_SECONDS, r, bad, r, known=SLOTS - n <= known) for n, (r, bad) in enumerate(counts)]


def test_a_single_failure_is_visible() -> None:
    """However many runs succeed beside it: a red part of at least three units, and the count in words."""
    drawn = run_chart(bars((3000, 1)))
    (red,) = [rect for rect in drawn.rects if rect.look == "bad"]
    assert red.height >= 3
    assert "1 failed or suspect" in drawn.label
    assert all(rect.y >= 0 and rect.y + rect.height <= CHART_HEIGHT + 0.1 for rect in drawn.rects)


def test_no_runs_and_unknown_are_not_the_same() -> None:
    """A half hour before the oldest run that is kept is not shown as one in which nothing ran."""
    drawn = run_chart(bars((5, 0), (0, 0), known=2))
    looks = [rect.look for rect in drawn.rects]
    assert looks == ["unknown"] * (SLOTS - 2) + ["good", "none"]
    assert "no run is kept of the time before 23:00 UTC" in drawn.label
    assert run_chart([]).label == run_chart(bars(known=0)).label == "No run is kept of the last 24 hours"


@pytest.mark.parametrize(
    ("whole", "part", "words"),
    [
        (None, None, "never"),
        (None, 4.0, "changed 4 s"),
        (300.0, 4.0, "everything 5 min, changed 4 s"),
        (4.0, 300.0, "everything 4 s"),
    ],
)
def test_how_fresh(whole: float | None, part: float | None, words: str) -> None:
    """Audit logs are read when their records change, never all of them."""
    assert fresh({"fresh_s": whole, "part_s": part, "part": "changed"}) == words


def row(**waiting: int) -> dict[str, object]:
    groups = [{"group": name, "unread": count, "pending": 1} for name, count in waiting.items()]
    return {"account": "a", "resource": "orders", "groups": groups}


def test_samples_are_bounded_and_forgotten() -> None:
    """A week of minutes leaves some hundred samples of the last day; a group that is gone leaves none."""
    lag = GroupLag()
    for minute in range(7 * 1440):
        lag.add(minute * 60.0, [row(warehouse=minute)])
    kept = lag.of("a", "orders", "warehouse")
    assert MOST // 2 <= len(kept) <= MOST + 1
    assert kept[-1] == ((7 * 1440 - 1) * 60.0, 7 * 1440)
    assert kept[-1][0] - kept[0][0] <= DAY_SECONDS
    lag.add(7 * 86_400.0, [row(search=1)])
    assert lag.of("a", "orders", "warehouse") == []


def test_a_curve_needs_two_moments() -> None:
    """With one sample, or two of the same time, nothing is drawn; the highest and the last are said."""
    assert curve([(1.0, 5)]) is None
    assert curve([(1.0, 5), (1.0, 6)]) is None
    drawn = curve([(float(n), n % 7) for n in range(5000)])
    assert drawn is not None
    assert len(drawn.points.split()) <= 110
    assert "6 at most" in drawn.label


@pytest.mark.parametrize(
    ("kind", "facts", "words"),
    [
        ("audit", {"audit": {"user": "Jane Doe"}}, "entry in the audit log"),
        (
            "event",
            {
                "version": 2,
                "action": "updated",
                "changed": ["status"],
                "delay_s": 2.0,
                "reason": "poll",
                "run": None,
            },
            "v2 updated: status changed, 2.0 s after the change, by poll",
        ),
        (
            "dead",
            {"letter": "1-1", "group": None, "attempts": 0, "reason": "no id"},
            "dead letter 1-1: no id",
        ),
    ],
)
def test_a_moment_without_values(kind: str, facts: dict[str, object], words: str) -> None:
    """The message of the command line, which has values of the record, is not used."""
    entry = TimelineEntry(1.0, kind, "orders", "a", "status Secret, text Jane Doe", facts)
    assert moment_words(entry) == words


def test_text_is_printable_and_escaped() -> None:
    """Both, wherever a template shows it, also in an attribute, through a filter and in a loop."""
    template = environment().from_string(
        '<a title="{{ x }}">{{ x }}</a>{% for y in [x] %}{{ y|lower }}{% endfor %}'
    )
    shown = template.render(x="\"'<b>\x1b\u202e")
    assert "<b>" not in shown
    assert shown.count("\\x1b\\u202e") == 3
    assert shown.count("&#34;&#39;&lt;b&gt;") == 3


@pytest.mark.parametrize(
    ("host", "page", "served"),
    [("127.0.0.1", None, True), ("::1", None, True), ("localhost", None, True), (ANY, None, False),
     ("10.1.2.3", None, False), (ANY, True, True), ("127.0.0.1", False, False)],
)  # fmt: skip
def test_where_the_page_is_served(host: str, page: bool | None, served: bool) -> None:
    """On loopback, unless the setting says otherwise."""
    assert MetricsSettings(host=host, page=page).shows_page is served
