"""Lists that lag behind, results that are capped, and pages that move: what the sandbox plays."""

import threading
from collections.abc import Callable

import msgspec
import pytest

from worker.sandbox import ServedContract
from worker.sandbox.faults import DRIFT_ACTIONS, FaultRule, FaultRuleError
from worker.sandbox.state.index import Index, Stale
from worker.sandbox.state.records import Records
from worker.sandbox.state.store import Store


def lagging(lag: float) -> tuple[Callable[[], list[str]], Records, list[float]]:
    """What a list shows of records, the records, and the clock."""
    records, clock = Records(threading.RLock()), [100.0]
    index = Index(lag, lambda: clock[0])

    def shown() -> list[str]:
        return [msgspec.json.decode(raw)["v"] for raw in index.of(records).window(0, 10)]

    return shown, records, clock


def test_a_change_is_shown_after_the_lag() -> None:
    """Before, a list shows the record as it was; so it does a record that is not there any more."""
    shown, records, clock = lagging(10)
    records.add({"id": "a", "v": "old"})
    assert shown() == ["old"]
    clock[0] += 5
    records.add({"id": "a", "v": "new"})
    records.add({"id": "b", "v": "more"})
    assert shown() == ["old"]
    clock[0] += 9
    assert shown() == ["old"]
    clock[0] += 1
    assert shown() == ["new", "more"]


def test_an_index_filters_what_it_shows() -> None:
    """Filters and times are those of the records as they are shown."""
    records, clock = Records(threading.RLock()), [0.0]
    index = Index(10, lambda: clock[0])
    records.add({"id": "a", "status": "Open", "createdAt": "2026-01-01T00:00:00Z"})
    index.of(records)
    records.add({"id": "a", "status": "Closed", "createdAt": "2026-01-01T00:00:00Z"})
    shown = index.of(records)
    assert shown.matching({"status": "Open"}) == ["a"]
    assert (len(shown), shown.times("a")[1]) == (1, "2026-01-01T00:00:00Z")


def test_an_index_that_loses_changes() -> None:
    """What is kept is shown as it was, to filters and by its times as well, until it is gone; the rest as it is."""
    records, stale = Records(threading.RLock()), Stale()
    for name in ("a", "b"):
        records.add({"id": name, "status": "Open", "createdAt": f"2026-01-01T00:00:0{len(records)}Z"})
    stale.keep(records, ["a"])
    for name in ("a", "b"):
        records.put({"id": name, "status": "Closed", "createdAt": "2026-01-02T00:00:00Z"})
    shown = stale.over(records)
    assert [msgspec.json.decode(raw)["status"] for raw in shown.window(0, 5)] == ["Open", "Closed"]
    assert (shown.matching({"status": "Open"}), shown.matching({"status": "Closed"})) == (["a"], ["b"])
    assert (shown.times("a")[1], shown.times("b")[1]) == ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    records.remove("a")
    assert (shown.ids(), len(shown)) == (["b"], 1)


def page(store: Store, number: int) -> tuple[int, int]:
    """Records on a page of 10, and the total."""
    body = msgspec.json.decode(store.page(number, 10))
    return len(body["orders"]), body["total"]


def test_a_capped_result() -> None:
    """So many records are reached and told, whatever there is."""
    store = Store(50, contract=ServedContract(result_cap=25))
    assert [page(store, number) for number in (1, 2, 3, 4)] == [(10, 25), (10, 25), (5, 25), (0, 25)]
    few = Store(5, contract=ServedContract(result_cap=25))
    assert page(few, 1) == (5, 5)


def test_a_result_that_refuses_deep_pages() -> None:
    """The total is the true one, and pages behind the cap are refused where there is more."""
    contract = ServedContract(result_cap=20, refuse_deep=True)
    assert page(Store(50, contract=contract), 2) == (10, 50)
    assert [contract.refuses(number, 10, 50) for number in (1, 2, 3)] == [False, False, True]
    assert not contract.refuses(9, 10, 20)


@pytest.mark.parametrize("action", sorted(DRIFT_ACTIONS))
def test_drift_needs_a_number(action: str) -> None:
    """A rule that moves pages says by how many orders."""
    assert FaultRule(action, count=3).count == 3
    with pytest.raises(FaultRuleError, match="count is 0"):
        FaultRule(action, count=0)
