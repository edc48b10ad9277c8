"""`ordersync timeline`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click

from worker.admin.timeline import SCAN, Timeline, TimelineCollector
from worker.cli.common.options import pick_account, prepare
from worker.cli.common.output import Line, say_json, say_lines, styled
from worker.cli.common.params import Integer, account_option
from worker.cli.common.redis import client_of, note_refusal
from worker.cli.common.sandbox import served_by
from worker.clock import SystemClock, rfc3339
from worker.errors import SettingsError
from worker.redis.running import running_redis_url
from worker.service.loop import run_async

if TYPE_CHECKING:
    from worker.capture.records.privacy import RecordPolicy
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
    type=Integer(1),
    default=SCAN,
    show_default=True,
    help="Number of events to scan in each stream, newest first, for what no link leads to.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@account_option
def command(*, order_id: str, offline: bool, scan: int, as_json: bool, account: str | None) -> None:
    """Show everything that is known about one order, in time order. ID: its id, shortId (O...), safeId or externalId.

    Shows the events of the order, its items, shipments and notes, with the fields that changed; their state in each
    group; dead letters; and audit logs: the published ones and, without --offline, those that OrderMesh serves now,
    within the request budget. The state of a record leads to its last event, and each event to the one before, so this
    takes no longer in a long stream. Only these are searched for, among the newest --scan events of a stream: the order
    if OrderMesh cannot say which id a shortId, safeId or externalId has; notes and shipments that OrderMesh does not
    list; events published by a version that wrote no links. The output names what was not searched, and what is gone.
    """
    if not order_id.strip():
        raise SettingsError("The id is empty. Pass the id, shortId, safeId or externalId of an order.")
    settings = prepare(quiet=True)
    result = run_async(lambda: _trace(settings, order_id.strip(), account, offline=offline, scan=scan))
    if as_json:
        say_json(result.as_json())
    else:
        say_lines(_lines(result))


async def _trace(settings: Settings, name: str, account: str | None, *, offline: bool, scan: int) -> Timeline:
    async with client_of(settings) as client, AsyncExitStack() as stack:
        refused = await note_refusal(client)
        chosen = await pick_account(client, account, settings)
        api, remark = None, "The audit logs were not read from OrderMesh (--offline)."
        if refused:
            remark = (
                "OrderMesh was not asked: login and request budget are kept in Redis, which refuses writes."
            )
        elif not offline:
            api, remark = await api_of(settings, chosen, stack)
        tracer = TimelineCollector(
            client,
            settings.redis.keys.of(chosen),
            api,
            scan=scan,
            now=SystemClock().now(),
            policy=lambda resource: _policy_of(resource, settings, chosen),
        )
        if remark:
            tracer.remarks.append(remark)
        return await tracer.collect(name)


def _policy_of(resource: str, settings: Settings, account: str) -> RecordPolicy | None:
    """Return the privacy policy of a resource, for what OrderMesh serves."""
    from worker.capture.records.privacy import policy_for  # noqa: PLC0415 - --offline does not need it

    return policy_for(resource, settings.privacy, account)


async def api_of(
    settings: Settings, account: str, stack: AsyncExitStack
) -> tuple[OrderMeshClient | None, str]:
    """Return the client of an account with its findings applied; None, and the reason, if it has no login here."""
    try:
        async with client_of(settings) as client:
            result = (await served_by(settings, client)).accounts.get(account)
    except SettingsError:
        result = None
    if result is None:
        return (
            None,
            f"OrderMesh was not asked: the settings contain no login for {account}.",
        )
    from worker.app import open_services  # noqa: PLC0415 - takes time to import, and --offline does not need it

    services = await stack.enter_async_context(open_services([result], running_redis_url(settings)))
    await services.clock.sync()
    account_services = services.accounts[account]
    await account_services.capabilities.load()
    return account_services.client, ""


def _lines(result: Timeline) -> list[Line]:
    names = [f"{name} {value}" for name, value in result.order.items() if name != "id" and value is not None]
    lines: list[Line] = [f"order {result.order['id']}" + (f" ({', '.join(names)})" if names else "")]
    width = max((len(moment.resource) for moment in result.entries), default=0)
    for moment in result.entries:
        at = rfc3339(moment.at) if moment.at else f"{'unknown time':<24}"
        kind = styled(f"{moment.kind:<8}", _COLOURS.get(moment.kind))
        lines.append((f"{at}  ", kind, f"  {moment.resource:<{width}}  {moment.subject}  {moment.message}"))
    if not result.entries:
        lines.append("No events, dead letters or audit logs of this order were found.")
    return [*lines, *(["", *result.remarks] if result.remarks else [])]
