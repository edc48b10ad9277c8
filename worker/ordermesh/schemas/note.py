"""Schemas of the note service. Their fields are not documented, except that a note refers to a resource and a user.

The fields in this module are the minimum that a note needs. The sandbox serves these fields.
"""

from __future__ import annotations

from worker.ordermesh.schemas.base import Schema, fields, schema

_NEEDED = "inferred: the minimum that a note needs; the name of the field is a guess"
_NAMED = "inferred: by the names of the schemas; the name of the field is a guess"
_STAMPS = "inferred: as in the order service (vendor:O-item)"
_NOTE = (
    *fields(_NEEDED, "id: string!"),
    *fields(_NAMED, "resource: ResourceReferenceModel", "user: UserReferenceModel"),
    *fields(_NEEDED, "text: string"),
    *fields(_STAMPS, "createdAt: string", "updatedAt: string"),
)

# fmt: off
NOTE: tuple[Schema, ...] = (
    schema("CreateNoteModel", "note", fields(_NAMED, "resource: ResourceReferenceModel!"),
           fields(_NEEDED, "text: string!")),
    schema("CreateNoteReponse", "note", _NOTE, note="the spelling is the vendor's"),
    schema("GetNoteByIdResponse", "note", _NOTE),
    schema("GetNoteResponseItemModel", "note", _NOTE),
    schema("GetNotesResponse", "note",
           fields("inferred: plural of the resource, as in the one list that is shown (vendor:PC-taylor)",
                  "notes: [GetNoteResponseItemModel]!")),
    schema("ResourceReferenceModel", "note", fields(_NEEDED, "id: string!", "type: string!"),
           note="the record of the note: its id and its kind, such as order"),
    schema("UpdateNotePayload", "note", fields(_NEEDED, "text: string!")),
    schema("UpdateNoteResponse", "note", _NOTE),
    schema("UserReferenceModel", "note", fields(_NEEDED, "id: string", "name: string"), note="the author of the note"),
)
# fmt: on
