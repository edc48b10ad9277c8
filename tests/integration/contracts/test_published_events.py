"""The published contract against what is really there: events of real polls, and a parser of other people."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
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

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

DEPLOY = ROOT / "deploy"
PARSE = """
import { createRequire } from "node:module";
const { Parser, fromFile } = createRequire(process.argv[2] + "/")("@asyncapi/parser");
const found = {};
for (const file of process.argv.slice(3)) {
  const { document, diagnostics } = await fromFile(new Parser(), file).parse();
  const problems = diagnostics.filter((each) => each.severity <= 1).map((each) => each.message);
  const channels = Object.fromEntries((document?.channels().all() ?? []).map(
    (each) => [each.address(), each.messages().all().map((message) => message.name())]));
  found[file] = { problems, channels };
}
console.log(JSON.stringify(found));
"""
MISTAKES = {
    "action: send": "action: publish",
    "./schemas/order.1.json": "./schemas/order.9.json",
    "#/components/messages/orderUpdated'\n": "#/components/messages/orderChanged'\n",
    "protocol: redis": "protokoll: redis",
}
"""What is written in the document, and a mistake instead."""


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
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the parser of AsyncAPI says of the document ("") and of those with a mistake: problems, and channels.

    The channels are given with the names of their messages. One process parses all documents.
    """
    modules, folder = modules_with("@asyncapi/parser@3"), tmp_path_factory.mktemp("documents")
    (folder / "parse.mjs").write_text(PARSE, encoding="utf-8")
    shutil.copytree(DEPLOY / "schemas", folder / "schemas")
    text, files = (DEPLOY / "asyncapi.yaml").read_text(encoding="utf-8"), {"": DEPLOY / "asyncapi.yaml"}
    for number, (written, instead) in enumerate(MISTAKES.items()):
        assert written in text
        files[written] = folder / f"{number}.yaml"
        files[written].write_text(text.replace(written, instead), encoding="utf-8")
    done = subprocess.run(
        ["node", str(folder / "parse.mjs"), str(modules), *map(str, files.values())],
        capture_output=True,
        text=True,
        timeout=2.5 * PATIENCE,  # five documents
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    return {written: found[str(file)] for written, file in files.items()}


def test_the_document_is_valid(parsed: dict[str, Any]) -> None:
    """The parser of AsyncAPI finds neither an error nor a warning, and every stream with its events."""
    assert parsed[""]["problems"] == []
    channels = parsed[""]["channels"]
    assert len(channels) == 2 * len(CAPTURED)
    orders = channels["ordersync:{account}:stream:orders"]
    assert {"io.ordermesh.order.snapshot", "io.ordermesh.order.updated"} <= set(orders)


@pytest.mark.parametrize("written", MISTAKES)
def test_the_parser_would_tell(parsed: dict[str, Any], written: str) -> None:
    """A document with a mistake in it is told to be wrong."""
    assert parsed[written]["problems"]
