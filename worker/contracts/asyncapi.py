"""The streams as an AsyncAPI 3.0 document: a channel for each, a message for each of its actions.

It points to the JSON Schemas beside it (`schemas/ENTITY.VERSION.json`), which are 2020-12 and keep to what the
schemas of AsyncAPI have too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ordersync_consumer import envelope
from ordersync_consumer.envelope import TYPE_PREFIX
from worker.capture.records.events import ERASED, RECORDED
from worker.capture.registry import CAPTURED
from worker.capture.resources import Resource
from worker.contracts.event_schema import VERSION, actions, envelope_schema, letter_schemas
from worker.keys import Keys

if TYPE_CHECKING:
    from worker.capture.resources import Captured

_ACCOUNT = {
    "description": "The name of the account with braces around it. The braces belong to the key: in a cluster they "
    "keep the keys of an account on one node.",
    "examples": ["{default}", "{acme}"],
}
_SAYS = {
    "snapshot": "The record existed when the resource was read for the first time.",
    "created": "The record is new.",
    "updated": "The record has changed; `changed` lists the fields.",
    "deleted": "The record no longer exists; `data` contains its id.",
    "erased": "A person has erased the record, or its audit log; `data` contains the id. Remove what you have of it.",
    "recorded": "The audit log has a new entry; `subject` is the record whose log it is.",
}
_ABOUT = f"""\
Every change of a record in OrderMesh, once and in order, in Redis Streams. Needs only a Redis client with XREADGROUP
(Redis 6.2 or newer, or Valkey).

An entry of a stream is a CloudEvent 1.0 with its attributes as fields, always in the same order, and the record in
`data` as OrderMesh served it. All values are texts. Events of one record are in order; an event may be delivered twice,
with the same `id`. A consumer ignores fields, actions and values that it does not know.

Version {VERSION} of the envelope gets new optional fields without notice; a change that removes a field or changes its
meaning gets a new version. The same applies to the schema of each record: `dataschema` is the schema that an event
conforms to.
"""


def document() -> dict[str, Any]:
    """The whole document, decoded."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Events of ordermesh-sync",
            "version": f"{VERSION}.0.0",
            "description": _ABOUT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": envelope.CONTENT_TYPE,
        "servers": {
            "redis": {
                "host": "localhost:6379",
                "protocol": "redis",
                "description": "The server of ORDERSYNC_REDIS__URL.",
            }
        },
        "channels": {name: channel for item in CAPTURED.values() for name, channel in _channels(item)},
        "operations": {name: made for each in CAPTURED.values() for name, made in _operations(each)},
        "components": {
            "messages": {
                **{
                    _message_name(resource, action): _message(resource, action)
                    for resource in CAPTURED.values()
                    for action in actions(resource)
                },
                **{f"{kind}Letter": _letter(kind, schema) for kind, schema in letter_schemas().items()},
            }
        },
    }


def schema_file(uri: str) -> str:
    """Where the schema of this name stands, seen from the document."""
    *_, entity, version = uri.split(":")
    return f"schemas/{entity}.{version}.json"


def _channels(resource: Captured) -> list[tuple[str, dict[str, Any]]]:
    title, name = resource.name.replace("_", " "), _camel(resource.name)
    keys = Keys("account")
    events = {
        "address": keys.stream(resource.name),
        "title": f"Events of {title}",
        "description": "A Redis stream. Read it through a consumer group, or with XREAD.",
        "parameters": {"account": _ACCOUNT},
        "messages": _references([_message_name(resource, action) for action in actions(resource)]),
    }
    dead = {
        "address": keys.dead(resource.name),
        "title": f"Dead letters of {title}",
        "description": "A Redis stream of what could not be read or handled, with the reason.",
        "parameters": {"account": _ACCOUNT},
        "messages": _references([f"{kind}Letter" for kind in letter_schemas()]),
    }
    return [(name, events), (f"{name}Dead", dead)]


def _operations(resource: Captured) -> list[tuple[str, dict[str, Any]]]:
    name = _camel(resource.name)
    return [
        (
            f"publish{channel[0].upper()}{channel[1:]}",
            {"action": "send", "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary},
        )
        for channel, summary in (
            (name, f"A change of one of the {resource.name.replace('_', ' ')} is published."),
            (f"{name}Dead", "Something could not be read or handled."),
        )
    ]


def _message(resource: Captured, action: str) -> dict[str, Any]:
    entity = resource.entity.replace("_", " ")
    uri = envelope.data_schema(resource.entity, resource.schema_version)
    type_ = envelope.event_type(resource.entity, action)
    return {
        "name": type_,
        "title": f"{entity.capitalize()} {action}",
        "summary": _SAYS[action],
        "contentType": envelope.CONTENT_TYPE,
        "payload": {
            "$id": f"{uri}:{action}",
            "title": f"{entity.capitalize()} {action} entry",
            "allOf": [
                {"$ref": f"./{schema_file(envelope_schema()['$id'])}"},
                {
                    "properties": {
                        "type": {"const": type_},
                        "dataschema": {"const": uri},
                        "data": {"contentSchema": {"$ref": f"./{schema_file(uri)}"}},
                    }
                },
            ],
        },
        "examples": [{"name": action, "payload": _example(resource, action)}],
    }


def _letter(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": f"{TYPE_PREFIX}dead.{kind}",
        "title": schema["title"],
        "summary": schema["description"],
        "contentType": envelope.CONTENT_TYPE,
        "payload": {"$ref": f"./{schema_file(schema['$id'])}"},
    }


def _example(resource: Captured, action: str) -> dict[str, str]:
    """An event as it could be."""
    first, identifier = action in {"snapshot", "created", RECORDED}, "67789cd8912265b1f5000ba4"
    version = 1 if first else 2
    moment = "2026-03-02T10:41:07.5131337Z"
    fields = resource.modified_fields if isinstance(resource, Resource) else ("timestamp",)
    name = next(iter(reversed(fields if first else fields[:1])))
    data = f'{{"id":"{identifier}","{name}":"{moment}"}}'
    if action in {"deleted", ERASED}:
        data = f'{{"id":"{identifier}"}}'
    return {
        "specversion": envelope.SPEC_VERSION,
        "id": envelope.event_id(resource.entity, identifier, version, 0xC4A4ACFE),
        "source": envelope.source("default", resource.name),
        "type": envelope.event_type(resource.entity, action),
        "subject": identifier,
        "time": moment,
        "datacontenttype": envelope.CONTENT_TYPE,
        "dataschema": envelope.data_schema(resource.entity, resource.schema_version),
        "sequence": envelope.sequence_text(3010),
        "version": str(version),
        "reason": "erase" if action == ERASED else "poll",
        "changed": name if action == "updated" else "",
        "data": data,
    }


def _references(names: list[str]) -> dict[str, dict[str, str]]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _message_name(resource: Captured, action: str) -> str:
    return f"{_camel(resource.entity)}{action.capitalize()}"


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
