"""What is due by id: how it is written, and what a change makes due."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.capture.registry import AUDIT_LOGS, CAPTURED, ORDERS, RESOURCES, SHIPMENTS
from worker.capture.state.refresh_queue import RefreshKey, follow_ups, log_of, record, within
from worker.ordermesh.contract.operations import OPERATIONS


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3), st.booleans())
def test_members_are_read_as_they_were_written(path: list[str], of: bool) -> None:
    """Whatever an id holds, a slash, a colon or a line break, it comes back as it was."""
    member = RefreshKey(tuple(path), of)
    assert RefreshKey.parse(str(member)) == member
    assert str(member).isascii()


@pytest.mark.parametrize("text", ["", "id:", "of:", "nonsense", "xx:1", "id"])
def test_what_is_no_member_is_told(text: str) -> None:
    """What another hand has written is not taken for an id."""
    assert RefreshKey.parse(text) is None


def test_a_changed_order_makes_its_shipments_and_its_log_due() -> None:
    """By the order and by the ids in it; what stands there and is no id is passed over."""
    linked = (["s1", "", None, {"id": "x"}, 7],)
    assert list(follow_ups(ORDERS.follow_ups, "o1", linked)) == [
        ("shipments", log_of("o1")),
        ("shipments", record("s1")),
        ("shipments", record("7")),
        ("order_audit", log_of("o1")),
    ]
    assert list(follow_ups(ORDERS.follow_ups, "o1", ("no list",)))[1:] == [("order_audit", log_of("o1"))]


def test_a_record_of_the_past_makes_only_wanted_logs_due() -> None:
    """Shipments have a first read of their own; logs of the past are read where the settings want them."""
    linked = (["s1"],)
    assert not list(follow_ups(ORDERS.follow_ups, "o1", linked, snapshot=True))
    wanted = [
        msgspec.structs.replace(item, snapshots=item.target == "order_audit") for item in ORDERS.follow_ups
    ]
    assert [target for target, _ in follow_ups(wanted, "o1", linked, snapshot=True)] == ["order_audit"]


def test_a_changed_shipment_makes_the_logs_of_its_packages_due() -> None:
    """The log of a package is asked for by both ids."""
    packages = [{"id": "p1"}, {"id": None}, "odd", {"other": 1}, {"id": "p2"}]
    found = list(follow_ups(SHIPMENTS.follow_ups, "s1", (packages,)))
    assert [member for target, member in found if target == "package_audit"] == ["of:s1/p1", "of:s1/p2"]
    assert within(SHIPMENTS.follow_ups, (packages,)) == [["p1", "p2"]]


@pytest.mark.parametrize(
    ("linked", "due"),
    [(([{"id": "p2"}, {"id": "p3"}],), ["p2", "p3", "p1"]), (([],), ["p1", "p2"]), ((), ["p1", "p2"])],
)
def test_the_log_of_a_package_that_was_taken_out_is_due(linked: tuple[object, ...], due: list[str]) -> None:
    """With the change that took it out, of which a deletion is one."""
    found = list(follow_ups(SHIPMENTS.follow_ups, "s1", linked, before=[["p1", "p2"]]))
    assert [member for target, member in found if target == "package_audit"] == [
        f"of:s1/{each}" for each in due
    ]


def test_declarations_fit_together() -> None:
    """Every follow-up leads to something declared, with as many ids as its operation takes."""
    for resource in RESOURCES.values():
        fields = resource.linked_fields
        assert len(fields) == sum(1 for each in resource.follow_ups if each.ids)
        for each in resource.follow_ups:
            target = CAPTURED[each.target]
            if target.name in AUDIT_LOGS:
                log = AUDIT_LOGS[target.name]
                assert log.parent is resource
                ids = 2 if len(each.ids) == 2 else 1
                assert len(OPERATIONS[log.operation].path_parameters) == ids
            elif not each.ids:
                assert RESOURCES[target.name].by_parent in OPERATIONS
    audited = {each.target for resource in RESOURCES.values() for each in resource.follow_ups}
    assert set(AUDIT_LOGS) <= audited
