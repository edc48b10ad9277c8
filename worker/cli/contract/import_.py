"""`ordersync contract import`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli.common.output import say, say_json, say_lines
from worker.cli.common.params import needs
from worker.cli.render.tables import columns
from worker.errors import SettingsError
from worker.ordermesh.contract import file as contract_file
from worker.ordermesh.contract.layers import built_in
from worker.ordermesh.contract.operations import OPERATIONS
from worker.printable import printable

if TYPE_CHECKING:
    from worker.ordermesh.contract.openapi_import import Imported, Match

MAX_SHOWN = 30
"""Maximum number of unknown operations that are listed; the document may describe a much larger API."""


@click.command(
    "import",
    epilog="\b\nExamples:\n  ordersync contract import vendor.json\n"
    "  ordersync contract import vendor.yaml --output contract.toml",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="TOML profile to write the differences to.")
@click.option("--force", is_flag=True, help="With --output: overwrite an existing file.")
@click.option("--add-prefixes", is_flag=True, help="Add the prefix of the service to paths without it.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(file: Path, output: Path | None, force: bool, add_prefixes: bool, as_json: bool) -> None:
    """Match an OpenAPI document (JSON or YAML, 3.0, 3.1 or Swagger 2.0) with the 79 operations, and print a report.

    Operations are matched by title, then by operationId, then by method and path. An operation that is not in the
    document keeps its built-in path. This does not change the worker: set ORDERSYNC_CONTRACT_FILE to use the result.
    """
    needs("--force", force, "--output", output is not None)
    if output is not None:
        _refuse_to_lose(file, output, force=force)
    imported = contract_file.import_file(file, add_prefixes=add_prefixes)
    if output is not None:
        contract_file.openapi_layer(file, imported)  # rejects the document of another API
        _write(output, contract_file.render(imported.operations, _header(file, imported)), force=force)
    if as_json:
        say_json({"file": str(file), **_data(imported), "written": output and str(output)})
        return
    say_lines([*_report(file, imported), ""])
    if output is not None:
        say(f"{output} was written. To use it, set ORDERSYNC_CONTRACT_FILE={output}")
    elif imported.operations:
        say(
            f"To write the differences to a profile that you can review: ordersync contract import {file} --output "
            f"contract.toml. To use the document directly, set ORDERSYNC_CONTRACT_FILE={file}."
        )
    else:
        say("Nothing differs from the built-in contract, so no setting is needed.")


def _refuse_to_lose(file: Path, output: Path, *, force: bool) -> None:
    if output.exists() and not force:
        raise SettingsError(f"{output} already exists. Choose another name, or add --force.")
    if output.resolve() == file.resolve():
        raise SettingsError(f"{output} is the document itself. Choose another name for the profile.")


def _write(output: Path, text: str, *, force: bool) -> None:
    try:
        with output.open("w" if force else "x", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
    except OSError as error:
        raise SettingsError(f"{output} cannot be written: {error.strerror}") from None


def _header(file: Path, imported: Imported) -> str:
    lines = [
        printable(f"Contract profile from {file.name}, OpenAPI {imported.version}"),
        f"{len(imported.matched)} of {len(OPERATIONS)} operations are described there. Only differences from the",
        "built-in contract are written here. To show them: ordersync contract show --diff",
    ]
    return "\n".join(lines if imported.operations else [*lines, "Nothing differs."])


def _changes(match: Match) -> dict[str, dict[str, Any]]:
    return {
        name: {"built_in": built_in(match.key, name), "value": value} for name, value in match.changed.items()
    }


def _data(imported: Imported) -> dict[str, Any]:
    changed = [match for match in imported.matched if match.changed]
    return {
        "title": imported.title,
        "version": imported.version,
        "counts": {
            "operations": len(OPERATIONS),
            "matched": len(imported.matched),
            "changed": len(changed),
            "missing": len(imported.missing),
            "unknown": len(imported.unknown),
        },
        "matched": [
            {"key": match.key, "by": match.by, "method": match.method, "path": match.path}
            | {"changed": _changes(match), "notes": list(match.notes)}
            for match in imported.matched
        ],
        "missing": [asdict(missing) for missing in imported.missing],
        "unknown": [asdict(unknown) for unknown in imported.unknown],
        "servers": list(imported.servers),
        "unprefixed": list(imported.unprefixed),
    }


def _report(file: Path, imported: Imported) -> list[str]:
    changed = [match for match in imported.matched if match.changed]
    ways = [
        (way, sum(match.by == way for match in imported.matched)) for way in ("title", "operationId", "path")
    ]
    how = ", ".join(f"{number} by {way}" for way, number in ways if number)
    rows = [
        ("matched", f"{len(imported.matched)} of {len(OPERATIONS)}" + (f" ({how})" if how else "")),
        ("changed", f"{len(changed)} of these"),
        ("missing", f"{len(imported.missing)}, which keep the built-in contract"),
        ("unknown", f"{len(imported.unknown)} that only the document has, which are not used"),
    ]
    title = f" {imported.title!r}" if imported.title else ""
    lines = [
        f"{file}: OpenAPI {imported.version}{title}",
        *columns((f"  {name}", text) for name, text in rows),
    ]
    if changed:
        lines += ["", "Changed"]
        lines += columns(
            (f"  {match.key}", name, f"{_text(change['built_in'])} -> {_text(change['value'])}")
            for match in changed
            for name, change in _changes(match).items()
        )
    if imported.missing:
        lines += ["", "Missing from the document (built-in values are used)"]
        lines += columns((f"  {missing.key}", missing.reason) for missing in imported.missing)
    if imported.unknown:
        shown = imported.unknown[:MAX_SHOWN]
        lines += ["", "Unknown (only in the document)"]
        lines += columns((f"  {one.method}", one.path, one.title, one.reason) for one in shown)
        more = len(imported.unknown) - len(shown)
        lines += [f"  ... and {more} more: --json shows all"] if more else []
    if notes := _notes(imported):
        lines += ["", "Note", *columns((f"  {note}",) for note in notes)]
    return lines


def _notes(imported: Imported) -> list[str]:
    notes = [f"{match.key}: {note}" for match in imported.matched for note in match.notes]
    if imported.servers:
        notes.append(
            f"Paths begin with {' or '.join(imported.servers[:5])}, from the servers of the document. Make sure "
            "that ORDERSYNC_API__BASE_URL does not also end with it."
        )
    if imported.unprefixed:
        notes.append(
            f"The paths of the service {', '.join(imported.unprefixed)} are listed without its prefix. The gateway "
            "may add the prefix. If these paths return 404, import again with --add-prefixes."
        )
    return notes


def _text(value: Any) -> str:
    return "unknown" if value is None else str(value)
