"""`ordersync timeline`."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click

from worker.admin.timeline import Timeline, TimelineCollector
from worker.app import open_services
from worker.redis.running import running_redis_url
from worker.service.loop import run_async
from worker.cli.common.options import pick_account, prepare
from worker.cli.common.params import account_option
from worker.cli.common.redis import client_of
from worker.cli.render.tables import printable
from worker.clock import SystemClock, rfc3339
from worker.errors import SettingsError

if TYPE_CHECKING:
    from worker.config.settings import Settings
    from worker.ordermesh.client import OrderMeshClient

_COLOURS = {"event": "green", "audit": "blue", "delivery": "yellow", "dead": "red"}


@click.command(
    epilog="\b\nExamples:\n  ordersync timeline 67789cd8912265b1f5000ba4\n  ordersync timeline O10482 --offline\n"
    "  ordersync timeline web-2041 --json | jq '.moments[] | select(.kind == \"dead\")'"
)
@click.argument("order_id", metavar="ID")
@click.option("--offline", is_flag=True, help="Do not read the audit logs from OrderMesh.")
@click.option(
    "--scan",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="Number of events to search in each stream, newest first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@account_option
def command(*, order_id: str, offline: bool, scan: int, as_json: bool, account: str | None) -> None:
    """Show everything that is known about one order, in time order. ID: its id, shortId (O...), safeId or externalId.

    Shows the events of the order, its items, shipments and notes, with the fields that changed; their state in each
    group; dead letters; and audit logs: the published ones and, without --offline, those that OrderMesh serves now,
    within the request budget. A stream has no index, so it is searched from its newest event back to the first of the
    order, at most --scan events. The output names what was not searched.
    """
    if not order_id.strip():
        raise SettingsError("The id is empty. Pass the id, shortId, safeId or externalId of an order.")
    settings = prepare(quiet=True)
    result = run_async(lambda: _trace(settings, order_id.strip(), account, offline=offline, scan=scan))
    click.echo(json.dumps(result.as_json(), ensure_ascii=False) if as_json else "\n".join(_lines(result)))


async def _trace(settings: Settings, name: str, account: str | None, *, offline: bool, scan: int) -> Timeline:
    async with client_of(settings) as client, AsyncExitStack() as stack:
        chosen = await pick_account(client, account, settings)
        api, remark = None, "The audit logs were not read from OrderMesh (--offline)."
        if not offline:
            api, remark = await _api_of(settings, chosen, stack)
        tracer = TimelineCollector(
            client, settings.redis.keys.of(chosen), api, limit=scan, now=SystemClock().now()
        )
        if remark:
            tracer.remarks.append(remark)
        return await tracer.collect(name)


async def _api_of(
    settings: Settings, account: str, stack: AsyncExitStack
) -> tuple[OrderMeshClient | None, str]:
    """Return the client of an account with its findings applied; None, and the reason, if it has no login here."""
    try:
        result = next((item for item in settings.accounts() if item.name == account), None)
    except SettingsError:
        result = None
    if result is None:
        return (
            None,
            f"The audit logs were not read from OrderMesh: the settings contain no login for {account}.",
        )
    services = await stack.enter_async_context(open_services([result], running_redis_url(settings)))
    await services.clock.sync()
    account_services = services.accounts[account]
    await account_services.capabilities.load()
    return account_services.client, ""


def _lines(result: Timeline) -> list[str]:
    names = [f"{name} {value}" for name, value in result.order.items() if name != "id" and value is not None]
    lines = [printable(f"order {result.order['id']}" + (f" ({', '.join(names)})" if names else ""))]
    width = max((len(moment.resource) for moment in result.entries), default=0)
    for moment in result.entries:
        at = rfc3339(moment.at) if moment.at else f"{'unknown time':<24}"
        kind = click.style(f"{moment.kind:<8}", fg=_COLOURS.get(moment.kind))
        lines.append(
            f"{at}  {kind}  {moment.resource:<{width}}  {printable(f'{moment.subject}  {moment.message}')}"
        )
    if not result.entries:
        lines.append("No events, dead letters or audit logs of this order were found.")
    return [*lines, *(["", *map(printable, result.remarks)] if result.remarks else [])]
