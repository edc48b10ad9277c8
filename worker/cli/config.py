"""`ordersync config`."""

from __future__ import annotations

import json
from typing import Any

import click

from worker.cli.common.output import say, say_json
from worker.clock import rfc3339
from worker.config import settings as settings_module
from worker.config.secret_files import settings_files


@click.group(name="config", epilog="\b\nExamples:\n  ordersync config show\n  ordersync config show --json")
def command() -> None:
    """Show the settings."""


@command.command(epilog="\b\nExamples:\n  ordersync config show\n  ordersync config show --names")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--names", is_flag=True, help="List every variable that can be set, with its meaning.")
def show(as_json: bool, names: bool) -> None:
    """Show the effective settings and accounts, with secrets hidden."""
    if names:
        known = settings_module.variable_names()
        if as_json:
            say_json(known)
            return
        width = max(len(name) for name in known)
        for name, meaning in known.items():
            say(f"{name:<{width}}  {meaning}")
        return
    loaded = settings_module.load()
    shown = loaded.shown()
    if loaded.accounts_file is not None:
        shown["accounts"] = {
            account.name: {
                "api": account.api.model_dump(mode="json"),
                "intervals": dict(account.intervals),
                "since": rfc3339(account.since / 1000) if account.since else None,
                "snapshot": account.snapshot,
                "contract_file": str(account.contract_file) if account.contract_file else None,
            }
            for account in loaded.accounts()
        }
    files = [str(file.absolute()) for file in settings_files(loaded)]
    if as_json:
        say_json(shown | {"read_from": files})
        return
    for file in files:
        say(f"# read from {file}")
    for name, value in _flat("ORDERSYNC", shown):
        say(f"{name}={'' if value is None else value}")


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    """`{"api": {"page_size": 100}}` as `ORDERSYNC_API__PAGE_SIZE=100`; maps within a part stay JSON."""
    rows: list[tuple[str, Any]] = []
    for name, inner in value.items():
        if prefix == "ORDERSYNC" and isinstance(inner, dict):
            for key, leaf in inner.items():
                shown = json.dumps(leaf) if isinstance(leaf, dict | list) else leaf
                rows.append((f"{prefix}_{name}__{key}".upper(), shown))
        else:
            rows.append((f"{prefix}_{name}".upper(), inner))
    return rows
