"""`ordersync groups`."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

import click

from ordersync_consumer.groups import Groups, RetentionLimits, id_before, idle_seconds, written_at
from ordersync_consumer.resources import nearest
from ordersync_consumer.servers.cluster import at
from worker.cli.common.options import pick_keys, prepare
from worker.cli.common.output import say, say_json, say_lines
from worker.cli.common.params import GROUP, RESOURCE, account_option
from worker.cli.common.recorded import recorded
from worker.cli.common.redis import ask_back, check_resource, client_of, moment, names_of_groups, reader_of
from worker.cli.render.tables import columns
from worker.clock import SystemClock, duration, rfc3339
from worker.config.resources import RESOURCES
from worker.config.values import group_name
from worker.errors import SettingsError
from worker.redis.connections import answer
from worker.service.loop import run_async

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ordersync_consumer.groups import Group
    from worker.config.settings import Settings
    from worker.keys import Keys

_COLUMNS = ("resource", "group", "unread", "lag", "pending", "oldest", "idle", "consumers", "holds back")
_MEMBERS = ("resource", "consumer", "pending", "idle")
_ID = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?", re.ASCII)


@click.group(
    name="groups",
    invoke_without_command=True,
    epilog="\b\nExamples:\n  ordersync groups\n  ordersync groups --json | jq '.[] | select(.unread > 1000)'\n"
    "  ordersync groups show warehouse\n  ordersync groups create warehouse orders --from 2026-03-02T10:00:00Z\n"
    "  ordersync groups drop warehouse orders",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@account_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool, account: str | None) -> None:
    """List the consumer groups, with their unread and pending events.

    `lag` is the age of the oldest event that the group has not read, `oldest` that of the oldest event that it has not
    handled, `idle` the time since a consumer of the group last read, `holds back` the number of events that retention
    would remove if the group did not need them.
    """
    if ctx.invoked_subcommand is not None:
        if as_json and ctx.invoked_subcommand != "show":
            raise click.UsageError(
                f"--json has no effect with `groups {ctx.invoked_subcommand}`. Leave it out."
            )
        ctx.obj = account, as_json
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
    run_async(lambda: _drop(settings, account or ctx.obj[0], group, resources, yes=yes))


@command.command(
    epilog="\b\nExamples:\n  ordersync groups create warehouse orders\n"
    "  ordersync groups create search orders shipments --from 2d\n"
    "  ordersync groups create search orders --from 1772448067513-0\n  ordersync groups create search orders --from '$'"
)
@click.argument("group", type=GROUP)
@click.argument("resources", metavar="RESOURCE...", type=RESOURCE, nargs=-1, required=True)
@click.option(
    "--from",
    "begin",
    metavar="TIME|ID|$",
    default="0",
    help="First event: a time, an age such as 2h, the id of an entry, or $ for the next new one [default: the oldest].",
)
@account_option
@click.pass_context
def create(
    ctx: click.Context, *, group: str, resources: tuple[str, ...], begin: str, account: str | None
) -> None:
    """Create a GROUP of one or more resources, which gets the events from a time on.

    From then on retention keeps what the group has not acknowledged. A group that exists is not changed: `ordersync
    replay` delivers past events to it again. With a consumer of this kit or another client, the group is read as usual.
    """
    for resource in resources:
        check_resource(resource)
    try:
        group_name(group)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    settings = prepare(quiet=True)
    run_async(lambda: _create(settings, account or ctx.obj[0], group, resources, begin))


@command.command(
    epilog="\b\nExamples:\n  ordersync groups show warehouse\n  ordersync groups show warehouse --json"
)
@click.argument("group", type=GROUP)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@account_option
@click.pass_context
def show(ctx: click.Context, *, group: str, as_json: bool, account: str | None) -> None:
    """Show a GROUP and its members: the consumers, their pending events, and when each last read."""
    settings = prepare(quiet=True)
    run_async(lambda: _show(settings, account or ctx.obj[0], group, as_json=as_json or ctx.obj[1]))


async def _rows(client: Redis, keys: Keys, settings: Settings) -> list[dict[str, Any]]:
    """Return all groups of an account."""
    groups, now, rows = Groups(client, keys), SystemClock().now(), []
    for resource in RESOURCES:
        limits = RetentionLimits(**settings.retention.of(resource).model_dump())
        result = (await groups.status(resource, limits)).groups
        rows += [await _row(groups, resource, group, now) for group in result]
    return rows


async def _list(settings: Settings, account: str | None, *, as_json: bool) -> None:
    async with reader_of(settings) as client:
        keys = await pick_keys(client, account, settings)
        rows = await _rows(client, keys, settings)
    if as_json:
        say_json(rows)
    elif rows:
        say_lines(columns([_COLUMNS, *(_cells(row) for row in rows)]))
    else:
        say(
            f"No group reads the events of account {keys.account}. A consumer creates its group when it starts. To "
            'create one before that: ordersync groups create, or ORDERSYNC_EVENTS__GROUPS, for example {"warehouse": '
            '["orders"]}.'
        )


async def _show(settings: Settings, account: str | None, group: str, *, as_json: bool) -> None:
    async with reader_of(settings) as client:
        keys = await pick_keys(client, account, settings)
        found = await _rows(client, keys, settings)
    rows = [row for row in found if row["group"] == group]
    if not rows:
        raise SettingsError(
            f"Unknown group {group!r} in account {keys.account}.{nearest(group, {row['group'] for row in found})} To "
            "list the groups: ordersync groups"
        )
    if as_json:
        say_json(rows)
        return
    say_lines(columns([_COLUMNS, *(_cells(row) for row in rows)]))
    members = [
        (row["resource"], member["name"], str(member["pending"]), duration(member["idle_s"]))
        for row in rows
        for member in row["consumers"]
    ]
    say_lines(["", *columns([_MEMBERS, *members])] if members else ["", "No consumer has read for it yet."])


async def _create(
    settings: Settings, account: str | None, group: str, resources: tuple[str, ...], begin: str
) -> None:
    async with client_of(settings) as client:
        keys = await pick_keys(client, account, settings)
        groups = Groups(client, keys)
        seconds, microseconds = await at(client, keys.base).time()
        start = _first_entry(begin, seconds + microseconds / 1e6)
        existing = [
            resource
            for resource in resources
            if group in {each.name for each in (await groups.status(resource)).groups}
        ]
        if existing:
            typed = shlex.quote(group)
            raise SettingsError(
                f"Group {group!r} of {', '.join(existing)} exists already, and nothing was created. To deliver past "
                f"events to it again: ordersync replay --group {typed}. To start over: ordersync groups drop {typed}"
            )
        async with recorded(client, keys):
            for resource in resources:
                if await groups.create(resource, group, start):
                    status = await groups.status(resource)
                    (made,) = [each for each in status.groups if each.name == group]
                    first = (
                        f", from {rfc3339(written_at(made.oldest_unread))} on" if made.oldest_unread else ""
                    )
                    say(
                        f"{resource}: group {group} was created; {made.unread} of {status.entries} events are "
                        f"unread{first}"
                    )


def _first_entry(begin: str, now: float) -> str:
    """Return the id from which on a group gets entries; `now` by the clock of Redis.

    Raises:
        SettingsError: This is neither a time nor an id, or it lies in the future: the group would miss events.

    """
    if begin in ("0", "$"):
        return begin
    start = begin
    if not _ID.fullmatch(begin):
        at = moment(begin, "--from", now, ids=True)
        start = f"{max(0, int((at or 0.0) * 1000))}-0"
    try:
        id_before(start)
    except ValueError as error:
        raise SettingsError(f"--from: {error}") from None
    if written_at(start) > now:
        raise SettingsError(
            f"--from: {begin} is in the future, and the group would never get the events until then. Use $ for the "
            "next new event"
        )
    return start


async def _row(groups: Groups, resource: str, group: Group, now: float) -> dict[str, Any]:
    consumers = await groups.consumers(resource, group.name)
    oldest = group.oldest_pending or group.oldest_unread
    lag = max(0.0, now - written_at(group.oldest_unread)) if group.oldest_unread else 0.0
    return {
        "resource": resource,
        "group": group.name,
        "unread": group.unread,
        "lag_s": round(lag, 1),
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
    lag = duration(row["lag_s"]) if row["unread"] else "-"
    oldest = "-" if row["oldest_s"] is None else duration(row["oldest_s"])
    return (
        row["resource"], row["group"], str(row["unread"]), lag, str(row["pending"]), oldest, idle,
        str(len(row["consumers"])), str(row["held_back"]),
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
            near = nearest(group, await names_of_groups(groups))
            of = f" of {resources[0]}" if len(resources) == 1 else ""
            raise SettingsError(
                f"Unknown group {group!r}{of} in account {keys.account}.{near} To list the groups: ordersync groups."
            )
        for resource, item in result:
            say(
                f"{resource}: group {group} has {item.unread} unread and {item.pending} pending events, "
                "which it will not get"
            )
        ask_back("Drop the group?", yes=yes)
        async with recorded(client, keys):
            for resource, _ in result:
                await groups.drop(resource, group)
                await answer(client.delete(keys.replayed(resource, group)))
                say(f"{resource}: group {group} was dropped")
