"""Scenarios of the note service."""

from __future__ import annotations

import pytest

from tests.integration.operations.scenario import Record, Walk, check_log, walks
from worker.errors import NotFound
from worker.ordermesh.bodies import (
    CreateNoteModel,
    ResourceReferenceModel,
    UpdateNotePayload,
)


async def new_note(walk: Walk) -> Record:
    order = await walk.some_order()
    body = CreateNoteModel(resource=ResourceReferenceModel(order["id"], "order"), text="call back")
    return (await walk.client.notes.create(body)).fields


@walks("notes.create")
async def create_note(walk: Walk) -> None:
    note = await new_note(walk)
    assert (note["text"], note["resource"]["type"], note["updatedAt"]) == ("call back", "order", None)
    assert (await walk.client.notes.get(note["id"])).fields == note
    await walk.was_made("note", note["id"])


@walks("notes.search")
async def search_notes(walk: Walk) -> None:
    note = await new_note(walk)
    found = await walk.client.notes.search(resource_id=note["resource"]["id"], resource_type="order")
    assert note in found.values
    assert {each["resource"]["id"] for each in found.values} == {note["resource"]["id"]}
    whole = await walk.client.notes.search(page_size=100)
    assert whole.total == len(whole.records) > len(found.records)


@walks("notes.get")
async def get_note(walk: Walk) -> None:
    (note,) = (await walk.client.notes.search(page_size=1)).values
    assert (await walk.client.notes.get(note["id"])).fields == note
    with pytest.raises(NotFound):
        await walk.client.notes.get("nobody")


@walks("notes.update")
async def update_note(walk: Walk) -> None:
    note = await new_note(walk)
    async with walk.leaves("note", note["id"], text="has called"):
        await walk.client.notes.update(note["id"], UpdateNotePayload(text="has called"))
    read = (await walk.client.notes.get(note["id"])).fields
    assert (read["text"], read["resource"]) == ("has called", note["resource"])
    assert read["updatedAt"] is not None


@walks("notes.delete")
async def delete_note(walk: Walk) -> None:
    note = await new_note(walk)
    async with walk.leaves("note", note["id"], action="Deleted"):
        assert (await walk.client.notes.delete(note["id"])).value is None
    with pytest.raises(NotFound):
        await walk.client.notes.get(note["id"])


@walks("notes.audit_logs")
async def note_audit_logs(walk: Walk) -> None:
    note = await new_note(walk)
    await check_log(walk, await walk.client.notes.audit_logs(note["id"]))
