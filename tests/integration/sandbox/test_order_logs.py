"""The audit logs of orders and their items in the sandbox: what each write leaves in them."""

from tests.support.sandbox_api import SandboxApi
from tests.support.sandbox_orders import created, some
from worker.sandbox import CLIENT_ID, SandboxServer, ServedContract


def test_every_write_leaves_an_entry_on_the_order_and_its_items(api: SandboxApi) -> None:
    """Entries tell in order what was done, when, by whom, and the old and new values of what changed."""
    order = created(api, "A", "B", safeId="audited")
    first, second = (each["id"] for each in order["items"])
    path = {"orderId": order["id"]}
    updated = api.do("orders.update", {"shippingAddress": {"line1": "9 Mill Lane"}}, **path)["order"]
    api.do("order_items.update", {"quantity": 3}, itemId=first, **path)
    api.do("orders.refund", {"orderId": order["id"], "refunds": [{"itemId": first, "amount": 1}]})
    api.do("orders.hold", **path)
    api.do("orders.cancel", {"items": [second]}, **path)
    entries = api.do("orders.audit_logs", query={"format": "json"}, **path)["auditLogs"]
    assert [each["action"] for each in entries] == [
        "Created",
        "Updated",
        "Updated",
        "RefundRequested",
        "CustomerCareHold",
        "Cancelled",
    ]
    assert entries[1] == {
        "id": entries[1]["id"],
        "resourceId": order["id"],
        "resourceType": "order",
        "action": "Updated",
        "user": CLIENT_ID,
        "timestamp": updated["updatedAt"],
        "changes": [
            {"property": "shippingAddress.line1", "oldValue": "1 Mill Lane", "newValue": "9 Mill Lane"}
        ],
    }
    quantity = {"property": f"items[{first}].quantity", "oldValue": 2, "newValue": 3}
    assert quantity in entries[2]["changes"]
    assert entries[0]["timestamp"] == order["createdAt"]
    assert len({each["id"] for each in entries}) == len(entries)
    assert api.do("orders.audit_logs_by_safe_id", safeId="audited")["auditLogs"] == entries
    assert api.audited("order_items.audit_logs", itemId=first) == ["Created", "Updated", "RefundRequested"]
    assert api.audited("order_items.audit_logs", itemId=second) == ["Created", "Cancelled"]


def test_an_order_from_before_the_start_has_its_creation(server: SandboxServer, api: SandboxApi) -> None:
    """Audit logs of an order of the history begin with an entry for its creation, the same one each time."""
    order = some(server, "Cancelled")
    for key, path, made in (
        ("orders.audit_logs", {"orderId": order["id"]}, order["createdAt"]),
        ("order_items.audit_logs", {"itemId": order["items"][0]["id"]}, order["createdAt"]),
    ):
        (entry,) = api.do(key, **path)["auditLogs"]
        assert (entry["action"], entry["timestamp"], entry["user"]) == ("Created", made, "system")
        assert api.do(key, **path)["auditLogs"] == [entry]


def test_changes_of_the_store_are_audited_too(server: SandboxServer, api: SandboxApi) -> None:
    """What happens by itself leaves entries of the system; logs of a deleted order can still be read."""
    (order_id,) = server.store.create()
    item_id = (server.store.read(order_id) or {})["items"][0]["id"]
    server.store.change(order_id, status="In Production", statusDesc="seen")
    server.store.change_silently(order_id, statusDesc=None)
    server.store.delete(order_id)
    entries = api.do("orders.audit_logs", orderId=order_id)["auditLogs"]
    assert [(each["action"], each["user"]) for each in entries] == [
        ("Created", "system"),
        ("Updated", "system"),
        ("Updated", "system"),
        ("Deleted", "system"),
    ]
    assert {"property": "status", "oldValue": "Open", "newValue": "In Production"} in entries[1]["changes"]
    assert entries[2]["changes"] == [{"property": "statusDesc", "oldValue": "seen", "newValue": None}]
    assert api.audited("order_items.audit_logs", itemId=item_id) == ["Created", "Deleted"]
    assert api.refused(404, "order_items.get", itemId=item_id)


def test_an_item_that_never_was_has_no_audit_logs(api: SandboxApi) -> None:
    """Audit logs of nothing are 404."""
    assert api.refused(404, "order_items.audit_logs", itemId="nobody")
    assert api.refused(404, "orders.audit_logs_by_safe_id", safeId="nobody")


def test_audit_logs_in_pages_and_totals_that_count_too_much() -> None:
    """`audit_page_size` cuts a log into pages with its total; `total_extra` is added to the totals of lists."""
    contract = ServedContract(audit_page_size=2, total_extra=4000)
    with SandboxServer(orders=3, contract=contract) as server, SandboxApi(server) as api:
        (order,) = [server.store.ids()[0]]
        for status in ("A", "B", "C", "D"):
            server.store.change(order, status=status)
        pages = [
            api.do("orders.audit_logs", query={"page": str(number)}, orderId=order) for number in (1, 2, 3, 4)
        ]
        assert [len(page["auditLogs"]) for page in pages] == [2, 2, 1, 0]
        assert (pages[0]["page"], pages[0]["pageSize"], pages[0]["total"]) == (1, 2, 5)
        assert api.do("orders.search")["total"] == 4003
