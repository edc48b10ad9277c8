"""`ordersync contract probe`."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import msgspec

from ordersync_consumer.redaction import words_of
from ordersync_consumer.resources import check_resource, nearest
from worker.admin import probe_report as probed
from worker.admin.survey import MANY
from worker.app import open_services, redis_url
from worker.capture.registry import RESOURCES
from worker.cli.common.options import prepare
from worker.cli.common.output import say, say_json, styled
from worker.cli.common.params import RESOURCE, account_option, excludes, needs
from worker.cli.common.recorded import recorded
from worker.cli.common.sandbox import served_by
from worker.clock import rfc3339
from worker.errors import OrderMeshError, SettingsError
from worker.redis.connections import connect
from worker.service.loop import run_async

if TYPE_CHECKING:
    from worker.capture.resources import Resource
    from worker.config.sections import Account
    from worker.config.settings import Settings
    from worker.ordermesh.contract.findings import Capabilities
    from worker.services import AccountServices, Services


@click.command(
    epilog="\b\nExamples:\n  ordersync contract probe\n  ordersync contract probe orders shipments\n"
    "  ordersync contract probe --kept --json\n  ordersync contract probe orders --accept --all-accounts"
)
@click.argument("resources", type=RESOURCE, nargs=-1, metavar="[RESOURCE]...")
@click.option("--kept", is_flag=True, help="Show the stored findings of the last probe; send no requests.")
@click.option(
    "--accept",
    is_flag=True,
    help="Take what OrderMesh honours no longer for its contract: status does not report it any more.",
)
@click.option(
    "--all-accounts",
    is_flag=True,
    help="With --accept: for every account; one of each gateway is probed.",
)
@account_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def probe(
    *,
    resources: tuple[str, ...],
    kept: bool,
    accept: bool,
    all_accounts: bool,
    account: str | None,
    as_json: bool,
) -> None:
    """Test which parts of the contract OrderMesh honours, for each RESOURCE or for all.

    Sends 15 to 35 requests per resource, only reads, within the request budget. The findings are stored in Redis,
    and the worker uses them. Exits with 1 if a polled resource cannot be read.

    What a gateway no longer honours is lost for all of its accounts: `--accept --all-accounts` probes with one account
    of each gateway, and the others take its findings over.
    """
    excludes("--accept", accept, "--kept", kept)
    needs("--all-accounts", all_accounts, "--accept", accept)
    excludes("--all-accounts", all_accounts, "--account", account is not None)
    for name in resources:
        check_resource(name)
    settings = prepare(quiet=True)
    requested = [RESOURCES[name] for name in resources or RESOURCES]
    request = _Request(requested, account, all_accounts, kept, accept, as_json)
    sys.exit(run_async(lambda: _probe(settings, request)))


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked for on the command line."""

    resources: list[Resource]
    account: str | None
    all_accounts: bool
    kept: bool
    accept: bool
    as_json: bool


async def _choose(settings: Settings, url: str, request: _Request) -> list[Account]:
    client = connect(url)
    try:
        accounts = (await served_by(settings, client)).accounts
    finally:
        await client.aclose()
    name, known = (
        request.account,
        f"{', '.join(list(accounts)[:MANY])}{' ...' if len(accounts) > MANY else ''}",
    )
    if request.all_accounts:
        return list(accounts.values())
    if name is None:
        if len(accounts) != 1:
            more = " To accept for all of them: --all-accounts." if request.accept else ""
            raise SettingsError(f"There are several accounts. Add --account with one of: {known}.{more}")
        return list(accounts.values())
    if name not in accounts:
        raise SettingsError(f"Unknown account {name!r}.{nearest(name, accounts)} Known accounts: {known}")
    return [accounts[name]]


async def _probe(settings: Settings, request: _Request) -> int:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(redis_url(settings))
        accounts = await _choose(settings, url, request)
        services = await stack.enter_async_context(open_services(accounts, url, most_open=MANY))
        await services.clock.sync()
        probing = _Probing(services, request)
        for account in accounts:
            await probing.run(services.accounts[account.name])
    if request.as_json:
        say_json(msgspec.to_builtins(probing.found))
    else:
        probing.print_others()
    return 1 if probing.failed else 0


class _Probing:
    """Probes the resources of a gateway with the first account that can, and lets the others take that over.

    Attributes:
        found: The findings.
        failed: How many polled resources cannot be read.

    """

    def __init__(self, services: Services, request: _Request) -> None:
        self._services, self._request = services, request
        self.found: list[Capabilities] = []
        self.failed = 0
        self._others: dict[tuple[str, str], int] = {}
        """How many accounts have taken over what was found of a gateway and a resource."""

    async def run(self, owned: AccountServices) -> None:
        """Probe with an account what no other has probed yet, and take over the rest."""
        kept = self._request.kept
        known = await owned.capabilities.load() if kept else {}
        async with nullcontext() if kept else recorded(self._services.redis, owned.keys):
            for resource in self._request.resources:
                source = owned.capabilities.gateway.keys.base, resource.name
                if source in self._others:
                    await owned.capabilities.accept(resource)
                    self._others[source] += 1
                    continue
                try:
                    one = (
                        known.get(resource.name)
                        if kept
                        else await owned.capabilities.probe(resource, accept=self._request.accept)
                    )
                except OrderMeshError as error:
                    if error.exit_status == 3:
                        raise  # the probe of the next resource would fail in the same way
                    self._note_failure(owned, resource, error)
                    continue
                if one is not None and one.state == "found":
                    self._others[source] = 0
                self._show(owned, resource, one)

    def _note_failure(self, owned: AccountServices, resource: Resource, error: OrderMeshError) -> None:
        name = f"{owned.account.name}/{resource.name}" if self._request.all_accounts else resource.name
        say(f"ordersync: {name}: {words_of(error)}", err=True)
        self.failed += resource.name in owned.account.intervals

    def _show(self, owned: AccountServices, resource: Resource, one: Capabilities | None) -> None:
        size, as_json = owned.account.api.page_size, self._request.as_json
        if one is None:
            if not as_json:
                say(f"{resource.name}: not probed yet")
                say()
            return
        self.failed += bool(probed.stops(one, size)) and resource.name in owned.account.intervals
        self.found.append(one)
        if not as_json:
            _print(one, size)

    def print_others(self) -> None:
        """Print for how many accounts the findings of one count."""
        for (_, name), count in self._others.items():
            if count:
                say(
                    f"{name}: accepted for {count} more {'account' if count == 1 else 'accounts'} of this gateway"
                )


def _print(one: Capabilities, page_size: int) -> None:
    say(styled(one.resource, bold=True), f"  ({rfc3339(one.at)}, {one.requests} requests)")
    for question, result, why in probed.table(one):
        say(f"  {question:<24}{result:<28}{why}".rstrip())
    for text in (probed.advice(one, page_size), *probed.withdrawn(one)):
        if text:
            say(f"  -> {text}")
    say()
