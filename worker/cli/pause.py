"""`ordersync pause` and `ordersync resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from worker.admin.operator_log import login_name
from worker.admin.polled import withdrawn
from worker.capture.state.pauses import EVERYTHING, Pause, Pauses
from worker.cli.common.options import pick_account, prepare
from worker.cli.common.output import say, say_json, say_lines
from worker.cli.common.params import RESOURCE, account_option
from worker.cli.common.recorded import recorded
from worker.cli.common.redis import check_resource, client_of
from worker.clock import SystemClock, rfc3339
from worker.errors import OrdersyncError, SettingsError
from worker.service.loop import run_async

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class StillPaused(OrdersyncError):
    """A resource was resumed, but its account is still paused."""

    code = "still_paused"


@click.command(
    epilog="\b\nExamples:\n  ordersync pause --reason 'vendor migrates until noon'\n"
    "  ordersync pause orders shipments --reason 'wrong prices' --by night-shift\n"
    "  ordersync pause orders --account acme --reason INC-2041"
)
@click.argument("resources", type=RESOURCE, metavar="[RESOURCE]...", nargs=-1)
@click.option("--reason", required=True, help="Reason of the pause, shown by status and in the log.")
@click.option("--by", help="Who pauses.  [default: your login name and this host]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@account_option
def pause(
    *, resources: tuple[str, ...], reason: str, by: str | None, as_json: bool, account: str | None
) -> None:
    """Stop reading each RESOURCE of an account, or the whole account, until `ordersync resume`.

    A running read ends after its current page. The pause applies to every worker and to resyncs, and survives
    restarts. Published events are still delivered. An existing pause is replaced.
    """
    for name in resources:
        check_resource(name)
    if not reason.strip():
        raise SettingsError("--reason is empty. State why the resource is paused.")
    settings = prepare(quiet=True)
    who, now = by or login_name(), SystemClock().now()
    begun = [
        Pause(name, reason.strip(), who, round(now, 3)) for name in dict.fromkeys(resources or [EVERYTHING])
    ]

    async def main() -> None:
        async with client_of(settings) as client:
            name = await pick_account(client, account, settings)
            keys = settings.redis.keys.of(name)
            async with recorded(client, keys, by=who):
                await Pauses(client, keys).begin(begun)
            idle = await withdrawn(client, keys, resources)
        if as_json:
            say_json([row(name, item) for item in begun])
        else:
            say_lines(f"{_named(name, each.resource)} was paused by {who}" for each in begun)
        for item in idle:
            say(f"{name}/{item} is not polled by any live worker, so there is no read to pause", err=True)

    run_async(main)


@click.command(
    epilog="\b\nExamples:\n  ordersync resume\n  ordersync resume orders\n  ordersync resume --account acme"
)
@click.argument("resources", type=RESOURCE, metavar="[RESOURCE]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print the pauses that ended as JSON.")
@account_option
def resume(*, resources: tuple[str, ...], as_json: bool, account: str | None) -> None:
    """Resume each paused RESOURCE, or everything that is paused of the account.

    Reads that are due start immediately; one read publishes every change that was made during the pause.
    """
    for name in resources:
        check_resource(name)
    settings = prepare(quiet=True)

    async def main() -> None:
        async with client_of(settings) as client:
            name = await pick_account(client, account, settings)
            keys = settings.redis.keys.of(name)
            pauses = Pauses(client, keys)
            before = await pauses.all()
            lifted = {resource: before[resource] for resource in resources or before if resource in before}
            async with recorded(client, keys):
                await pauses.end(list(lifted))
        now = SystemClock().now()
        if as_json:
            say_json([row(name, item) for item in lifted.values()])
        else:
            say_lines(_resumed(name, resources, lifted, now))
        if resources and EVERYTHING in before:
            raise StillPaused(
                f"{before[EVERYTHING].description}. This applies to every resource. To end it: ordersync resume"
            )

    run_async(main)


def row(account: str, pause: Pause) -> dict[str, Any]:
    """Return a pause as it appears in JSON; `resource` is null if the whole account is paused."""
    return {
        "account": account,
        "resource": None if pause.resource == EVERYTHING else pause.resource,
        "reason": pause.reason,
        "by": pause.by,
        "since": rfc3339(pause.at),
    }


def _resumed(account: str, resources: Sequence[str], lifted: Mapping[str, Pause], now: float) -> list[str]:
    lines = [
        f"{_named(account, item.resource)} was resumed after {now - item.at:.0f} s; {item.by} had "
        f"paused it: {item.reason}"
        for item in lifted.values()
    ]
    lines += [
        f"{_named(account, name)} was not paused" for name in dict.fromkeys(resources) if name not in lifted
    ]
    return lines or [f"Nothing in account {account} was paused."]


def _named(account: str, resource: str) -> str:
    return f"account {account}" if resource == EVERYTHING else f"{account}/{resource}"
