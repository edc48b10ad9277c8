"""`ordersync replay`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ordersync_consumer.groups import Groups, text, written_at
from ordersync_consumer.replay import ReplayRange, ReplayResult, replay
from ordersync_consumer.resources import nearest
from worker.cli.common.options import pick_keys, prepare
from worker.cli.common.output import say_json, say_lines
from worker.cli.common.params import GROUP, RESOURCE, account_option
from worker.cli.common.recorded import recorded
from worker.cli.common.redis import check_resource, client_of, moment, names_of_groups
from worker.clock import SystemClock, rfc3339
from worker.config.resources import RESOURCES
from worker.errors import SettingsError
from worker.service.loop import run_async
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis

    from ordersync_consumer.groups import Group
    from worker.config.settings import Settings

_NOTHING = "0-0"


@dataclass(frozen=True, slots=True)
class Kept:
    """The requested events that are still in the stream.

    Attributes:
        first: The first entry of the range that the group has read, "" for none.
        last: The last one, likewise.
        oldest: The oldest entry of the stream.
        gone: The range begins before `oldest`, and older entries were removed.

    """

    first: str
    last: str
    oldest: str
    gone: bool


@click.command(
    epilog="\b\nExamples:\n"
    "  ordersync replay --group warehouse orders --since 2h --dry-run\n"
    "  ordersync replay --group warehouse --since 2026-03-02T10:00:00Z --until 2026-03-02T12:30:00Z\n"
    "  ordersync replay --group search orders --entity 67789cd8912265b1f5000ba4\n"
    "  ordersync replay --group audit orders --from 1772448067513-0",
)
@click.argument("resource", type=RESOURCE, required=False)
@click.option("--group", "-g", type=GROUP, required=True, help="Group that gets the events.")
@click.option("--since", metavar="TIME", help="Events published since then: a time, or an age such as 2h.")
@click.option("--until", metavar="TIME", help="Events published before then.")
@click.option("--from", "from_id", metavar="ENTRY", help="Events from this entry of the stream on.")
@click.option("--entity", metavar="ID", help="Events of one record, such as an order.")
@click.option("--dry-run", is_flag=True, help="Print what would be redelivered; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@account_option
def command(
    *,
    resource: str | None,
    group: str,
    since: str | None,
    until: str | None,
    from_id: str | None,
    entity: str | None,
    dry_run: bool,
    as_json: bool,
    account: str | None,
) -> None:
    """Redeliver events to one group: of RESOURCE, or of every resource the group reads.

    The entries keep their ids and are marked as replayed. Without --since, --from or --entity, every event in the
    stream is redelivered. The consumer kit, `ordersync consume` and `ordersync forward` get them within a second, other
    consumers when they claim idle entries (XAUTOCLAIM). Other groups are not affected. Pending and unread events are
    left alone, because the group gets them anyway.
    """
    check_resource(resource)
    if from_id and (since or until):
        raise click.UsageError("Pass either --from, or --since and --until.")
    if from_id and resource is None:
        raise click.UsageError(
            "--from needs a RESOURCE, because an entry belongs to the stream of one resource."
        )
    now = SystemClock().now()
    requested = ReplayRange(
        since=moment(since, "--since", now),
        until=moment(until, "--until", now),
        from_id=from_id or "",
        subject=entity or "",
    )
    settings = prepare()
    run_async(
        lambda: _replay(settings, account, resource, group, requested, dry_run=dry_run, as_json=as_json)
    )


async def _replay(
    settings: Settings,
    account: str | None,
    resource: str | None,
    group: str,
    requested: ReplayRange,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    rows = []
    async with client_of(settings) as client:
        keys = await pick_keys(client, account, settings)
        result = await _read_by(Groups(client, keys), resource, group)
        async with nullcontext() if dry_run else recorded(client, keys):
            for name, group_there in result.items():
                kept = await _kept(client, keys.stream(name), group_there, requested)
                done = await replay(client, keys, name, group, requested, dry_run=dry_run)
                if done.replayed and not dry_run:
                    get_logger(account=keys.account).info(
                        "events_replayed",
                        resource=name,
                        group=group,
                        events=done.replayed,
                        pending=done.pending,
                    )
                rows.append((done, kept))
    if as_json:
        say_json([_row(done, kept, dry_run=dry_run) for done, kept in rows])
        return
    for done, kept in rows:
        say_lines(_summary(done, kept, dry_run=dry_run))


async def _read_by(groups: Groups, requested: str | None, name: str) -> dict[str, Group]:
    """Return the group by resource: in the named resource, or in every resource that it reads."""
    result = {
        resource: group
        for resource in ((requested,) if requested else RESOURCES)
        for group in (await groups.status(resource)).groups
        if group.name == name
    }
    if not result:
        near = nearest(name, await names_of_groups(groups))
        of = f" of {requested}" if requested else ""
        raise SettingsError(
            f"Unknown group {name!r}{of}.{near} To list the groups: ordersync groups. A new "
            "group starts with the oldest event in the stream and needs no replay."
        )
    return result


async def _kept(client: Redis, stream: str, group: Group, requested: ReplayRange) -> Kept:
    """Return the part of the requested range that can be replayed."""
    start, end = requested.first, requested.last
    if await client.xrange(stream, min=f"({group.delivered}", max=end, count=1):
        end = group.delivered  # the group has not read later entries
    first = await client.xrange(stream, min=start, max=end, count=1)
    last = await client.xrevrange(stream, min=start, max=end, count=1)
    oldest = await client.xrange(stream, count=1)
    if not oldest:
        return Kept("", "", "", gone=group.delivered != _NOTHING)
    ((oldest_id, fields),) = oldest
    before = start == "-" or _place(start) < _place(text(oldest_id))
    return Kept(
        first=text(first[0][0]) if first else "",
        last=text(last[0][0]) if last else "",
        oldest=text(oldest_id),
        gone=before and fields.get(b"sequence", b"").lstrip(b"0") != b"1",
    )


def _place(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def _row(done: ReplayResult, kept: Kept, *, dry_run: bool) -> dict[str, Any]:
    return {
        "resource": done.resource,
        "group": done.group,
        "dry_run": dry_run,
        "replayed": done.replayed,
        "pending": done.pending,
        "looked_at": done.looked_at,
        "first": kept.first or None,
        "first_time": _time(kept.first),
        "last": kept.last or None,
        "last_time": _time(kept.last),
        "oldest_kept": kept.oldest or None,
        "oldest_kept_time": _time(kept.oldest),
        "older_gone": kept.gone,
    }


def _summary(done: ReplayResult, kept: Kept, *, dry_run: bool) -> Iterator[str]:
    verb = "would be redelivered" if dry_run else "redelivered"
    text = f"{done.resource}: {_events(done.replayed)} {verb} to group {done.group}"
    if kept.first:
        text += f", among those published from {_time(kept.first)} to {_time(kept.last)}"
    if done.pending:
        text += (
            f"; {done.pending} left alone: already pending, so the group gets {_them(done.pending)} anyway"
        )
    yield text
    if kept.gone:
        older = (
            f"older than {_time(kept.oldest)} (entry {kept.oldest})" if kept.oldest else "published so far"
        )
        yield (
            f"  Events {older} were removed by retention and cannot be redelivered. To publish records as they are "
            f"now, run: ordersync resync {done.resource} --force, with --id, --since or --all"
        )


def _events(number: int) -> str:
    return f"{number} event{'' if number == 1 else 's'}"


def _them(number: int) -> str:
    return "it" if number == 1 else "them"


def _time(entry_id: str) -> str | None:
    return rfc3339(written_at(entry_id)) if entry_id else None
