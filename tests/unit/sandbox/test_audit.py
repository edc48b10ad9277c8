import threading
from typing import Any

import pytest

from worker.sandbox.data.orders import format_ticks
from worker.sandbox.data.times import Stamps
from worker.sandbox.state.audit import CREATED, KEPT, UPDATED, AuditLogs, differences


@pytest.fixture
def logs() -> AuditLogs:
    """Empty logs with a clock that stands at tick 100."""
    return AuditLogs(threading.RLock(), Stamps(lambda: 10_000))


def note(logs: AuditLogs, before: dict[str, Any] | None, after: dict[str, Any] | None, **more: Any) -> None:
    logs.note("note", "n1", more.pop("action", UPDATED), actor="me", before=before, after=after, **more)


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(each.property, each.old_value, each.new_value) for each in differences(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, [("b", 2, 3)]),
        ({"a": 1}, {"b": 1}, [("a", 1, None), ("b", None, 1)]),
        ({"a": {"x": 1, "y": 1}}, {"a": {"x": 2, "y": 1}}, [("a.x", 1, 2)]),
        ({"a": {"x": 1}}, {"a": None}, [("a", {"x": 1}, None)]),
        ({"a": [1, 2]}, {"a": [2]}, [("a", [1, 2], [2])]),
        (
            {"items": [{"id": "1", "n": 1}, {"id": "2", "n": 1}]},
            {"items": [{"id": "2", "n": 5}, {"id": "3", "n": 1}]},
            [
                ("items[1]", {"id": "1", "n": 1}, None),
                ("items[2].n", 1, 5),
                ("items[3]", None, {"id": "3", "n": 1}),
            ],
        ),
        ({"updatedAt": "1", "lastModifiedDate": "1"}, {"updatedAt": "2", "lastModifiedDate": "2"}, []),
        ({"a": 1}, {"a": 1}, []),
    ],
)
def test_differences(before: dict[str, Any], after: dict[str, Any], expected: list[Any]) -> None:
    """Only what differs is told: in objects by field, in lists of records by id, and never the time of it."""
    assert changed(before, after) == expected


def test_an_entry_tells_what_who_and_when(logs: AuditLogs) -> None:
    """An entry has the moment it was given and the values before and after; a creation has no changes."""
    note(logs, None, {"id": "n1", "text": "a"}, action=CREATED, at=50)
    note(logs, {"text": "a"}, {"text": "b"}, at=60)
    first, second = logs.entries("note", "n1")
    assert second == {
        "id": second["id"],
        "resourceId": "n1",
        "resourceType": "note",
        "action": UPDATED,
        "user": "me",
        "timestamp": format_ticks(60),
        "changes": [{"property": "text", "oldValue": "a", "newValue": "b"}],
    }
    assert (first["action"], first["changes"], first["timestamp"]) == (CREATED, [], format_ticks(50))
    assert first["id"] != second["id"]


def test_without_a_moment_it_is_the_present(logs: AuditLogs) -> None:
    """An entry that is given no time has the present one."""
    note(logs, None, None)
    assert logs.entries("note", "n1")[0]["timestamp"] == format_ticks(100)


def test_logs_are_kept_apart(logs: AuditLogs) -> None:
    """Entries belong to one record of one kind."""
    note(logs, None, None)
    assert logs.entries("order", "n1") == logs.entries("note", "n2") == []


def test_the_last_entries_are_kept(logs: AuditLogs) -> None:
    """Of a long log the newest entries are there, and no creation is made up for the others."""
    for number in range(KEPT + 20):
        note(logs, {"n": number}, {"n": number + 1})
    entries = logs.entries("note", "n1", "2026-01-01T00:00:00.0000000Z")
    assert [each["changes"][0]["newValue"] for each in entries] == list(range(21, KEPT + 21))


def test_a_record_from_before_has_a_creation(logs: AuditLogs) -> None:
    """A log that does not begin with the creation gets one when its time is known; one that does gets no second."""
    made = "2026-01-01T00:00:00.0000000Z"
    (entry,) = logs.entries("note", "n1", made)
    assert (entry["action"], entry["timestamp"], entry["user"]) == (CREATED, made, "system")
    note(logs, {"n": 1}, {"n": 2})
    assert [each["action"] for each in logs.entries("note", "n1", made)] == [CREATED, UPDATED]
    assert logs.entries("note", "n1", made)[0] == entry
    logs.note("note", "n2", CREATED, actor="me", before=None, after={}, at=1)
    assert [each["user"] for each in logs.entries("note", "n2", made)] == ["me"]
