"""A full scan that is under way is resumed or restarted, and always comes to its end."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.capture.context import ReadOptions
from worker.capture.records.scope import EVERYTHING, RecordScope
from worker.capture.registry import ORDERS
from worker.capture.scan.resumption import MIXED, plan_of, plan_when_resumed, restart_reason
from worker.capture.scan.strategy import ScanStep, Strategy
from worker.capture.state.full_scan import FullScanProgress
from worker.ordermesh.contract.profile import ContractProfile, Listing

SCAN = FullScanProgress(page=11, started=1000.0, size=100, plan="p", spent=10.0)
OPTIONS = ReadOptions(ORDERS, EVERYTHING, 100, 4, 15.0, frozenset(), 300.0)
STEP = ScanStep(Strategy.SWEEP, 100)


def reason(scan: FullScanProgress = SCAN, plan: str = "p", size: int = 100, now: float = 1012.0) -> str:
    return restart_reason(scan, plan, size, now, 15.0)


@pytest.mark.parametrize(
    ("now", "expected"),
    [(1012.0, ""), (1025.0, ""), (1026.0, "it was interrupted for 16 s"), (994.0, "6 s in the future")],
)
def test_age(now: float, expected: str) -> None:
    """It may wait for as long as an interval; one that began in the future says nothing of its age."""
    assert expected in reason(now=now)
    assert bool(reason(now=now)) is bool(expected)


def test_a_long_scan_may_wait_for_as_long_as_it_was_read() -> None:
    """What was read costs more than the wait."""
    long = msgspec.structs.replace(SCAN, spent=600.0)
    assert not reason(long, now=1000 + 600 + 599)
    assert reason(long, now=1000 + 600 + 601)


def test_a_first_scan_may_wait_for_any_time() -> None:
    """Those of many accounts wait for each other."""
    assert reason(now=9000.0)
    assert not restart_reason(SCAN, "p", 100, 9000.0, 15.0, is_first=True)


def test_other_settings() -> None:
    """Another page size, contract or setting."""
    assert "page size" in reason(size=50)
    assert "setting" in reason(plan="q")
    assert plan_when_resumed(SCAN, "q") == MIXED
    assert plan_when_resumed(SCAN, "p") == "p"
    assert plan_when_resumed(msgspec.structs.replace(SCAN, plan=MIXED), "p") == MIXED


def test_what_a_plan_depends_on() -> None:
    """The path, the page parameters, the order and what is published; not what the probe learns beside it."""
    profile, url = ContractProfile(), "https://one"
    plan = plan_of(profile, url, STEP, OPTIONS)
    assert plan == plan_of(ContractProfile(listing=Listing(largest_page=50)), url, STEP, OPTIONS)
    others = [
        plan_of(profile, "https://two", STEP, OPTIONS),
        plan_of(ContractProfile(listing=Listing(first_page=0)), url, STEP, OPTIONS),
        plan_of(ContractProfile(prefixes={"order": ""}), url, STEP, OPTIONS),
        plan_of(profile, url, replace(STEP, query={"sort": "updatedAt"}), OPTIONS),
        plan_of(profile, url, STEP, replace(OPTIONS, ignored=frozenset({"tags"}))),
        plan_of(profile, url, STEP, replace(OPTIONS, scope=RecordScope("m", None, frozenset({"1"})))),
    ]
    assert len({plan, *others}) == 7


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.floats(0, 1e5), st.sampled_from("pq"), st.sampled_from([50, 100])),
        min_size=40,
        max_size=40,
    )
)
def test_it_ends_however_it_is_interrupted(lives: list[tuple[int, float, str, int]]) -> None:
    """Of 150 pages each life reads some, after any wait and with any settings: at most one starts over."""
    scan, now, restarts = FullScanProgress(), 1000.0, 0
    for pages, wait, plan, size in lives:
        now += wait
        if scan.started and reason(scan, plan, size, now):
            restarts += 1
            scan = FullScanProgress(restarted=True)
        started = scan.started or now
        now += pages
        scan = msgspec.structs.replace(
            scan, started=started, page=scan.page + pages, plan=plan, size=size, spent=scan.spent + pages
        )
    assert restarts <= 1
    assert scan.page >= 20
