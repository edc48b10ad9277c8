"""The schemas in the hands of generators: what they give has names, compiles, and tells events apart by their type."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from ordersync_consumer import envelope
from tests.support.generators import (
    LINE,
    SCHEMAS,
    draft_7,
    large_npm_tools,
    npm_tools,
    python_tools,
    ran,
    script,
)
from tests.support.paths import ROOT
from tests.support.tools import program
from worker.contracts import asyncapi

ANONYMOUS = re.compile("anonym", re.IGNORECASE)
NAMED = {
    "OrderEvent",
    "Order",
    "GetOrderItemModel",
    "AddressModel",
    "ShipmentEvent",
    "PackageDTO",
    "NoteEvent",
}
AJV = """
import { readFileSync, readdirSync } from "node:fs";
import Ajv from "ajv/dist/2020.js";
import formats from "ajv-formats";
const [folder] = process.argv.slice(2), refused = {};
for (const name of readdirSync(folder)) {
  const ajv = new Ajv.default({ strict: true });
  formats.default(ajv);
  try {
    const valid = ajv.compile(JSON.parse(readFileSync(`${folder}/${name}`)));
    if (name === "line.1.json")
      for (const line of JSON.parse(readFileSync(0)))
        if (!valid(line)) refused[line.type] = ajv.errorsText(valid.errors);
  } catch (error) { refused[name] = error.message; }
}
console.log(JSON.stringify(refused));
"""
USE = """
import type { EventLine, Order, Note } from "./line";
export function seen(event: EventLine): string {
  switch (event.type) {
    case "io.ordermesh.order.created": case "io.ordermesh.order.updated": {
      const order: Order = event.data;
      return order.shippingAddress?.city ?? order.items?.[0]?.sku ?? event.resource;
    }
    case "io.ordermesh.note.created": {
      const note: Note = event.data;
      // @ts-expect-error: it is of another stream
      const stream: "orders" = event.resource;
      // @ts-expect-error: it has no list of items
      return `${note.id} ${stream} ${event.data.items[0].name}`;
    }
    // @ts-expect-error: no event has this type
    case "io.ordermesh.order.exploded": return "";
    default: return event.sequence;
  }
}
"""
VALIDATE = """
import json, sys
from events import EventLine
print(json.dumps([[type(line.root).__name__, type(line.root.data).__name__, str(line.root.time.tzinfo)]
    for line in (EventLine.model_validate(each) for each in json.load(sys.stdin))]))
"""
MODELINA = """
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
const { JavaGenerator, TypeScriptGenerator } = createRequire(import.meta.url)("@asyncapi/modelina");
const { Parser, fromFile } = createRequire(import.meta.url)("@asyncapi/parser");
const [language, file, folder] = process.argv.slice(2);
const input = file.endsWith(".json")
  ? JSON.parse(readFileSync(file)) : (await fromFile(new Parser(), file).parse()).document;
const generator = language === "java" ? new JavaGenerator() : new TypeScriptGenerator();
const models = language === "java"
  ? await generator.generateCompleteModels(input, { packageName: "events" })
  : await generator.generate(input);
if (language === "java") for (const model of models) writeFileSync(`${folder}/${model.modelName}.java`, model.result);
console.log(JSON.stringify(models.map((model) => model.modelName)));
"""


def lines() -> list[dict[str, Any]]:
    """The example of every event of the AsyncAPI document, as a line."""
    messages = asyncapi.document()["components"]["messages"].values()
    entries = [example["payload"] for message in messages for example in message.get("examples", [])]
    return [
        json.loads(
            envelope.parse(b"1-0", {key.encode(): value.encode() for key, value in entry.items()}).json_line()
        )
        for entry in entries
    ]


# In every run


def test_ajv_in_strict_mode(tmp_path: Path) -> None:
    """Ajv compiles every schema with `strict: true`, without a remark, and takes the lines."""
    assert script(tmp_path, npm_tools(), AJV, SCHEMAS, given=json.dumps(lines())) == {}


def test_typescript(tmp_path: Path) -> None:
    """json-schema-to-typescript gives a union that `switch (event.type)` narrows; tsc takes it in strict mode."""
    modules = npm_tools()
    text = ran("node", modules / "json-schema-to-typescript/dist/src/cli.js", LINE, cwd=tmp_path)
    names = set(re.findall(r"^export (?:interface|type) (\w+)", text, re.MULTILINE))
    assert names >= NAMED
    assert not [name for name in names if ANONYMOUS.search(name) or re.search(r"\d$", name)]
    (tmp_path / "line.ts").write_text(text, encoding="utf-8")
    (tmp_path / "use.ts").write_text(USE, encoding="utf-8")
    ran(
        "node",
        modules / "typescript/lib/tsc.js",
        "--strict",
        "--noEmit",
        "--skipLibCheck",
        "use.ts",
        cwd=tmp_path,
    )


def test_python(tmp_path: Path) -> None:
    """datamodel-code-generator gives pydantic models: each line becomes an event of its own kind."""
    tools = str(python_tools())
    kind = ("--input-file-type", "jsonschema", "--output-model-type", "pydantic_v2.BaseModel")
    words = (*kind, "--enum-field-as-literal", "all", "--output", "events.py")
    ran(
        sys.executable,
        "-m",
        "datamodel_code_generator",
        "--input",
        LINE,
        *words,
        cwd=tmp_path,
        PYTHONPATH=tools,
    )
    classes = set(re.findall(r"^class (\w+)", (tmp_path / "events.py").read_text(), re.MULTILINE))
    assert classes >= NAMED
    assert not [name for name in classes if re.search(r"Model\d+$|^Field", name)]
    (tmp_path / "validate.py").write_text(VALIDATE)
    given = lines()
    path = f"{tmp_path}:{tools}"
    kinds = json.loads(
        ran(sys.executable, "validate.py", cwd=tmp_path, given=json.dumps(given), PYTHONPATH=path)
    )
    for line, (event, data, zone) in zip(given, kinds, strict=True):
        entity = "".join(word.capitalize() for word in line["type"].split(".")[2].split("_"))
        assert (event, data, zone) == (
            f"{entity}Event",
            entity if not entity.endswith("Audit") else f"{entity}Entry",
            "UTC",
        )


# Behind `make contracts`: packages of 300 MB, compilers of Go and Java


@pytest.mark.long
def test_modelina_on_the_document(tmp_path: Path) -> None:
    """No model of the AsyncAPI document is anonymous; there were 44."""
    names = script(tmp_path, large_npm_tools(), MODELINA, "typescript", ROOT / "deploy" / "asyncapi.yaml")
    assert {"OrderCreatedEntry", "OrderUpdatedEntry", "UndeliverableEvent"} <= set(names)
    assert not [name for name in names if ANONYMOUS.search(name)]


@pytest.mark.long
@pytest.mark.parametrize("entity", ["order", "shipment", "product", "note", "merchant_catalog"])
def test_modelina_java(tmp_path: Path, entity: str) -> None:
    """Modelina gives named classes of Java for records, which javac compiles."""
    javac = program("javac")
    schema = json.loads((SCHEMAS / f"{entity}.1.json").read_text())
    (tmp_path / "schema.json").write_text(json.dumps(draft_7(schema)))
    (tmp_path / "events").mkdir()
    names = script(
        tmp_path, large_npm_tools(), MODELINA, "java", tmp_path / "schema.json", tmp_path / "events"
    )
    assert "".join(word.capitalize() for word in entity.split("_")) in names
    assert not [name for name in names if ANONYMOUS.search(name)]
    ran(javac, "-d", "out", *sorted((tmp_path / "events").glob("*.java")), cwd=tmp_path, seconds=100)


QUICKTYPE = {"order": "OrderEvent", "shipment": "ShipmentEvent", "note": "NoteEvent"}


@pytest.mark.long
@pytest.mark.parametrize("kind", QUICKTYPE.values())
def test_quicktype_go(tmp_path: Path, kind: str) -> None:
    """Quicktype gives structs of Go for one kind of event, which reads a line and writes it again."""
    go = program("go")
    quicktype = large_npm_tools() / "quicktype/dist/index.js"
    source = ("-s", "schema", f"{LINE}#/$defs/{kind}", "--top-level", kind)
    words = (*source, "-l", "go", "--package", "main", "-o", "events.go")
    ran("node", quicktype, *words, cwd=tmp_path)
    structs = set(re.findall(r"^type (\w+) struct", (tmp_path / "events.go").read_text(), re.MULTILINE))
    assert {kind, kind.removesuffix("Event")} <= structs
    (tmp_path / "main.go").write_text(
        'package main\nimport ("fmt"; "io"; "os")\nfunc main() {\n  b, _ := io.ReadAll(os.Stdin)\n'
        f"  e, err := Unmarshal{kind}(b)\n  if err != nil {{ panic(err) }}\n"
        '  fmt.Print(e.Type, " ", e.Sequence, " ", e.Time.Year())\n}\n'
    )
    line = next(line for line in lines() if line["type"].split(".")[2] == kind.removesuffix("Event").lower())
    command, given = (go, "run", "main.go", "events.go"), json.dumps(line)
    printed = ran(*command, cwd=tmp_path, given=given, seconds=100, GOFLAGS="-mod=mod")
    assert printed == f"{line['type']} 0000000000003010 2026"


@pytest.mark.long
def test_quicktype_python(tmp_path: Path) -> None:
    """Quicktype gives classes of Python for an order, which Python imports."""
    quicktype = large_npm_tools() / "quicktype/dist/index.js"
    shutil.copy(SCHEMAS / "order.1.json", tmp_path)
    words = ("-s", "schema", "order.1.json", "--top-level", "Order", "-l", "python", "-o", "o.py")
    ran("node", quicktype, *words, cwd=tmp_path)
    printed = ran(
        sys.executable, "-c", "import o; print(o.order_from_dict({'id': 'a', 'status': 'New'}).status)", cwd=tmp_path,
        PYTHONPATH=str(python_tools()),
    )  # fmt: skip
    assert printed == "New\n"
