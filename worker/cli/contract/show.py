"""`ordersync contract show`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ordersync_consumer.resources import nearest
from worker.cli.common.output import say, say_json, say_lines, say_own
from worker.cli.common.params import ACCOUNT, excludes
from worker.cli.render.tables import columns
from worker.config import settings
from worker.errors import SettingsError
from worker.ordermesh.contract import reference
from worker.ordermesh.contract.configured import contract_of
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.schemas import SCHEMAS, element

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worker.ordermesh.contract.layers import Contract, Difference


@click.command(
    "show",
    epilog="\b\nExamples:\n  ordersync contract show\n  ordersync contract show --diff\n"
    "  ordersync contract show --operation orders.search\n  ordersync contract show --schema CreateOrderModel\n"
    "  ordersync contract show --reference > contract.md",
)
@click.option("--diff", is_flag=True, help="Only differences from the built-in contract.")
@click.option("--operation", "key", metavar="KEY", help="Everything that is known about one operation.")
@click.option(
    "--schema", metavar="NAME", help="Everything that is known about one schema of the vendor's portal."
)
@click.option(
    "--reference",
    "whole",
    is_flag=True,
    help="The built-in reference as one page: all operations and schemas.",
)
@click.option(
    "--account",
    type=ACCOUNT,
    help="Account; needed if accounts have different contract files.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    *, diff: bool, key: str | None, schema: str | None, whole: bool, account: str | None, as_json: bool
) -> None:
    """Show the effective contract: the built-in one, overridden by the OpenAPI document, then by the profile.

    Needs neither a login nor Redis and sends no requests; the findings of a probe are not included.
    """
    if key is not None and key not in OPERATIONS:
        raise SettingsError(
            f"Unknown operation {key!r}.{nearest(key, OPERATIONS) or ' To list them: ordersync contract show'}"
        )
    if sum((diff or key is not None, schema is not None, whole)) > 1:
        raise SettingsError("--schema and --reference cannot be combined with other options.")
    excludes("--account", account is not None, "--schema", schema is not None)
    excludes("--account", account is not None, "--reference", whole)
    if schema is not None:
        _show_schema(schema, as_json)
        return
    if whole:
        if as_json:
            say_json(reference.data())
        else:
            say_own(reference.markdown(), newline=False)
        return
    contract = contract_of(_file_of(settings.load(), account))
    if diff:
        _show_differences([item for item in contract.differences if key in (None, item.place)], as_json)
    elif key is not None:
        _show_operation(contract, key, as_json)
    else:
        _show_all(contract, as_json)


def _file_of(loaded: settings.Settings, requested: str | None) -> Any:
    """Return the contract file of an account, which need not be named if all accounts have the same file."""
    if loaded.accounts_file is None:
        if requested not in (None, loaded.account):
            known = [loaded.account]
            raise SettingsError(
                f"Unknown account {requested!r}.{nearest(requested or '', known)} Known accounts: {loaded.account}"
            )
        return loaded.contract_file
    files = {account.name: account.contract_file for account in loaded.accounts()}
    if requested is None and len(set(files.values())) == 1:
        return next(iter(files.values()))
    if requested is None:
        raise SettingsError(f"There are several accounts. Add --account with one of: {', '.join(files)}.")
    if requested not in files:
        raise SettingsError(
            f"Unknown account {requested!r}.{nearest(requested, files)} Known accounts: {', '.join(files)}"
        )
    return files[requested]


def _in_force(contract: Contract, key: str) -> dict[str, Any]:
    """Return one operation as it is currently called, and the source of each part."""
    operation, route = OPERATIONS[key], contract.profile.route(key)
    entry: dict[str, Any] = {
        "key": key,
        "title": operation.title,
        "service": operation.service,
        "method": route.method,
        "path": route.path,
        "built_in_as": "documented" if operation.documented else f"inferred ({operation.confidence})",
        "source": contract.source_of(key),
    }
    if operation.is_list:
        entry["listing"] = msgspec.structs.asdict(contract.profile.list_of(key)) | {
            "wrapper": next(iter(contract.profile.wrappers(key)), None)
        }
    return entry


def _show_all(contract: Contract, as_json: bool) -> None:
    entries = [_in_force(contract, key) for key in OPERATIONS]
    if as_json:
        say_json(
            {
                "layers": [{"source": layer.source, "file": layer.file} for layer in contract.layers],
                "login_case": contract.profile.login_case,
                "prefixes": dict(contract.profile.prefixes),
                "lists": msgspec.structs.asdict(contract.profile.listing),
                "operations": entries,
            }
        )
        return
    columns = ("key", "method", "path", "built_in_as", "source")
    rows = [("operation", "method", "path", "built in as", "source")]
    _echo_table([*rows, *(tuple(str(entry[name]) for name in columns) for entry in entries)])
    documented = sum(operation.documented for operation in OPERATIONS.values())
    say()
    say(
        f"{len(OPERATIONS)} operations; the vendor documents the path of {documented}, the others are inferred."
    )
    for layer in contract.layers:
        say(f"{layer.source.capitalize()}: {layer.file}")
    if contract.layers:
        say(
            f"{len(contract.differences)} values differ from the built-in contract: ordersync contract show --diff"
        )
    say(
        "Details of one: ordersync contract show --operation KEY or --schema NAME; of all "
        "(docs/reference/contract): --reference"
    )


def _show_differences(differences: Sequence[Difference], as_json: bool) -> None:
    if as_json:
        say_json([asdict(item) for item in differences])
    elif not differences:
        say("Nothing differs from the built-in contract.")
    else:
        _echo_table(
            [
                ("place", "field", "built in", "effective", "set in"),
                *(
                    (
                        item.place,
                        item.field,
                        _value(item.built_in),
                        _value(item.value),
                        f"{item.source}: {item.file}",
                    )
                    for item in differences
                ),
            ]
        )


def _show_operation(contract: Contract, key: str, as_json: bool) -> None:
    operation, now = OPERATIONS[key], _in_force(contract, key)
    known = reference.operation_data(operation)
    schemas = [reference.schema_data(SCHEMAS[name]) for name in _schemas(operation.request, operation.answer)]
    if as_json:
        say_json({**known, "in_force": now, "schemas": schemas})
        return
    built_in = f"{operation.method} {operation.path}"
    basis = "documented" if operation.documented else f"inferred, {operation.confidence} confidence"
    rows = [
        ("title", operation.title),
        ("service", f"{operation.service} ({operation.tag})"),
        ("request", f"{now['method']} {now['path']}"),
        ("from", f"{now['source']}" + ("" if now["source"] == "built in" else f"; built in: {built_in}")),
        ("built-in path", basis),
        ("built-in method", "documented" if operation.method_documented else "inferred"),
        ("also possible", ", ".join(operation.alternatives)),
        ("query", ", ".join(operation.query)),
        ("body", ", ".join(known["body"])),
        ("used by", _listing(now.get("listing", {}))),
        ("takes", operation.request or ""),
        ("answers", operation.answer or "not documented"),
        ("client", known["client"]),
        ("vendor's page", operation.page or ""),
        ("note", operation.note),
    ]
    say(key)
    _echo_table([(f"  {name}", text) for name, text in rows if text and text != "-"])
    _echo_schemas(schemas)


def _show_schema(name: str, as_json: bool) -> None:
    """Print one schema and the schemas that it refers to."""
    if name not in SCHEMAS:
        known = nearest(name, SCHEMAS) or f" To list all {len(SCHEMAS)}: ordersync contract show --reference"
        raise SettingsError(f"Unknown schema {name!r}.{known}")
    schemas = [reference.schema_data(SCHEMAS[item]) for item in _schemas(name)]
    uses = [key for key, each in OPERATIONS.items() if name in _schemas(each.request, each.answer)]
    if as_json:
        say_json({"operations": uses, "schemas": schemas})
        return
    _echo_table(
        [
            (f"{title:<11}", text)
            for title, text in (
                ("services", ", ".join(SCHEMAS[name].services)),
                ("type", SCHEMAS[name].type),
                ("part of", ", ".join(uses) or "no operation that is published"),
                ("note", SCHEMAS[name].note),
            )
            if text
        ]
    )
    _echo_schemas(schemas)


def _echo_schemas(schemas: Iterable[dict[str, Any]]) -> None:
    for schema in schemas:
        about = "" if schema["documented"] or not schema["fields"] else " (inferred)"
        say()
        say(f"{schema['name']}{about}")
        _echo_table(
            [
                (f"  {field['name']}{'!' if field['required'] else ''}", field["type"], field["source"])
                for field in schema["fields"]
            ]
            or [(f"  {reference.NOT_DOCUMENTED}",)]
        )


def _schemas(*names: str | None) -> list[str]:
    """Return these schemas and all schemas that they refer to, each once."""
    result: dict[str, None] = {}
    pending = [name for name in names if name]
    while pending:
        name = pending.pop(0)
        if name in SCHEMAS and name not in result:
            result[name] = None
            pending += [element(field.type) for field in SCHEMAS[name].fields]
    return list(result)


def _listing(listing: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} = {_value(value)}" for name, value in listing.items() if value not in (None, {})
    )


def _value(value: Any) -> str:
    if value is None or value == {}:
        return "-"
    return value if isinstance(value, str) and value else json.dumps(value)


def _echo_table(rows: Iterable[Sequence[str]]) -> None:
    say_lines(columns(rows))
