"""The published contract: the committed files are what the code says, and what was promised is kept."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema_rs import Draft202012Validator, meta

from ordersync_consumer import envelope
from tests.support.paths import ROOT
from worker.capture.records.actions import PUBLISHED
from worker.capture.registry import CAPTURED, RESOURCES
from worker.contracts import __main__ as published
from worker.contracts import asyncapi
from worker.contracts import event_schema as schema
from worker.contracts.compatibility import ORDER, broken, promise_of

DEPLOY = ROOT / "deploy"
DOCS = ROOT / "docs"
SCHEMAS = published.schemas()
ENVELOPE = schema.envelope_schema()
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EVENT = {
    "specversion": "1.0",
    "id": "order:a:1:00000000",
    "source": "/ordersync/default/orders",
    "type": "io.ordermesh.order.updated",
    "subject": "a",
    "time": "2026-03-02T10:41:07.5131337Z",
    "datacontenttype": "application/json",
    "dataschema": "urn:ordersync:order:1",
    "sequence": "0000000000000007",
    "version": "2",
    "reason": "poll",
    "changed": "status",
    "data": '{"id":"a"}',
}


def is_valid(uri_or_schema: Any, value: Any) -> bool:
    """Whether a value keeps to a schema, formats included."""
    found = SCHEMAS[uri_or_schema] if isinstance(uri_or_schema, str) else uri_or_schema
    return Draft202012Validator(found, validate_formats=True).is_valid(value)


# The files


@pytest.mark.parametrize("name", published.files())
def test_the_committed_file_is_what_the_code_says(name: str) -> None:
    """A change of the envelope, a field or a resource needs new files: `python -m worker.contracts deploy`."""
    assert (DEPLOY / name).read_text(encoding="utf-8") == published.files()[name]


@pytest.mark.parametrize("name", published.pages(DOCS))
def test_the_committed_page_is_what_the_code_says(name: str) -> None:
    """A change of a log event, a setting, a metric or the contract needs new pages: `make docs`."""
    assert (DOCS / name).read_text(encoding="utf-8") == published.pages(DOCS)[name]


def test_what_was_released_is_still_there() -> None:
    """Every schema that was ever released has its file, which says what was promised then."""
    promised = published.released(DEPLOY)
    files = {path.name for path in (DEPLOY / "schemas").iterdir()}
    assert files == {Path(asyncapi.schema_file(uri)).name for uri in promised}
    for uri, promise in promised.items():
        committed = json.loads((DEPLOY / asyncapi.schema_file(uri)).read_text(encoding="utf-8"))
        assert committed["$id"] == uri
        assert broken(promise, promise_of(committed, ordered=ORDER in promise)) == []


def test_what_was_released_is_kept() -> None:
    """The schemas of this version keep what they promised when they were released, and each has been released."""
    published.check(published.released(DEPLOY), published.promises())
    assert published.promises().keys() <= published.released(DEPLOY).keys()


def test_dataschema_leads_to_the_schema() -> None:
    """The `dataschema` of every event is the `$id` of a schema, and tells the name of its file."""
    for resource in RESOURCES.values():
        uri = envelope.data_schema(resource.entity, resource.schema_version)
        assert SCHEMAS[uri]["$id"] == uri
        assert asyncapi.schema_file(uri) == f"schemas/{resource.entity}.{resource.schema_version}.json"


# A change without a step


def changed_schema(change: str) -> dict[str, Any]:
    """The schema of orders, with one change."""
    changed = copy.deepcopy(SCHEMAS["urn:ordersync:order:1"])
    fields, addresses = changed["properties"], changed["$defs"]["AddressModel"]["properties"]
    if change == "top-level field gone":
        del fields["safeId"]
    elif change == "nested field gone":
        del addresses["email"]
    elif change == "field in a list retyped":
        changed["$defs"]["GetOrderItemModel"]["properties"]["quantity"]["type"] = ["string", "null"]
    elif change == "more types":
        addresses["zip"]["type"] = ["string", "integer", "null"]
    elif change == "list no longer":
        fields["shipmentIds"] = {"type": ["string", "null"]}
    elif change == "id may be missing":
        changed["required"] = []
    elif change == "new and required":
        fields["region"] = {"type": "string"}
        changed["required"].append("region")
    elif change == "new and optional":
        fields["region"] = {"type": ["string", "null"]}
        addresses["company"] = {"type": ["string", "null"]}
    else:
        changed["description"], fields["status"]["description"] = "Other words.", "More words."
    return changed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("top-level field gone", ["safeId is gone"]),
        ("nested field gone", ["billingAddress.email is gone", "shippingAddress.email is gone"]),
        ("field in a list retyped", ["items[].quantity was integer or null and is now string or null"]),
        ("more types", ["shippingAddress.zip was string or null and is now string or integer or null"]),
        (
            "list no longer",
            ["shipmentIds was array or null and is now string or null", "shipmentIds[] is gone"],
        ),
        ("id may be missing", ["id was string or integer, always there and is now string or integer"]),
        ("new and required", ["region is new and always there: events from before do not have it"]),
        ("new and optional", []),
        ("other words", []),
    ],
)
def test_what_needs_another_version(change: str, said: list[str]) -> None:
    """Optional fields may come; no field may go, become something else, or be needed all of a sudden."""
    problems = broken(promise_of(SCHEMAS["urn:ordersync:order:1"]), promise_of(changed_schema(change)))
    assert bool(problems) == bool(said)
    assert set(said) <= set(problems)


def test_the_envelope_keeps_its_order() -> None:
    """Fields of an entry do not change places; a new one stands behind the others."""
    promise = promise_of(ENVELOPE, ordered=True)
    names = list(ENVELOPE["properties"])
    for order, kept in (
        ([*names, "traceparent"], True),
        ([*names[1:], names[0]], False),
        ([names[0], "new", *names[1:]], False),
    ):
        fields = {name: ENVELOPE["properties"].get(name, {"type": "string"}) for name in order}
        assert (broken(promise, promise_of(ENVELOPE | {"properties": fields}, ordered=True)) == []) is kept


def test_the_order_is_that_of_the_stream() -> None:
    """The schema names the fields in the order in which they are written."""
    assert tuple(ENVELOPE["properties"]) == (*envelope.FIELDS, *envelope.OPTIONAL_FIELDS)
    assert tuple(ENVELOPE["required"]) == envelope.FIELDS


def test_a_broken_promise_is_not_written(tmp_path: Path) -> None:
    """The command refuses to write a schema that breaks what was released, and says how; nothing is written."""
    shutil.copytree(DEPLOY / "schemas", tmp_path / "schemas")
    shutil.copy(DEPLOY / published.RELEASED, tmp_path)
    promised = published.released(tmp_path)
    promised["urn:ordersync:order:1"]["giftWrap"] = "string or null"
    (tmp_path / published.RELEASED).write_text(json.dumps(promised))
    before = {path: path.read_bytes() for path in (tmp_path / "schemas").iterdir()}
    run = subprocess.run(
        [sys.executable, "-m", "worker.contracts", str(tmp_path), "--release"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "urn:ordersync:order:1: giftWrap is gone" in run.stderr
    assert "Raise the version" in run.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "schemas").iterdir()} == before


def test_the_version_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its version stepped a schema is written beside the old one, which is left as it was."""
    shutil.copytree(DEPLOY / "schemas", tmp_path / "schemas")
    shutil.copy(DEPLOY / published.RELEASED, tmp_path)
    before = (tmp_path / "schemas" / "envelope.2.json").read_bytes()
    monkeypatch.setattr(schema, "VERSION", 3)
    monkeypatch.delitem(schema._EVENT, "reason")
    assert CliRunner().invoke(published.command, [str(tmp_path), "--release"]).exit_code == 0
    assert (tmp_path / "schemas" / "envelope.2.json").read_bytes() == before
    stepped = json.loads((tmp_path / "schemas" / "envelope.3.json").read_text())
    assert stepped["$id"] == "urn:ordersync:envelope:3"
    assert {"urn:ordersync:envelope:2", "urn:ordersync:envelope:3"} <= published.released(tmp_path).keys()


def test_what_the_code_has_changed_is_named(tmp_path: Path) -> None:
    """`make lint` fails for a file that is missing or says something else, names it, and leaves it as it is."""
    arguments = [str(tmp_path), "--check"]
    assert CliRunner().invoke(published.command, [str(tmp_path)]).exit_code == 0
    assert CliRunner().invoke(published.command, arguments).exit_code == 0
    (tmp_path / published.LOG_SCHEMA).write_text("{}")
    (tmp_path / published.DASHBOARD).unlink()
    run = CliRunner().invoke(published.command, arguments)
    assert run.exit_code == 1
    assert published.LOG_SCHEMA in run.output
    assert published.DASHBOARD in run.output
    assert published.DOCUMENT not in run.output
    assert (tmp_path / published.LOG_SCHEMA).read_text() == "{}"
    assert not (tmp_path / published.DASHBOARD).exists()


# What the schemas say


@pytest.mark.parametrize("uri", SCHEMAS)
def test_schemas_are_schemas(uri: str) -> None:
    """Each is valid by the rules of its own dialect."""
    assert SCHEMAS[uri]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    meta.validate(SCHEMAS[uri])


@pytest.mark.parametrize(
    "odd",
    [
        {"sequence": 7},
        {"sequence": "7"},
        {"sequence": "00000000000000007"},
        {"version": "2.0"},
        {"type": "order.updated"},
        {"dataschema": "order"},
        {"dataencoding": "zip"},
        {"specversion": "2.0"},
        {"time": "yesterday"},
        {"subject": ""},
        {"traceparent": "00-1"},
    ],
)
def test_an_odd_event_is_not_valid(odd: dict[str, Any]) -> None:
    """The envelope's schema takes what is written, with further fields, and nothing else."""
    assert is_valid(ENVELOPE, EVENT)
    assert is_valid(ENVELOPE, EVENT | {"dataencoding": "gzip", "previous": "{}", "traceparent": TRACEPARENT})
    assert not is_valid(ENVELOPE, EVENT | odd)
    (name,) = odd
    assert is_valid(ENVELOPE, {key: value for key, value in EVENT.items() if key != name}) == (
        name not in envelope.FIELDS
    )


def test_a_record_may_be_nearly_anything() -> None:
    """Of a record only its id is certain: other fields may be missing, null or unknown, but not of another type."""
    uri = "urn:ordersync:order:1"
    assert is_valid(uri, {"id": "a"})
    assert is_valid(
        uri, {"id": 5, "status": "Quantum", "items": None, "shippingAddress": {"zip": None, "new": 1}}
    )
    for odd in ({}, {"id": None}, {"id": "a", "items": {}}, {"id": "a", "shippingAddress": {"zip": 5}}):
        assert not is_valid(uri, odd)


LINE = "urn:ordersync:line:1"


def lines() -> list[dict[str, Any]]:
    """The example of every message, as the line that `consume` makes of it."""
    found = []
    for message in asyncapi.document()["components"]["messages"].values():
        for example in message.get("examples", []):
            entry = {key.encode(): value.encode() for key, value in example["payload"].items()}
            found.append(json.loads(envelope.parse(b"1-0", entry).json_line(attempt=1, replayed=False)))
    return found


@pytest.mark.parametrize("line", lines(), ids=lambda line: line["type"])
def test_a_line_is_of_one_kind(line: dict[str, Any]) -> None:
    """The type says which schema a line keeps to, and so what is in its data: no other kind takes it."""
    assert is_valid(LINE, line)
    kinds = [
        name
        for name, kind in SCHEMAS[LINE]["$defs"].items()
        if line["type"] in kind.get("properties", {}).get("type", {}).get("enum", [])
    ]
    assert len(kinds) == 1
    assert is_valid({"$ref": f"#/$defs/{kinds[0]}", "$defs": SCHEMAS[LINE]["$defs"]}, line)
    assert not is_valid(LINE, line | {"type": "io.ordermesh.other.created"})
    assert not is_valid(LINE, line | {"dataschema": "urn:ordersync:other:1"})
    assert not is_valid(LINE, line | {"sequence": 3010})
    if "_audit." not in line["type"]:
        assert not is_valid(LINE, line | {"data": {}})


def test_a_line_has_names_of_cloudevents() -> None:
    """CloudEvents allows lower-case letters and digits in names, at most twenty; values are texts, numbers or bools."""
    for line in lines():
        for name, value in line.items():
            assert re.fullmatch(r"[a-z0-9]{1,20}", name)
            assert name == "data" or isinstance(value, str | int)


@pytest.mark.parametrize("uri", SCHEMAS)
def test_every_object_has_a_name(uri: str) -> None:
    """Generators make a type of each schema, and name it by its title; no two of a file have the same."""
    schemas = [SCHEMAS[uri], *SCHEMAS[uri].get("$defs", {}).values()]
    titles = [each["title"] for each in schemas]
    assert len(set(titles)) == len(titles)
    for each in schemas:
        for inner in each.get("properties", {}).values():
            assert "properties" not in inner, (
                "an object within an object has no name of its own: move it to $defs"
            )


def test_sequences_compare_as_texts() -> None:
    """As CloudEvents compares them, also over the numbers that follow a loss of data."""
    numbers = [1, 9, 10, 99, 3010, 1_795_963_108_980, 1_795_963_108_981, 2**53]
    texts = [envelope.sequence_text(number) for number in numbers]
    assert sorted(texts) == texts
    assert [int(text) for text in texts] == numbers
    assert {len(text) for text in texts} == {envelope.SEQUENCE_DIGITS}


def test_a_union_may_get_a_kind() -> None:
    """Another kind of line breaks nothing; a kind that goes, or a field of one that changes, does."""
    promise, changed = promise_of(SCHEMAS[LINE]), json.loads(json.dumps(SCHEMAS[LINE]))
    changed["oneOf"].append({"$ref": "#/$defs/ReturnEvent"})
    changed["$defs"]["ReturnEvent"] = copy.deepcopy(changed["$defs"]["OrderEvent"])
    assert broken(promise, promise_of(changed)) == []
    changed["$defs"]["OrderEvent"]["properties"]["attempt"]["type"] = "string"
    assert broken(promise, promise_of(changed)) == [
        "OrderEvent.attempt was integer and is now string",
    ]
    del changed["oneOf"][0]
    assert "OrderEvent is gone" in broken(promise, promise_of(changed))


# The AsyncAPI document


def test_every_stream_is_a_channel() -> None:
    """A channel for the events and one for the dead letters of each resource, a message for each action."""
    document = asyncapi.document()
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {
        f"ordersync:{{account}}:{kind}:{name}" for kind in ("stream", "dead") for name in CAPTURED
    }
    names = {message["name"] for message in document["components"]["messages"].values()}
    for resource in RESOURCES.values():
        for action in PUBLISHED:
            assert envelope.event_type(resource.entity, action.value) in names


def test_references_lead_somewhere() -> None:
    """Every reference of the committed document is one into it, or to a file beside it."""
    document = yaml.safe_load((DEPLOY / published.DOCUMENT).read_text(encoding="utf-8"))
    found = []

    def look(value: Any) -> None:
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, dict | list):
                look(inner)
        if isinstance(value, dict) and "$ref" in value:
            found.append(value["$ref"])

    look(document)
    assert len(found) > 100
    for reference in set(found):
        if reference.startswith("./"):
            assert (DEPLOY / reference).is_file()
        else:
            at = document
            for name in reference.removeprefix("#/").split("/"):
                at = at[name]


def test_examples_are_events() -> None:
    """The example of every message is a valid event whose data is a valid record, and of that type."""
    for name, message in asyncapi.document()["components"]["messages"].items():
        for example in message.get("examples", []):
            event = example["payload"]
            assert is_valid(ENVELOPE, event), name
            assert is_valid(event["dataschema"], json.loads(event["data"])), name
            entry = {key.encode(): value.encode() for key, value in event.items()}
            assert envelope.parse(b"1-0", entry).type == message["name"]
