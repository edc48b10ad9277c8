"""What the templates show: parts of an overview as plain values, with the geometry of what is drawn. No I/O."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from worker.admin.coverage import HOUR_WORDS, sentences
from worker.admin.run_bars import SLOTS
from worker.admin.verdict import advice, command_line
from worker.capture.reconcile.calendar import Hour
from worker.clock import duration, parse_time
from worker.service.heartbeat import clock_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.admin.coverage import CoverageReport
    from worker.admin.dead_letters import LetterReason
    from worker.admin.group_lag import GroupLag, Sample
    from worker.admin.overview import AccountOverview, Overview, Work
    from worker.admin.run_bars import Bar
    from worker.admin.status import Row
    from worker.admin.timeline_entries import TimelineEntry

CHART_WIDTH, CHART_HEIGHT = 480, 40
CURVE_WIDTH, CURVE_HEIGHT = 240, 32
MOST_POINTS = 96
MOST_IDS = 5
"""Dead letters that a command names; more are replayed by group."""
MOST_REASONS = 12


@dataclass(frozen=True, slots=True)
class Rect:
    """A drawn bar; `title` says what it shows."""

    x: float
    y: float
    width: float
    height: float
    look: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn, and the same in words."""

    label: str
    rects: tuple[Rect, ...] = ()
    points: str = ""


def resources(overview: Overview, *, name_account: bool) -> list[dict[str, Any]]:
    """Return what is shown of each resource."""
    accounts = {account.name: account for account in overview.accounts}
    shown = []
    for row in overview.rows:
        account = accounts.get(row["account"])
        due = account.due.get(row["resource"], 0.0) if account else 0.0
        shown.append(
            {
                "row": row,
                "name": full_name(row["account"], row["resource"], name_account=name_account),
                "fresh": fresh(row),
                "read_ago": _seconds_since(row["last_success"], overview.at),
                "next_in": max(0.0, due - overview.at) if due else None,
                "advice": advice(row, name_account=name_account),
                "bars": run_chart(account.bars.get(row["resource"], []) if account else []),
                "per_minute": tuple(
                    row["rate"][name][-1] for name in ("records_per_minute", "events_per_minute")
                ),
            }
        )
    return shown


def _seconds_since(moment: str | None, now: float) -> float | None:
    at = parse_time(moment)
    return None if at is None else now - at / 1000


def full_name(account: str, resource: str, *, name_account: bool) -> str:
    """Return the name of a resource, with its account where there are several."""
    return f"{account}/{resource}" if name_account else resource


def fresh(row: Row) -> str:
    """Return the age of the last read of everything, and of a fresher one of a part; "never" for neither."""
    whole, part = row["fresh_s"], row["part_s"]
    ages = [] if whole is None else [f"everything {duration(whole)}"]
    if part is not None and (whole is None or part < whole):
        ages.append(f"{row['part']} {duration(part)}")
    return ", ".join(ages) or "never"


def run_chart(bars: Sequence[Bar]) -> Drawing:
    """Return the runs of 24 hours as bars; what failed is the lower part of its bar."""
    width, top = CHART_WIDTH / SLOTS, max((bar.runs for bar in bars), default=0)
    rects = []
    for index, bar in enumerate(bars):
        x, room = index * width + 1, width - 2
        if not bar.runs:
            look = "none" if bar.known else "unknown"
            rects.append(Rect(x, CHART_HEIGHT - 1, room, 1, look))
            continue
        height = max(3.0, bar.runs / top * (CHART_HEIGHT - 2))
        failed = max(3.0, bar.failed / bar.runs * height) if bar.failed else 0.0
        title = (
            f"{clock(bar.begins)} UTC: {bar.runs} runs, {bar.failed} failed or suspect, {bar.events} events"
        )
        if height > failed:
            rects.append(Rect(x, CHART_HEIGHT - height, room, height - failed, "good", title))
        if failed:
            rects.append(Rect(x, CHART_HEIGHT - failed, room, failed, "bad", title))
    runs, bad, events = (sum(getattr(bar, name) for bar in bars) for name in ("runs", "failed", "events"))
    label = f"{runs:,} runs in 24 hours, {bad:,} failed or suspect, {events:,} events"
    first = next((bar for bar in bars if bar.known), None)
    if first is None:
        label = "No run is kept of the last 24 hours"
    elif not bars[0].known:
        label += f"; no run is kept of the time before {clock(first.begins)} UTC"
    return Drawing(label, tuple(map(_rounded, rects)))


def _rounded(rect: Rect) -> Rect:
    return Rect(
        round(rect.x, 1),
        round(rect.y, 1),
        round(rect.width, 1),
        round(rect.height, 1),
        rect.look,
        rect.title,
    )


def clock(at: float) -> str:
    """Return the time of day (UTC) of a moment in seconds since 1970."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M")


def groups(overview: Overview, lag: GroupLag, *, name_account: bool) -> list[dict[str, Any]]:
    """Return what is shown of each consumer group."""
    return [
        {
            "name": full_name(row["account"], row["resource"], name_account=name_account),
            "group": group,
            "curve": curve(
                [
                    *lag.of(row["account"], row["resource"], group["group"]),
                    (overview.at, group["unread"] + group["pending"]),
                ]
            ),
            "command": command_line(
                row["account"], ["groups", "show", group["group"]], name_account=name_account
            ),
        }
        for row in overview.rows
        for group in row["groups"]
    ]


def curve(samples: Sequence[Sample]) -> Drawing | None:
    """Return the events that a group still had to handle, over time; None if there are too few samples to draw."""
    step = max(1, len(samples) // MOST_POINTS)
    kept = [*samples[:-1:step], samples[-1]]
    first, last = kept[0][0], kept[-1][0]
    if len(kept) < 2 or last <= first:
        return None
    top = max(waiting for _, waiting in samples)
    points = " ".join(
        f"{(at - first) / (last - first) * CURVE_WIDTH:.1f},"
        f"{CURVE_HEIGHT - 1 - (waiting / top if top else 0) * (CURVE_HEIGHT - 2):.1f}"
        for at, waiting in kept
    )
    label = f"in the last {duration(last - first)}: {top:,} at most, {samples[-1][1]:,} now"
    return Drawing(label, points=points)


def letters(account: AccountOverview, *, name_account: bool) -> list[dict[str, Any]]:
    """Return the reasons of the dead letters of an account, each with the command to replay them."""
    return [
        {
            "name": full_name(account.name, item.resource, name_account=name_account),
            "item": item,
            "command": command_line(account.name, _replay(item), name_account=name_account),
            "all_of_group": len(item.ids) > MOST_IDS,
        }
        for item in account.letters[:MOST_REASONS]
    ]


def _replay(item: LetterReason) -> list[str]:
    if len(item.ids) <= MOST_IDS:
        return ["dead", "replay", item.resource, *item.ids]
    only = ["--group", item.group] if item.group else ["--kind", "record"]
    return ["dead", "replay", item.resource, "--all", *only]


def workers(overview: Overview) -> list[dict[str, Any]]:
    """Return the workers of each account with what each does now, and the budget that they share."""
    rows = {row["account"]: row for row in overview.rows}
    return [
        {
            "account": account.name,
            "budget": rows[account.name]["budget"],
            "writes_refused": rows[account.name]["writes_refused"],
            "limited": max(0.0, account.limited_until - overview.at),
            "workers": [
                {
                    **worker,
                    "does": [work_words(work) for work in account.work if work.worker == worker["worker"]],
                    "polls": len(worker["resources"]),
                    "clock": clock_words(worker["worker"], worker["clock_offset_s"]),
                }
                for worker in rows[account.name]["workers"]
            ],
        }
        for account in overview.accounts
        if account.name in rows
    ]


def work_words(work: Work) -> str:
    """Return in words what a worker does now."""
    if work.compares:
        return "compares the audit logs with what was published"
    if not work.page:
        return f"reads {work.resource}"
    of = f" of about {work.pages}" if work.pages > work.page else ""
    return f"reads {work.resource}: full scan, page {work.page}{of}"


def coverage(report: CoverageReport) -> dict[str, Any]:
    """Return the map of the proven hours of a resource, and what is proven in words."""
    rows = []
    for day in report.days:
        tally = Counter(day.hours)
        counts = [
            f"{tally[hour]} h {HOUR_WORDS[hour]}" for hour in HOUR_WORDS if tally[hour] and HOUR_WORDS[hour]
        ]
        date = datetime.fromtimestamp(day.day * 86_400, UTC)
        rows.append(
            {
                "date": date.strftime("%Y-%m-%d"),
                "day": date.strftime("%a %d"),
                "hours": [hour.value for hour in day.hours],
                "label": ", ".join(counts) or "nothing is known",
            }
        )
    return {"resource": report.resource, "days": rows, "sentences": list(sentences(report))}


LEGEND = [(hour.value, words) for hour, words in HOUR_WORDS.items() if hour is not Hour.BEFORE]
"""The kinds of hours, and what each is called."""
LANES = {"audit": "source audit", "event": "event", "delivery": "delivery", "dead": "dead letter"}
"""The lanes of a timeline, and what each is called."""


def moments(entries: Sequence[TimelineEntry]) -> list[dict[str, Any]]:
    """Return the entries of a timeline as the page shows them: without the value of any field of a record."""
    shown, before = [], 0.0
    for entry in entries:
        later = entry.at - before if before and entry.at else 0.0
        before = entry.at or before
        shown.append(
            {
                "at": entry.at,
                "after": duration(later) if later >= 1 else "",
                "kind": entry.kind,
                "lane": LANES.get(entry.kind, entry.kind),
                "resource": entry.resource,
                "subject": entry.subject,
                "text": moment_words(entry),
                "deliveries": {
                    group: state["told"] for group, state in (entry.facts.get("groups") or {}).items()
                },
            }
        )
    return shown


def moment_words(entry: TimelineEntry) -> str:
    """Return an entry of a timeline in words, made of its envelope only: a record's values are not shown."""
    facts = entry.facts
    if entry.kind == "event":
        changed = f": {', '.join(facts['changed'])} changed" if facts["changed"] else ""
        delay = ""
        if facts["delay_s"] is not None and facts["action"] != "snapshot":
            delay = f", {facts['delay_s']:.1f} s after the change"
        run = f" in run {facts['run']}" if facts["run"] else ""
        return f"v{facts['version']} {facts['action']}{changed}{delay}, by {facts['reason']}{run}"
    if entry.kind == "audit":
        published = f", published at {facts['published_at']}" if "published_at" in facts else ""
        return f"entry in the audit log{published}"
    if entry.kind == "dead":
        tried = f", group {facts['group']}, {facts['attempts']} attempts" if facts["group"] else ""
        return f"dead letter {facts['letter']}{tried}: {facts['reason']}"
    return entry.message
