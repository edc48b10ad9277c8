"""The published contract against what is really there: events of real polls, and a parser of other people."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from ordersync_consumer import Consumer, envelope
from tests.support.node import modules_with
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE
from tests.support.worker import BenchMaker
from worker.capture.registry import CAPTURED, RESOURCES
from worker.capture.resources import Resource

pytestmark = pytest.mark.anyio

DEPLOY = ROOT / "deploy"
PARSE = """
import { createRequire } from "node:module";
const { Parser, fromFile } = createRequire(process.argv[2] + "/")("@asyncapi/parser");
const { document, diagnostics } = await fromFile(new Parser(), process.argv[3]).parse();
const problems = diagnostics.filter((each) => each.severity <= 1).map((each) => each.message);
const channels = Object.fromEntries((document?.channels().all() ?? []).map(
  (each) => [each.address(), each.messages().all().map((message) => message.name())]));
console.log(JSON.stringify({ problems, channels }));
"""


@cache
def validator(uri: str) -> Draft202012Validator:
    """That of the file that a `dataschema` leads to."""
    *_, entity, version = uri.split(":")
    schema = json.loads((DEPLOY / "schemas" / f"{entity}.{version}.json").read_text(encoding="utf-8"))
    assert schema["$id"] == uri
    return Draft202012Validator(schema, validate_formats=True)


def faults(uri: str, value: Any) -> list[str]:
    """What of a value the schema does not allow."""
    return [f"{error.instance_path}: {error.message}" for error in validator(uri).iter_errors(value)]


# Events


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda each: each.name)
async def test_events_keep_to_the_schemas(bench: BenchMaker, resource: Resource) -> None:
    """Every event of a real poll is valid by the envelope, and its data by the schema that it names."""
    async with bench(probe=True) as b:
        run = await b.account.poller.poll(resource)
        assert run.outcome == "complete", run.error
        entries = await b.redis.xrange(b.account.keys.stream(resource.name))
        assert len(entries) == run.records > 0
        for _, fields in entries:
            event = {name.decode(): value.decode() for name, value in fields.items()}
            assert faults("urn:ordersync:envelope:2", event) == []
            assert faults(event["dataschema"], json.loads(event["data"])) == []
            assert event["dataschema"].startswith(f"urn:ordersync:{resource.entity}:")
        lines = [json.loads(envelope.parse(*entry).json_line()) for entry in entries[:10]]
        assert [faults("urn:ordersync:line:1", line) for line in lines] == [[]] * len(lines)
        assert {line["resource"] for line in lines} == {resource.name}


async def test_letters_keep_to_the_schema(bench: BenchMaker) -> None:
    """A dead letter of a record that cannot be read is valid by its schema."""
    async with bench() as b:
        b.sandbox.store.replace("odd", b'{"id":null}')
        await b.poll()
        ((_, fields),) = await b.redis.xrange(b.account.keys.dead("orders"))
        letter = {name.decode(): value.decode() for name, value in fields.items()}
        assert letter["kind"] == "record"
        assert faults("urn:ordersync:dead_record:1", letter) == []
        assert faults("urn:ordersync:dead_record:1", letter | {"kind": "other"}) != []


async def test_letters_of_events_keep_to_the_schema(bench: BenchMaker) -> None:
    """So is that of an event that a group could not handle; every field of the entry is in it, as it was."""
    async with bench() as b:
        await b.poll()
        async with Consumer(b.redis, group="g", resources=["orders"], name="c", wait=False) as consumer:
            async for delivery in consumer:
                await delivery.fail("not wanted", retry=False)
                break
        ((_, fields),) = await b.redis.xrange(b.account.keys.dead("orders"))
        letter = {name.decode(): value.decode() for name, value in fields.items()}
        assert faults("urn:ordersync:dead_delivery:2", letter) == []
        ((_, entry),) = await b.redis.xrange(b.account.keys.stream("orders"), count=1)
        event = {name.decode(): value.decode() for name, value in entry.items()}
        assert event == {
            "data": letter["data"],
            **{
                name.removeprefix("event."): value
                for name, value in letter.items()
                if name.startswith("event.")
            },
        }


# The document


@pytest.fixture(scope="module")
def parser() -> Path:
    """A `node_modules` with the parser of AsyncAPI in it."""
    return modules_with("@asyncapi/parser@3")


def parse(parser: Path, document: Path, script: Path) -> Any:
    """What the parser says of a document: its problems, and its channels with the names of their messages."""
    script.write_text(PARSE, encoding="utf-8")
    done = subprocess.run(
        ["node", str(script), str(parser), str(document)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_the_document_is_valid(parser: Path, tmp_path: Path) -> None:
    """The parser of AsyncAPI finds neither an error nor a warning, and every stream with its events."""
    found = parse(parser, DEPLOY / "asyncapi.yaml", tmp_path / "parse.mjs")
    assert found["problems"] == []
    assert len(found["channels"]) == 2 * len(CAPTURED)
    orders = found["channels"]["ordersync:{account}:stream:orders"]
    assert {"io.ordermesh.order.snapshot", "io.ordermesh.order.updated"} <= set(orders)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("action: send", "action: publish"),
        ("./schemas/order.1.json", "./schemas/order.9.json"),
        ("#/components/messages/orderUpdated'\n", "#/components/messages/orderChanged'\n"),
        ("protocol: redis", "protokoll: redis"),
    ],
)
def test_the_parser_would_tell(parser: Path, tmp_path: Path, written: str, instead: str) -> None:
    """A document with a mistake in it is told to be wrong."""
    shutil.copytree(DEPLOY / "schemas", tmp_path / "schemas")
    text = (DEPLOY / "asyncapi.yaml").read_text(encoding="utf-8")
    assert written in text
    (tmp_path / "asyncapi.yaml").write_text(text.replace(written, instead), encoding="utf-8")
    assert parse(parser, tmp_path / "asyncapi.yaml", tmp_path / "parse.mjs")["problems"]
