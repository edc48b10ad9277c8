"""The contract of the queue as files, and the pages of the documentation that are generated from the code.

`python -m worker.contracts deploy` writes `asyncapi.yaml`, `schemas/ENTITY.VERSION.json`, the schema of the log and the
Grafana dashboard into the folder `deploy`, and pages into the folder `docs` beside it. `make docs` calls it, and
records what commands print.

`make lint` calls it with `--check`: it writes nothing, and names the files that the code has changed.

A schema whose version has been stepped gets a new file; the old file stays, because older events name it. `--release`
also records in `released-schemas.json` what the schemas promise from now on. The command refuses to write a schema that
breaks a recorded promise. Step its version first: `schema_version` in `worker/capture/registry.py` for schemas of
records, `VERSION` and `LETTER_VERSIONS` in `worker/contracts/event_schema.py` for the envelope and the dead letters,
`VERSION` in `worker/contracts/line_schema.py` for the lines of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from ordersync_consumer.envelope import data_schema
from worker.capture.registry import AUDIT_LOGS, RESOURCES
from worker.contracts import asyncapi, log_page
from worker.contracts.codes_page import codes_page
from worker.contracts.compatibility import Promise, broken, promise_of
from worker.contracts.contract_pages import contract_pages
from worker.contracts.dashboard import dashboard
from worker.contracts.editor_schemas import editor_schemas
from worker.contracts.event_page import event_page
from worker.contracts.event_schema import envelope_schema, letter_schemas
from worker.contracts.line_schema import line_schema
from worker.contracts.log_schema import log_schema
from worker.contracts.metrics_page import metrics_page
from worker.contracts.privacy_page import privacy_page
from worker.contracts.sandbox_page import sandbox_page
from worker.contracts.settings_page import settings_page
from worker.errors import OrdersyncError
from worker.ordermesh.record_schema import entry_schema, record_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCUMENT = "asyncapi.yaml"
LOG_SCHEMA = "log-events.schema.json"
DASHBOARD = "grafana/dashboard.json"
RELEASED = "released-schemas.json"

_HEADER = "# Written by `python -m worker.contracts deploy`; do not change it by hand.\n"


class PromiseBroken(OrdersyncError):
    """A schema is not what it was when it was released, and has the same version."""

    code = "promise_broken"

    def __init__(self, problems: Mapping[str, list[str]]) -> None:
        self.problems = problems
        said = "; ".join(f"{uri}: {', '.join(item)}" for uri, item in problems.items())
        super().__init__(
            f"A released schema would change: {said}. Raise the version of the schema, so that consumers notice."
        )


def schemas() -> dict[str, dict[str, Any]]:
    """Every schema of this version, by its `$id`."""
    made = [envelope_schema(), *letter_schemas().values()]
    made += [
        record_schema(
            item.search,
            data_schema(item.entity, item.schema_version),
            item.entity.replace("_", " ").capitalize(),
            item.id_field,
        )
        for item in RESOURCES.values()
    ]
    made += [
        entry_schema(
            data_schema(each.entity, each.schema_version), each.entity.replace("_", " ").capitalize()
        )
        for each in AUDIT_LOGS.values()
    ]
    made.append(line_schema({schema["$id"]: schema for schema in made}))
    return {schema["$id"]: schema for schema in made}


def files() -> dict[str, str]:
    """Every file of this version with its text, by its path in the folder `deploy`."""
    written = {
        asyncapi.schema_file(uri): json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for uri, schema in schemas().items()
    }
    written |= {
        f"editors/{name}.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
        for name, schema in editor_schemas().items()
    }
    log = json.dumps(log_schema(), indent=1, ensure_ascii=False) + "\n"
    return {
        DOCUMENT: _HEADER + _as_yaml(asyncapi.document()),
        **written,
        LOG_SCHEMA: log,
        DASHBOARD: dashboard(),
    }


def pages(docs: Path) -> dict[str, str]:
    """Return every generated page with its text, by its path in the folder `docs`."""
    return {
        "operate/log-queries.md": log_page.queries_page(docs / "queries"),
        **{f"reference/contract/{name}": text for name, text in contract_pages().items()},
        "reference/event-schemas.md": event_page(schemas()),
        "reference/exit-codes.md": codes_page(),
        "reference/log-events.md": log_page.events_page(),
        "reference/metrics.md": metrics_page(),
        "reference/minimal-policy.md": privacy_page(),
        "reference/sandbox.md": sandbox_page(),
        "reference/settings.md": settings_page(),
    }


def promises() -> dict[str, Promise]:
    """What the schemas of this version promise, by `$id`."""
    entries = {envelope_schema()["$id"]}
    return {uri: promise_of(schema, ordered=uri in entries) for uri, schema in schemas().items()}


def released(folder: Path) -> dict[str, Promise]:
    """What was promised, by `$id`, as it is written down in the folder `deploy`."""
    try:
        text = (folder / RELEASED).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    promised: dict[str, Promise] = json.loads(text)
    return promised


def check(before: Mapping[str, Promise], now: Mapping[str, Promise]) -> None:
    """See that every schema that is in both keeps what it promised before.

    Raises:
        PromiseBroken: One does not.

    """
    problems = {uri: broken(promise, now[uri]) for uri, promise in before.items() if uri in now}
    if result := {uri: item for uri, item in problems.items() if item}:
        raise PromiseBroken(result)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--release", is_flag=True, help="Record what the schemas promise from now on.")
@click.option("--check", "only_check", is_flag=True, help="Write nothing; fail if a file would change.")
def command(folder: Path, *, release: bool, only_check: bool) -> None:
    """Write the AsyncAPI document and the JSON Schemas into FOLDER, and the pages into the folder `docs` next to it."""
    before, now = released(folder), promises()
    check(before, now)
    docs = folder.resolve().parent / "docs"
    written = {folder / name: text for name, text in files().items()}
    if docs.is_dir():
        written |= {docs / name: text for name, text in pages(docs).items()}
    if release:
        written[folder / RELEASED] = json.dumps(before | now, indent=1, ensure_ascii=False) + "\n"
    if only_check:
        if stale := [str(path) for path, text in written.items() if not _says(path, text)]:
            raise click.ClickException(
                f"The code has changed these files: {', '.join(stale)}. Type `make docs`."
            )
        return
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _says(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


class _Dumper(yaml.SafeDumper):
    """Writes what is said twice twice, and longer texts as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _as_yaml(document: dict[str, Any]) -> str:
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def _main() -> None:
    try:
        command.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OrdersyncError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    _main()
