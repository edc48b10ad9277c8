"""`ordersync groups`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from worker.service.loop import run_async
from worker.cli.common.options import pick_keys, prepare
from worker.cli.common.params import GROUP, RESOURCE, account_option
from worker.cli.common.redis import ask_back, check_resource, client_of
from worker.cli.render.tables import columns, printable
from worker.clock import duration
from worker.clock import SystemClock
from worker.config.resources import RESOURCES
from worker.errors import SettingsError
from ordersync_consumer.groups import Groups, RetentionLimits, idle_seconds, written_at
from worker.redis.connections import answer

if TYPE_CHECKING:
    from worker.config.settings import Settings
    from ordersync_consumer.groups import Group

_COLUMNS = ("resource", "group", "unread", "pending", "oldest", "idle", "consumers", "holds back")


@click.group(
    name="groups",
    invoke_without_command=True,
    epilog="\b\nExamples:\n  ordersync groups\n  ordersync groups --json | jq '.[] | select(.unread > 1000)'\n"
    "  ordersync groups drop warehouse orders",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@account_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool, account: str | None) -> None:
    """List the consumer groups, with their unread and pending events.

    `oldest` is the age of the oldest event that the group has not handled, `idle` the time since a consumer of the
    group last read, `holds back` the number of events that retention would remove if the group did not need them.
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = account
        return
    settings = prepare(quiet=True)
    run_async(lambda: _list(settings, account, as_json=as_json))


@command.command(
    epilog="\b\nExamples:\n  ordersync groups drop warehouse\n  ordersync groups drop warehouse orders --yes"
)
@click.argument("group", type=GROUP)
@click.argument("resource", type=RESOURCE, required=False)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@account_option
@click.pass_context
def drop(ctx: click.Context, *, group: str, resource: str | None, yes: bool, account: str | None) -> None:
    """Drop a GROUP of one RESOURCE, or of all. The group never gets the events that it has not handled.

    The events stay in the stream while retention and the other groups keep them.
    """
    check_resource(resource)
    settings = prepare(quiet=True)
    resources = (resource,) if resource else RESOURCES
    declared = [name for name in settings.events.groups.get(group, ()) if name in resources]
    if declared:
        raise SettingsError(
            f"ORDERSYNC_EVENTS__GROUPS declares {group} for {', '.join(declared)}, so the worker would create it "
            "again, with every event unread. Remove it from that setting, restart the worker, then drop the "
            "group."
        )
    run_async(lambda: _drop(settings, account or ctx.obj, group, resources, yes=yes))


async def _list(settings: Settings, account: str | None, *, as_json: bool) -> None:
    async with client_of(settings) as client:
        keys = await pick_keys(client, account, settings)
        groups, now, rows = Groups(client, keys), SystemClock().now(), []
        for resource in RESOURCES:
            limits = RetentionLimits(**settings.retention.of(resource).model_dump())
            result = (await groups.status(resource, limits)).groups
            rows += [await _row(groups, resource, group, now) for group in result]
    if as_json:
        click.echo(json.dumps(rows))
    elif rows:
        click.echo("\n".join(columns([_COLUMNS, *(_cells(row) for row in rows)])))
    else:
        click.echo(
            f"No group reads the events of account {keys.account}. A consumer creates its group when it starts. To "
            'create one before that, set ORDERSYNC_EVENTS__GROUPS, for example {"warehouse": ["orders"]}.'
        )


async def _row(groups: Groups, resource: str, group: Group, now: float) -> dict[str, Any]:
    consumers = await groups.consumers(resource, group.name)
    oldest = group.oldest_pending or group.oldest_unread
    return {
        "resource": resource,
        "group": group.name,
        "unread": group.unread,
        "pending": group.pending,
        "oldest": oldest or None,
        "oldest_s": round(max(0.0, now - written_at(oldest)), 1) if oldest else None,
        "oldest_pending": group.oldest_pending or None,
        "idle_s": round(idle_seconds(group, consumers, now), 1),
        "held_back": group.held,
        "consumers": [
            {"name": item.name, "pending": item.pending, "idle_s": round(item.idle, 1)} for item in consumers
        ],
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    idle = duration(row["idle_s"]) if row["consumers"] else "no consumer"
    return (
        row["resource"], row["group"], str(row["unread"]), str(row["pending"]),
        "-" if row["oldest_s"] is None else duration(row["oldest_s"]), idle, str(len(row["consumers"])),
        str(row["held_back"]),
    )  # fmt: skip


async def _drop(
    settings: Settings, account: str | None, group: str, resources: tuple[str, ...], *, yes: bool
) -> None:
    async with client_of(settings) as client:
        keys = await pick_keys(client, account, settings)
        groups = Groups(client, keys)
        result = [
            (resource, each)
            for resource in resources
            for each in (await groups.status(resource)).groups
            if each.name == group
        ]
        if not result:
            raise SettingsError(
                f"Unknown group {group!r} of {' or '.join(resources)} in account {keys.account}. To list the "
                "groups: ordersync groups."
            )
        for resource, item in result:
            click.echo(
                f"{resource}: group {printable(group)} has {item.unread} unread and {item.pending} pending events, "
                "which it will not get"
            )
        ask_back("Drop the group?", yes=yes)
        for resource, _ in result:
            await groups.drop(resource, group)
            await answer(client.delete(keys.replayed(resource, group)))
            click.echo(f"{resource}: group {printable(group)} was dropped")
