"""The note service of the sandbox: notes on resources, their life, and their audit logs."""

from collections.abc import Iterator

import pytest

from tests.support.sandbox_api import SandboxApi
from worker.sandbox import CLIENT_ID, SandboxServer, ServedContract


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(orders=60) as running:
        yield running


@pytest.fixture
def api(server: SandboxServer) -> Iterator[SandboxApi]:
    with SandboxApi(server) as client:
        yield client


def test_there_are_notes_on_orders_at_the_start(server: SandboxServer, api: SandboxApi) -> None:
    """Thirty notes, all on orders that exist, on many different ones."""
    page = api.do("notes.search", query={"pageSize": 50})
    assert page["total"] == len(page["notes"]) == 30
    assert {each["resource"]["type"] for each in page["notes"]} == {"order"}
    ids = {each["resource"]["id"] for each in page["notes"]}
    assert ids <= set(server.store.ids())
    assert len(ids) == 30


@pytest.mark.parametrize("orders", [0, 1, 7])
def test_few_orders_have_few_notes(orders: int) -> None:
    """One note on each order at the most, none without orders."""
    assert len(SandboxServer(orders=orders).world.notes) == orders


def test_the_same_seed_gives_the_same_notes(server: SandboxServer) -> None:
    """Notes of two sandboxes with the same seed are the same bytes; another seed gives others."""
    truth = server.world.notes.truth()
    assert SandboxServer(orders=60).world.notes.truth() == truth
    assert SandboxServer(orders=60, seed=2).world.notes.truth() != truth


def test_the_life_of_a_note(server: SandboxServer, api: SandboxApi) -> None:
    """Created with a writer and without a change, read alone, changed, deleted; every step is in its audit logs."""
    resource = {"id": server.store.ids()[0], "type": "order"}
    answer = api.send("notes.create", {"resource": resource, "text": "call first"})
    assert answer.status_code == 201
    note = answer.json()
    assert note["resource"] == resource
    assert note["user"]["name"] == CLIENT_ID
    assert note["updatedAt"] is None
    assert len(note["createdAt"]) == len("2026-02-27T22:29:29.4914307Z")
    assert api.do("notes.get", noteId=note["id"]) == note
    assert api.do("notes.search", query={"page": 2, "pageSize": 30})["notes"] == [note]

    changed = api.do("notes.update", {"text": "called"}, id=note["id"])
    assert changed == note | {"text": "called", "updatedAt": changed["updatedAt"]}
    assert changed["updatedAt"] > note["createdAt"]
    assert api.do("notes.get", noteId=note["id"]) == changed

    answer = api.send("notes.delete", id=note["id"])
    assert (answer.status_code, answer.content) == (204, b"")
    api.refused(404, "notes.get", noteId=note["id"])
    api.refused(404, "notes.delete", id=note["id"])
    api.refused(404, "notes.update", {"text": "again"}, id=note["id"])
    assert api.audited("notes.audit_logs", id=note["id"]) == ["Created", "Updated", "Deleted"]


def test_audit_logs_tell_who_changed_what(server: SandboxServer, api: SandboxApi) -> None:
    """An entry has the one who did it and the values before and after; old notes begin with their creation."""
    note_id = server.world.notes.ids()[3]
    before = api.do("notes.get", noteId=note_id)
    api.do("notes.update", {"text": "other words"}, id=note_id)
    first, last = api.do("notes.audit_logs", id=note_id)["auditLogs"]
    assert (first["action"], first["timestamp"]) == ("Created", before["createdAt"])
    assert (last["action"], last["user"]) == ("Updated", CLIENT_ID)
    assert last["changes"] == [{"property": "text", "oldValue": before["text"], "newValue": "other words"}]
    api.refused(404, "notes.audit_logs", id="no-such-note")


def test_a_search_is_narrowed_by_resource(server: SandboxServer, api: SandboxApi) -> None:
    """Notes of one resource, or of one kind, each page with its own total."""
    order_id, product_id = server.store.ids()[0], server.world.products.ids()[0]
    api.do("notes.create", {"resource": {"id": product_id, "type": "product"}, "text": "new supplier"})
    mine = api.do("notes.search", query={"resourceId": order_id})
    assert {each["resource"]["id"] for each in mine["notes"]} == {order_id}
    assert mine["total"] == len(mine["notes"]) == 1
    products = api.do("notes.search", query={"resourceType": "product"})
    assert [each["text"] for each in products["notes"]] == ["new supplier"]
    none = api.do("notes.search", query={"resourceType": "product", "resourceId": order_id})
    assert (none["notes"], none["total"]) == ([], 0)


def test_notes_on_all_kinds_of_resources(server: SandboxServer, api: SandboxApi) -> None:
    """Whatever has an id can have a note, as long as it exists."""
    world = server.world
    order = api.do("orders.get", orderId=server.store.ids()[0])["order"]
    resources = {
        "order": order["id"],
        "orderItem": order["items"][0]["id"],
        "shipment": world.shipments.ids()[0],
        "category": world.categories.ids()[0],
        "product": world.products.ids()[0],
        "variant": world.variants.ids()[0],
        "merchantCatalog": world.merchant_catalogs.ids()[0],
    }
    for kind, resource_id in resources.items():
        body = {"resource": {"id": resource_id, "type": kind}, "text": "seen"}
        assert api.do("notes.create", body)["resource"] == body["resource"]
        error = api.refused(404, "notes.create", body | {"resource": {"id": "0" * 24, "type": kind}})
        assert error["propertyName"] == "resource.id"


def test_a_note_that_makes_no_sense_is_refused(server: SandboxServer, api: SandboxApi) -> None:
    """A kind that nothing has, an empty text, and a body without its fields are 400 and leave nothing."""
    resource = {"id": server.store.ids()[0], "type": "order"}
    before = server.world.notes.truth()
    bodies = {
        "resource.type": {"resource": resource | {"type": "planet"}, "text": "x"},
        "text": {"resource": resource, "text": "  "},
        "resource": {"text": "x"},
        "resource.id": {"resource": {"type": "order"}, "text": "x"},
    }
    for field, body in bodies.items():
        assert api.refused(400, "notes.create", body)["propertyName"] == field
    assert api.refused(400, "notes.update", {"text": 3}, id=next(iter(before)))["attemptedValue"] == 3
    assert server.world.notes.truth() == before


def test_a_deletion_has_no_body_to_compress() -> None:
    """With compression on, an answer without a body stays one, and the connection goes on."""
    with SandboxServer(orders=3, contract=ServedContract(gzip=True)) as server, SandboxApi(server) as api:
        answer = api.send("notes.delete", id=server.world.notes.ids()[0])
        assert (answer.status_code, answer.headers.get("content-encoding")) == (204, None)
        assert api.send("notes.search").headers["content-encoding"] == "gzip"
