"""The runbook has a section for each alert, and for each cause that the health of a resource or a worker can have."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from redis.exceptions import ResponseError

from tests.support.documentation import read
from tests.support.paths import ROOT
from worker import errors
from worker.capture.causes import Cause
from worker.capture.health import NOT_POLLED, judge
from worker.capture.state.cursor import Cursor
from worker.capture.state.pauses import Pause
from worker.ordermesh.contract.findings import Withdrawn
from worker.queue.lateness import LateGroup
from worker.redis.facts import eviction_words
from worker.redis.refusals import explain
from worker.service.heartbeat import Beat, diagnose
from worker.service.starting import STARTING
from worker.telemetry.status_metrics import REDIS_AWAY

PAGE = "docs/operate/runbook.md"
LABELS = ["Means", "Look at", "Type", "Ends"]
OF_NO_POLL = {
    "command_fails", "consumer_replaced", "function_missing", "group_gone", "not_replayable", "outcome_unknown",
    "partial_bulk", "receiver_gone", "receiver_unavailable",
}  # fmt: skip
"""Codes of errors of consumers, of writes to OrderMesh, and of `ordersync forward`."""


NOW = 1_800_000_000.0
FINE: dict[str, Any] = {"baseline": True, "interval": 15.0, "fresh_as_of": NOW - 10, "last_started": NOW - 10}
LATE = LateGroup("warehouse", "orders", 700.0, 3, 0)
LOST = Withdrawn("filter", "updatedFrom", "omits records", NOW - 60)
STATES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    Cause.PAUSED: ({}, {"pause": Pause("orders", "ann", "prices", NOW - 60)}),
    Cause.FIRST_SCAN: ({"baseline": False}, {}),
    Cause.EMPTY_FIRST_SCAN: ({"baseline": False, "empty_at": NOW - 60}, {}),
    Cause.UNPROVEN_SCAN: ({"unclean_scans": 1}, {}),
    Cause.NO_POLL: ({"last_started": NOW - 900}, {}),
    Cause.OLD_READ: ({"fresh_as_of": NOW - 200}, {}),
    Cause.OLD_FULL_SCAN: (
        {"fresh_as_of": NOW - 900, "part_as_of": NOW - 5, "part": "newer", "complete_every": 60.0}, {}
    ),
    Cause.OLD_PARENT_READ: ({"fresh_as_of": 0.0, "part_as_of": NOW - 300, "follows": 15.0}, {}),
    Cause.UNREAD_LOGS: (
        {"fresh_as_of": 0.0, "part_as_of": NOW - 300, "follows": 15.0, "unread_since": NOW - 300}, {}
    ),
    Cause.CLOCK_PUT_BACK: ({"fresh_as_of": NOW + 900}, {}),
    Cause.BACKPRESSURE: ({"paused": "group warehouse has much to read"}, {}),
    Cause.GROUP_LATE: ({}, {"late": LATE.cause}),
    Cause.REDIS_LOST_DATA: ({"lost_at": NOW - 5, "loss": "Redis went back"}, {}),
    Cause.SUSPECT_READ: ({"suspicious": "the list is empty"}, {}),
    Cause.UNREAD_RECORDS: ({"unread": "page 3 cannot be read", "unread_records": 1}, {}),
    Cause.HELD_BACK_DELETIONS: ({"held_back": 9}, {}),
    Cause.MOVING_LIST: ({"doubts": 2}, {}),
    Cause.UNANSWERED_RECORDS: ({"unanswered": 1}, {}),
    Cause.OPEN_GAPS: ({"gaps": 1}, {}),
    Cause.STALE_RECORDS: ({"stale": 2}, {}),
    Cause.UNREADABLE_RECORDS: ({"unreadable": 1}, {}),
    Cause.CAPABILITY_WITHDRAWN: ({}, {"withdrawn": [LOST]}),
    errors.RedisFull.code: ({}, {"full": True}),
}  # fmt: skip
"""Fields of a cursor, and arguments of the verdict, that lead to a cause."""
TEXTS: dict[str, str] = {
    Cause.WITHDRAWN: NOT_POLLED,
    Cause.EVICTED_KEYS: eviction_words(2),
    Cause.UNUSABLE_KEYS: explain(ResponseError("WRONGTYPE Operation against a key")),
    "gateway_unreachable": str(errors.GatewayUnreachable("orders.search", "https://x", "no connection")),
    "rate_limited": str(errors.RateLimited("orders.search", 429, "slow down")),
    "forbidden": str(errors.Forbidden("orders.search", 403, "no")),
    "login_rejected": str(errors.LoginRejected(401, "no")),
    "token_rejected": str(errors.TokenRejected("orders.search", "no")),
    "source_moved": str(errors.SourceMoved("default", "https://a", "https://b")),
    "contract_mismatch": str(errors.ContractMismatch("orders.search", "orders", ("/x",), "404")),
    "redis_unavailable": explain(ResponseError("MISCONF Errors writing to the AOF file")),
}
"""Words of causes that are made elsewhere."""


def sections() -> dict[str, str]:
    """Return the text of each section, by its title."""
    parts = re.split(r"^### (.+)$", read(PAGE), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def codes_of_polls() -> set[str]:
    """Return the codes of all errors with which a poll may end."""
    found, classes = set(), [errors.OrdersyncError]
    while classes:
        error = classes.pop()
        classes += error.__subclasses__()
        if error.__module__.startswith(("worker.errors.", "ordersync_consumer.errors")):
            found.add(error.code)
    return found - OF_NO_POLL


def alerts() -> set[str]:
    """Return the names of all alerts."""
    found = set()
    for file in ("prometheus/alerts.yaml", "loki/log-alerts.yaml"):
        (group,) = yaml.safe_load((ROOT / "deploy" / file).read_text(encoding="utf-8"))["groups"]
        found |= {rule["alert"] for rule in group["rules"]}
    return found


def test_each_alert_and_cause_has_a_section() -> None:
    """And no section is left over of one that is no more."""
    of_workers = {"no_heartbeat", "old_heartbeat", "future_heartbeat", "redis_silent", "starting"}
    assert set(sections()) == alerts() | set(Cause) | codes_of_polls() | of_workers
    assert REDIS_AWAY in sections()


@pytest.mark.parametrize("label", LABELS)
def test_each_section_says_all(label: str) -> None:
    """What it means, what to look at, what to type, and when it ends."""
    for title, text in sections().items():
        assert re.findall(r"^- \*\*([\w ]+)\*\*: \S", text, re.MULTILINE)[:4] == LABELS, title
        assert f"**{label}**" in text


def test_one_wording_for_each_cause() -> None:
    """The words that status, page, health and doctor show for a cause are quoted by its section."""
    texts = dict(TEXTS)
    for code, (fields, arguments) in STATES.items():
        verdict = judge(Cursor(**FINE | fields), NOW, **arguments)
        assert verdict.code == code
        texts[code] = verdict.cause
    assert set(texts) >= set(Cause)
    for code, text in texts.items():
        quotes = re.findall(r"`([^`]+)`", " ".join(sections()[code].partition("- **Look at**")[0].split()))
        assert any(quote in text for quote in quotes), (code, text)


@pytest.mark.parametrize(
    ("beat", "title"),
    [
        (None, "no_heartbeat"),
        (Beat("w", 1, 900.0, 0.0), "old_heartbeat"),
        (Beat("w", 1, 2000.0, 0.0), "future_heartbeat"),
        (Beat("w", 1, 1000.0, 0.0, problem="Redis does not answer within 5 s"), "redis_silent"),
        (Beat("w", 1, 1000.0, 0.0, problem="Redis cannot be used: x"), "redis_silent"),
        (Beat("w", 1, 1000.0, 0.0, problem=STARTING), "starting"),
        (Beat("w", 1, 1000.0, 0.0, problem="Redis cannot be reached: x"), "redis_silent"),
    ],
)
def test_problems_of_a_worker(beat: Beat | None, title: str) -> None:
    """What `ordersync health` says of the process is quoted by its section."""
    (problem,) = diagnose(beat, 1000.0)
    quotes = re.findall(r"`([^`]+)`", " ".join(sections()[title].partition("- **Look at**")[0].split()))
    assert any(quote in problem for quote in quotes)
