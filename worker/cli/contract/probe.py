"""`ordersync contract probe`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click
import msgspec

from worker.admin import probe_report as probed
from worker.app import open_services, redis_url
from worker.service.loop import run_async
from worker.capture.registry import RESOURCES
from worker.cli.common.options import prepare
from worker.cli.common.params import RESOURCE, account_option
from worker.clock import rfc3339
from worker.errors import OrderMeshError, SettingsError

if TYPE_CHECKING:
    from worker.capture.resources import Resource
    from worker.config.sections import Account
    from worker.config.settings import Settings
    from worker.ordermesh.contract.findings import Capabilities


@click.command(
    epilog="\b\nExamples:\n  ordersync contract probe\n  ordersync contract probe orders shipments\n"
    "  ordersync contract probe --kept --json"
)
@click.argument("resources", type=RESOURCE, nargs=-1, metavar="[RESOURCE]...")
@click.option("--kept", is_flag=True, help="Show the stored findings of the last probe; send no requests.")
@account_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def probe(resources: tuple[str, ...], kept: bool, account: str | None, as_json: bool) -> None:
    """Test which parts of the contract OrderMesh honours, for each RESOURCE or for all.

    Sends 15 to 35 requests per resource, only reads, within the request budget. The findings are stored in Redis,
    and the worker uses them. Exits with 1 if a polled resource cannot be read.
    """
    for name in resources:
        if name not in RESOURCES:
            raise SettingsError(f"Unknown resource {name!r}. Known resources: {', '.join(RESOURCES)}")
    settings = prepare(quiet=True)
    chosen = _choose(settings.accounts(), account)
    requested = [RESOURCES[name] for name in resources or RESOURCES]
    sys.exit(run_async(lambda: _probe(settings, chosen, requested, kept=kept, as_json=as_json)))


def _choose(accounts: tuple[Account, ...], name: str | None) -> Account:
    names = ", ".join(each.name for each in accounts)
    if name is None:
        if len(accounts) > 1:
            raise SettingsError(f"There are several accounts. Add --account with one of: {names}.")
        return accounts[0]
    for item in accounts:
        if item.name == name:
            return item
    raise SettingsError(f"Unknown account {name!r}. Known accounts: {names}")


async def _probe(
    settings: Settings, account: Account, requested: list[Resource], *, kept: bool, as_json: bool
) -> int:
    failed = 0
    probed_resources: list[Capabilities] = []
    async with redis_url(settings) as url, open_services([account], url) as services:
        await services.clock.sync()
        contract = services.accounts[account.name].capabilities
        known = await contract.load() if kept else {}
        for resource in requested:
            try:
                one = known.get(resource.name) if kept else await contract.probe(resource)
            except OrderMeshError as error:
                if error.exit_status == 3:
                    raise  # the probe of the next resource would fail in the same way
                click.echo(f"ordersync: {resource.name}: {error}", err=True)
                failed += resource.name in account.intervals
                continue
            if one is None:
                if not as_json:
                    click.echo(f"{resource.name}: not probed yet\n")
                continue
            failed += bool(probed.stops(one, account.api.page_size)) and resource.name in account.intervals
            probed_resources.append(one)
            if not as_json:
                _print(one, account.api.page_size)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(probed_resources)))
    return 1 if failed else 0


def _print(one: Capabilities, page_size: int) -> None:
    click.echo(f"{click.style(one.resource, bold=True)}  ({rfc3339(one.at)}, {one.requests} requests)")
    for question, result, why in probed.table(one):
        click.echo(f"  {question:<24}{result:<28}{why}".rstrip())
    if text := probed.advice(one, page_size):
        click.echo(f"  -> {text}")
    click.echo()
