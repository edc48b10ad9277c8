import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from worker.sandbox import ServedContract, Store, UnknownOrderError
from worker.sandbox.data.orders import format_ticks


def read(store: Store, order_id: str) -> dict[str, Any]:
    record = store.get(order_id)
    assert record is not None
    decoded: dict[str, Any] = json.loads(record)
    return decoded


def page_ids(store: Store, page: int, size: int) -> list[str]:
    return [order["id"] for order in json.loads(store.page(page, size))["orders"]]


def test_pages_walk_through_every_order_once() -> None:
    """Pages in turn give every order once, in creation order, and the one past the end is empty."""
    store = Store(25)
    walked = [order_id for page in (1, 2, 3) for order_id in page_ids(store, page, 10)]
    assert walked == store.ids()
    assert page_ids(store, 4, 10) == []


def test_a_page_holds_the_records_byte_for_byte() -> None:
    """What a page holds is what `truth` says, not a second rendering."""
    store = Store(3)
    body = store.page(1, 10)
    assert body == b'{"orders":[' + b",".join(store.truth().values()) + b'],"page":1,"pageSize":10,"total":3}'


def test_descending_pages_are_the_mirror() -> None:
    """In a descending contract pages start at the newest order and end at the oldest."""
    store = Store(25, contract=ServedContract(descending=True))
    walked = [order_id for page in (1, 2, 3) for order_id in page_ids(store, page, 10)]
    assert walked == store.ids()[::-1]
    assert page_ids(store, 4, 10) == []


def test_create_appends_open_orders() -> None:
    """New orders come last, are open and were never updated."""
    store = Store(3)
    made = store.create(2)
    assert store.ids()[-2:] == made
    assert [(read(store, each)["status"], read(store, each)["updatedAt"]) for each in made] == [
        ("Open", None)
    ] * 2


def test_times_never_stand_still() -> None:
    """With a clock that stands still, every creation and change still gets a later time than the last."""
    store = Store(0, clock=lambda: 1_780_000_000_000_000_000)
    first, second = store.create(2)
    stamps = [read(store, first)["createdAt"], read(store, second)["createdAt"]]
    for _ in range(3):
        store.change(first)
        stamps.append(read(store, first)["updatedAt"])
    assert stamps == sorted(set(stamps))


def test_times_never_go_back() -> None:
    """A clock behind the last change does not put a change before it."""
    now = [1_780_000_000_000_000_000]
    store = Store(1, clock=lambda: now[0])
    (order_id,) = store.touch(1)
    before = read(store, order_id)["updatedAt"]
    now[0] -= 3_600_000_000_000
    store.touch(order_id)
    assert read(store, order_id)["updatedAt"] > before


def test_change_moves_updated_and_content() -> None:
    """A change leaves an order with a later `updatedAt` and something else that differs."""
    store = Store(20)
    before = {order_id: json.loads(record) for order_id, record in store.truth().items()}
    changed = store.change(5)
    assert len(set(changed)) == 5
    for order_id in changed:
        now = read(store, order_id)
        assert now["updatedAt"] > (before[order_id]["updatedAt"] or before[order_id]["createdAt"])
        assert now | {"updatedAt": None} != before[order_id] | {"updatedAt": None}
    untouched = set(store.ids()) - set(changed)
    assert all(read(store, each) == before[each] for each in untouched)


def test_change_sets_given_fields() -> None:
    """Fields are set as given, `updatedAt` included; the key order stays."""
    store = Store(2)
    (order_id, _) = store.ids()
    keys = list(read(store, order_id))
    store.change(order_id, status="Cancelled", updatedAt="2020-01-01T00:00:00.0000000Z")
    now = read(store, order_id)
    assert (now["status"], now["updatedAt"]) == ("Cancelled", "2020-01-01T00:00:00.0000000Z")
    assert list(now) == keys


def test_change_takes_several_ids() -> None:
    """Ids are changed in the order in which they are given."""
    store = Store(5)
    chosen = store.ids()[3:0:-1]
    assert store.change(chosen, status="Open") == chosen


def test_random_changes_favour_recent_open_orders() -> None:
    """A random pick of few is mostly from the open orders, which are the newest tenth of a history."""
    store = Store(1_000)
    newest = set(store.ids()[-100:])
    picked = [store.touch(1)[0] for _ in range(200)]
    assert sum(each in newest for each in picked) > 150


def test_random_changes_reach_every_order() -> None:
    """Asked for at least as many as there are, a pick gives every order once."""
    store = Store(10)
    assert sorted(store.touch(99)) == sorted(store.ids())


def test_touch_moves_the_time_alone() -> None:
    """A touched order differs in `updatedAt` only."""
    store = Store(1)
    (order_id,) = store.ids()
    before = read(store, order_id)
    store.touch(order_id)
    now = read(store, order_id)
    assert now["updatedAt"] > before["createdAt"]
    assert now | {"updatedAt": None} == before | {"updatedAt": None}


def test_silent_change_leaves_the_time() -> None:
    """A silent change alters content and leaves `updatedAt` where it was."""
    store = Store(1)
    (order_id,) = store.ids()
    before = read(store, order_id)
    store.change_silently(order_id)
    assert read(store, order_id) != before
    store.change_silently(order_id, statusDesc="quiet")
    now = read(store, order_id)
    assert (now["statusDesc"], now["updatedAt"]) == ("quiet", before["updatedAt"])


def test_reordered_keys_keep_the_content() -> None:
    """Other bytes, the same content, and not counted as a change."""
    store = Store(1)
    (order_id,) = store.ids()
    record, content = store.get(order_id), read(store, order_id)
    store.reorder_keys(order_id)
    assert store.get(order_id) != record
    assert read(store, order_id) == content
    assert store.statistics().changed == 0


def test_a_planted_record_is_served_as_it_is() -> None:
    """`replace` puts any bytes under an id, in place; random picks leave them alone, a named change fails."""
    store = Store(3)
    order_id = store.ids()[1]
    store.replace(order_id, b"{not json")
    assert store.get(order_id) == b"{not json"
    assert list(store.truth())[1] == order_id
    assert order_id not in store.change(3)
    with pytest.raises(msgspec.DecodeError):
        store.change(order_id)


def test_a_planted_unknown_id_comes_last() -> None:
    """`replace` with an id that is not there adds a record at the end."""
    store = Store(2)
    store.replace("planted", b'{"id":"planted"}')
    assert page_ids(store, 1, 10)[-1] == "planted"


def test_delete_removes_from_everywhere() -> None:
    """A deleted order is gone from pages, by id and from the truth."""
    store = Store(3)
    order_id = store.ids()[1]
    store.delete(order_id)
    assert store.get(order_id) is None
    assert order_id not in page_ids(store, 1, 10)
    assert order_id not in store.truth()
    assert len(store) == 2


@pytest.mark.parametrize("call", ["delete", "change", "touch", "reorder_keys"])
def test_an_unknown_id_is_an_error(call: str) -> None:
    """Working on an order that is not there names it, and nothing changes."""
    store = Store(1)
    before = store.truth()
    with pytest.raises(UnknownOrderError, match="'nobody'"):
        getattr(store, call)("nobody")
    assert store.truth() == before


def test_filters_compare_fields() -> None:
    """Filters narrow a search to records whose fields are equal; unreadable records never match."""
    store = Store(60)
    store.replace("broken", b"{")
    wanted = [
        order for order in map(json.loads, list(store.truth().values())[:-1]) if order["status"] == "Open"
    ]
    found = json.loads(store.page(1, 100, {"status": "Open"}))
    assert found["orders"] == wanted
    assert found["total"] == len(wanted) > 0
    one = wanted[0]
    both = json.loads(store.page(1, 100, {"status": "Open", "safeId": one["safeId"]}))
    assert both["orders"] == [one]


def test_statistics_count_what_was_done() -> None:
    """Counts tell creations, changes and deletions since the start; the history is not a creation."""
    store = Store(5)
    store.create(2)
    store.change(3)
    store.delete(store.ids()[0])
    statistics = store.statistics()
    assert (statistics.orders, statistics.created, statistics.changed, statistics.deleted) == (6, 2, 3, 1)


def test_threads_do_not_lose_changes() -> None:
    """Creations, changes and reads from several threads at once leave a store in which everything adds up."""
    store = Store(50)

    def work(_number: int) -> None:
        store.create(5)
        store.change(5)
        json.loads(store.page(1, 100))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    statistics = store.statistics()
    assert (statistics.orders, statistics.created, statistics.changed) == (250, 200, 200)
    assert [json.loads(record)["id"] for record in store.truth().values()] == store.ids()


def test_an_edit_changes_one_order_and_tells_the_watchers() -> None:
    """The work gets the order with its new time; watchers see it before and after, audit logs who and what."""
    store = Store(3)
    order_id = store.ids()[0]
    before = read(store, order_id)
    seen: list[tuple[Any, ...]] = []
    store.watch(lambda *told: seen.append(told))

    def work(order: dict[str, Any], at: int) -> None:
        assert order["updatedAt"] == format_ticks(at)
        order["externalId"] = "edited"

    after = store.edit(order_id, work, actor="somebody", action="Edited")
    assert (
        read(store, order_id) == after == before | {"externalId": "edited", "updatedAt": after["updatedAt"]}
    )
    ((told_id, told_before, told_after, at, actor),) = seen
    assert (told_id, told_before, told_after, actor) == (order_id, before, after, "somebody")
    entry = store.audit.entries("order", order_id)[-1]
    assert (entry["action"], entry["user"], entry["timestamp"]) == ("Edited", "somebody", format_ticks(at))
    assert store.statistics().changed == 1


def test_an_edit_that_fails_changes_nothing() -> None:
    """What the work raises comes out, and the order, its logs and the counts are as they were."""
    store = Store(1)
    (order_id,) = store.ids()
    before = store.truth()

    def work(order: dict[str, Any], _at: int) -> None:
        order["status"] = "Broken"
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        store.edit(order_id, work)
    with pytest.raises(UnknownOrderError):
        store.edit("nobody", lambda _order, _at: None)
    assert store.truth() == before
    assert store.audit.entries("order", order_id) == []
    assert store.statistics().changed == 0


def test_items_and_safe_ids_lead_to_their_order() -> None:
    """Orders are found by item and by safe id, as they are now: what is gone or renamed leads nowhere."""
    store = Store(5)
    order = read(store, store.ids()[2])
    item_id = order["items"][0]["id"]
    assert store.order_of_item(item_id) == store.order_of_safe_id(order["safeId"]) == order
    store.change(order["id"], safeId="renamed", items=[])
    assert store.order_of_item(item_id) is None
    assert store.order_of_safe_id(order["safeId"]) is None
    assert (store.order_of_safe_id("renamed") or {})["id"] == order["id"]
    assert item_id not in store.items
    other = read(store, store.ids()[3])
    store.delete(other["id"])
    assert store.order_of_safe_id(other["safeId"]) is None
    assert other["items"][0]["id"] not in store.items


def test_items_of_a_planted_record_are_its_own() -> None:
    """A planted record has the items that can be read in it; what cannot be read has none."""
    store = Store(2)
    order = read(store, store.ids()[0])
    item_id = order["items"][0]["id"]
    store.replace(order["id"], b"{not json")
    assert store.order_of_item(item_id) is None
    assert store.read(order["id"]) is None
    store.replace("odd", json.dumps({"items": [{"id": item_id}, 5, {"id": None}]}).encode())
    assert (store.order_of_item(item_id) or {})["items"][0] == {"id": item_id}
    assert [each for each, of in store.items.items() if of == "odd"] == [item_id]


@pytest.mark.parametrize("raw", [b"{not json", b'{"v":"\xff"}', b"[" * 100_000, b"[]", b"", b"5"])
def test_any_bytes_can_be_planted(raw: bytes) -> None:
    """Whatever is planted is served as it is, and everything else goes on around it."""
    store = Store(2)
    store.replace("odd", raw)
    store.replace("odd", raw)
    assert store.get("odd") == raw
    assert store.read("odd") is None
    assert json.loads(store.page(1, 10, {"status": "Nothing"}))["orders"] == []
    store.delete("odd")
    assert len(store) == 2
