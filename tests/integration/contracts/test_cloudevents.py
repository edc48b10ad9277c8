"""CloudEvents to the letter: the SDKs of npm and PyPI take entries of the streams and lines of JSON as they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ordersync_consumer import envelope
from tests.support.generators import npm_tools, python_tools, ran, script
from tests.support.worker import BenchMaker
from worker.capture.registry import NOTES, ORDERS
from worker.config.sections import EventSettings

pytestmark = pytest.mark.anyio

NODE = """
import { readFileSync } from "node:fs";
import { CloudEvent, HTTP } from "cloudevents";
const { entries, lines } = JSON.parse(readFileSync(0));
const told = (event) => [event.id, event.type, event.subject, event.sequence, event.version, event.changed];
const binary = (entry) => HTTP.toEvent({
  headers: { "content-type": entry.datacontenttype,
    ...Object.fromEntries(Object.entries(entry).filter(([name]) => name !== "data" && name !== "datacontenttype")
      .map(([name, value]) => ["ce-" + name, value])) },
  body: entry.data });
const structured = (line) => HTTP.toEvent({
  headers: { "content-type": "application/cloudevents+json" }, body: JSON.stringify(line) });
console.log(JSON.stringify({
  entries: entries.map((entry) => { const event = new CloudEvent(entry); event.validate(); return told(event); }),
  binary: entries.map((entry) => { const event = binary(entry); event.validate(); return event.data.id; }),
  lines: lines.map((line) => { const event = structured(line); event.validate();
    return [...told(event), event.resource, event.entry, event.attempt, event.replayed, event.data.id]; }),
}));
"""
PYTHON = """
import json, sys
from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.http import CloudEvent as Before
given = json.load(sys.stdin)
names = ("id", "type", "subject", "sequence", "version", "changed")
def told(event):
    attributes = event.get_attributes()
    return [attributes[name] for name in names]
def binary(entry):
    head = {f"ce-{name}": value for name, value in entry.items() if name not in ("data", "datacontenttype")}
    head["content-type"] = entry["datacontenttype"]
    return from_binary(HTTPMessage(head, entry["data"].encode()), JSONFormat(), CloudEvent)
def structured(line):
    body = json.dumps(line).encode()
    head = {"content-type": "application/cloudevents+json"}
    return from_structured(HTTPMessage(head, body), JSONFormat(), CloudEvent)
def before(entry):
    return Before({name: value for name, value in entry.items() if name != "data"}, entry["data"])
entries = [(before(each), binary(each)) for each in given["entries"]]
lines = [structured(each) for each in given["lines"]]
print(json.dumps({
    "entries": [[before[name] for name in names] for before, _ in entries],
    "binary": [event.get_data()["id"] for _, event in entries],
    "lines": [[*told(each), *(each.get_extension(name) for name in ("resource", "entry", "attempt", "replayed")),
        each.get_data()["id"]] for each in lines],
}))
"""


async def published(bench: BenchMaker) -> dict[str, Any]:
    """Entries of two streams as they are, with updates and a loss of data, and the lines that are made of them."""
    entries, lines = [], []
    async with bench(probe=True, events=EventSettings(previous=True)) as b:
        await b.poll()
        b.sandbox.store.change(b.sandbox.store.ids()[0], status="Odd")
        await b.poll()
        await b.account.poller.poll(NOTES)
        for resource in (ORDERS, NOTES):
            for entry_id, fields in (await b.redis.xrange(b.account.keys.stream(resource.name)))[-5:]:
                entries.append({name.decode(): value.decode() for name, value in fields.items()})
                line = envelope.parse(entry_id, fields).json_line(attempt=1, replayed=False)
                lines.append(json.loads(line))
    return {"entries": entries, "lines": lines}


def expected(given: dict[str, Any]) -> dict[str, Any]:
    """What an SDK has to find."""
    names = ("id", "type", "subject", "sequence", "version", "changed")
    more = ("resource", "entry", "attempt", "replayed")
    return {
        "entries": [[each[name] for name in names] for each in given["entries"]],
        "binary": [json.loads(each["data"])["id"] for each in given["entries"]],
        "lines": [[*(each[name] for name in (*names, *more)), each["data"]["id"]] for each in given["lines"]],
    }


@pytest.mark.slow
async def test_the_sdks(bench: BenchMaker, tmp_path: Path) -> None:
    """Both take what is published, whole, in every form: entries as attributes and as headers, lines as JSON."""
    given = await published(bench)
    assert len(given["entries"]) == 10
    assert any("status" in entry["changed"] for entry in given["entries"])
    text = json.dumps(given)
    assert script(tmp_path, npm_tools(), NODE, given=text) == expected(given)
    (tmp_path / "sdk.py").write_text(PYTHON)
    tools = str(python_tools())
    assert json.loads(ran(sys.executable, "sdk.py", cwd=tmp_path, given=text, PYTHONPATH=tools)) == expected(
        given
    )


async def test_an_sdk_would_tell(tmp_path: Path) -> None:
    """What lines had before, `entry_id`, is refused by both."""
    line = {
        "specversion": "1.0", "id": "a", "source": "/a", "type": "a", "subject": "a", "entry_id": "1-0", "data": {},
    }  # fmt: skip
    text = json.dumps({"entries": [], "lines": [line]})
    with pytest.raises(AssertionError, match="entry_id"):
        script(tmp_path, npm_tools(), NODE, given=text)
    (tmp_path / "sdk.py").write_text(PYTHON)
    with pytest.raises(AssertionError, match="entry_id"):
        ran(sys.executable, "sdk.py", cwd=tmp_path, given=text, PYTHONPATH=str(python_tools()))
