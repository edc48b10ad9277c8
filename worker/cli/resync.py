"""`ordersync resync` and `ordersync resyncs`."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import click
import msgspec

from ordersync_consumer.resources import check_resource
from worker.admin.operator_log import login_name
from worker.admin.polled import withdrawn
from worker.admin.resyncs import as_row
from worker.app import open_services
from worker.capture.registry import RESOURCES
from worker.capture.resync.requests import OVER, Resync, ResyncRequest, Resyncs, ResyncState
from worker.cli.common.options import pick_account, pick_keys, prepare
from worker.cli.common.output import say, say_json, say_lines
from worker.cli.common.params import RESOURCE, account_option, excludes
from worker.cli.common.recorded import recorded
from worker.cli.common.redis import client_of, moment
from worker.cli.common.sandbox import served_by
from worker.cli.render.tables import columns
from worker.clock import SystemClock, duration, rfc3339
from worker.errors import OrdersyncError, SettingsError
from worker.redis.connections import answer
from worker.redis.running import running_redis_url
from worker.service.loop import run_async

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.config.settings import Settings
    from worker.keys import Keys

LOOK_SECONDS = 0.5
IDLE_SECONDS = 15.0
"""Seconds after which `--wait` reports that no worker has started."""


class ResyncIncomplete(OrdersyncError):
    """A resync with `--wait` or `--dry-run` was cancelled, failed, or did not find some ids."""

    code = "resync_incomplete"


@click.command(
    epilog="\b\nExamples:\n  ordersync resync orders --id O04790082 --id 65add270441de72442397b6e --wait\n"
    "  ordersync resync orders --since 2h --dry-run\n"
    "  ordersync resync shipments --since 2026-03-01T00:00:00Z --until 2026-03-02T00:00:00Z --force\n"
    "  ordersync resync orders --ids-from orders.txt\n"
    "  ordersync resync orders --all --wait\n"
    "  ordersync resync orders --accept-deletes"
)
@click.argument("resource", type=RESOURCE)
@click.option("--id", "ids", multiple=True, help="Id, short id, safe id or external id; can be repeated.")
@click.option("--ids-from", type=click.File("rb"), help="File with one id per line; - for standard input.")
@click.option(
    "--since", help="Records modified since then: a time (2026-03-02T10:00:00Z) or an age (2h, 30min, 7d)."
)
@click.option("--until", help="Records modified until then.")
@click.option("--all", "everything", is_flag=True, help="All records.")
@click.option("--force", is_flag=True, help="Also publish records that have not changed.")
@click.option("--dry-run", is_flag=True, help="Print what would be published; publish nothing.")
@click.option("--wait", is_flag=True, help="Wait until the resync has finished, and show its progress.")
@click.option(
    "--accept-deletes",
    is_flag=True,
    help="Accept the result of the next full scan, however many records are gone.",
)
@click.option("--by", help="Who requests the resync.  [default: your login name and this host]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@account_option
def command(
    *,
    resource: str,
    ids: tuple[str, ...],
    ids_from: Any,
    since: str | None,
    until: str | None,
    everything: bool,
    force: bool,
    dry_run: bool,
    wait: bool,
    accept_deletes: bool,
    by: str | None,
    as_json: bool,
    account: str | None,
) -> None:
    """Read records of RESOURCE now, and publish those that changed.

    A worker does this in slices between its polls, with a share of the request budget (ORDERSYNC_RESYNC__SHARE). It
    survives restarts. Unchanged records are not published unless you pass --force.

    Exits with 1 if --wait or --dry-run finishes and some ids were not found.
    """
    check_resource(resource)
    settings, clock = prepare(quiet=True), SystemClock()
    if ids_from is not None:
        ids += _ids_in(ids_from)
    request = ResyncRequest(
        resource=resource,
        ids=tuple(dict.fromkeys(ids)),
        since=_time(since, "--since", clock.now()),
        until=_time(until, "--until", clock.now()),
        all=everything,
        force=force,
        by=by or login_name(),
    )
    if accept_deletes:
        if dry_run or wait or ids or since or until or everything or force or as_json:
            raise SettingsError(
                "--accept-deletes applies to the next full scan. Leave out the other options."
            )
        run_async(lambda: _accept(settings, request, account))
        return
    request.check()
    if dry_run and wait:
        raise SettingsError("--dry-run starts no resync to wait for. Leave out --wait.")
    excludes("--by", by is not None, "--dry-run", dry_run)
    if dry_run:
        run_async(lambda: _preview(settings, request, account, as_json=as_json))
    else:
        run_async(lambda: _ask(settings, request, account, wait=wait, as_json=as_json))


def _ids_in(file: IO[bytes]) -> tuple[str, ...]:
    """Return the ids in a file with one id per line."""
    try:
        lines = file.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SettingsError(f"--ids-from: {file.name} is not valid UTF-8: {error.reason}") from None
    result = tuple(line.strip() for line in lines if line.strip())
    if not result:
        raise SettingsError(f"--ids-from: {file.name} contains no ids.")
    return result


async def _accept(settings: Settings, request: ResyncRequest, requested: str | None) -> None:
    async with client_of(settings) as client:
        keys = await pick_keys(client, requested, settings)
        acceptance = msgspec.json.encode({"by": request.by, "at": SystemClock().now()}).decode()
        async with recorded(client, keys, by=request.by):
            await answer(client.hset(keys.accepted, request.resource, acceptance))
        await _say_if_idle(client, keys, request.resource, "there is no next full scan until one does")
    say(
        f"{keys.account}/{request.resource}: records that the next full scan does not return are read by id, and "
        "published as deleted if they are gone."
    )


async def _say_if_idle(client: Redis, keys: Keys, resource: str, consequence: str) -> None:
    """Say on stderr that no live worker polls the resource, and what follows."""
    for item in await withdrawn(client, keys, [resource]):
        say(f"{keys.account}/{item} is not polled by any live worker: {consequence}", err=True)


async def _preview(
    settings: Settings, request: ResyncRequest, requested: str | None, *, as_json: bool
) -> None:
    async with client_of(settings) as client:
        name = await pick_account(client, requested, settings)
        await _say_if_idle(
            client,
            settings.redis.keys.of(name),
            request.resource,
            "what is shown is not published without a resync",
        )
        account = (await served_by(settings, client)).accounts.get(name)
    if account is None:
        raise SettingsError(
            f"--dry-run reads OrderMesh directly, but the settings contain no login for account {name}."
        )
    async with open_services([account], running_redis_url(settings)) as services:
        await services.clock.sync()
        preview = await services.accounts[name].resyncer.preview(RESOURCES[request.resource], request)
    changes = preview.rows
    if as_json:
        say_json(changes)
    for change in changes if not as_json else ():
        what = f": {', '.join(change['changed'])}" if change["changed"] else ""
        say(f"{change['id']}  v{change['version']} {change['action']}{what}")
    events = "event" if len(changes) == 1 else "events"
    if not as_json:
        say(f"{len(changes)} {events} would be published.")
    if preview.missing:
        say(f"not found: {', '.join(preview.missing)}", err=True)
        raise ResyncIncomplete(f"{len(preview.missing)} of {len(request.ids)} ids were not found")


async def _ask(
    settings: Settings, request: ResyncRequest, requested: str | None, *, wait: bool, as_json: bool
) -> None:
    async with client_of(settings) as client:
        keys = await pick_keys(client, requested, settings)
        resyncs = Resyncs(client, keys)
        async with recorded(client, keys, by=request.by):
            resync = await resyncs.create(request, SystemClock().now())
        await _say_if_idle(
            client, keys, request.resource, "the resync reads it once, and later changes are not published"
        )
        if not wait:
            if as_json:
                say_json(as_row(keys.account, resync))
            else:
                say(_asked(keys.account, resync))
            return
        ended = await _wait(resyncs, resync, show=not as_json)
        if as_json:
            say_json(as_row(keys.account, ended))
        else:
            say_lines(_ended(keys.account, ended))
        if ended.state is not ResyncState.DONE:
            raise ResyncIncomplete(f"resync {ended.id} was {ended.state.value}")
        if ended.missed and request.ids:
            raise ResyncIncomplete(f"{ended.missed} of {len(request.ids)} ids were not found")
        if ended.passed_over:
            raise ResyncIncomplete(f"{ended.passed_over} known records were shown by no page")


async def _wait(resyncs: Resyncs, resync: Resync, *, show: bool) -> Resync:
    from rich.console import Console  # noqa: PLC0415 - takes time to import
    from rich.progress import (  # noqa: PLC0415 - as above
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    clock = SystemClock()
    began = clock.monotonic()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not show or not console.is_terminal) as progress:
        task = progress.add_task(f"resync {resync.id}", total=resync.total or None, rate="")
        reported, error = False, ""
        while True:
            now = await resyncs.get(resync.id)
            if now is None:
                raise ResyncIncomplete(f"resync {resync.id} no longer exists in Redis")
            passed = max(clock.monotonic() - began, 0.001)
            progress.update(
                task, completed=now.read, total=now.total or None, rate=f"{now.read / passed:.0f}/s"
            )
            if now.state in OVER:
                return now
            if now.error and now.error != error:
                say(f"Waiting: {now.error}", err=True)
            error = now.error
            if not reported and now.state is ResyncState.WAITING and passed > IDLE_SECONDS:
                reported = True
                say(
                    "No worker has started the resync yet. To see whether one is running: ordersync status",
                    err=True,
                )
            await clock.sleep(LOOK_SECONDS)


def _time(text: str | None, name: str, now: float) -> str:
    result = moment(text, name, now)
    return "" if result is None else rfc3339(result)


def _asked(account: str, resync: Resync) -> str:
    return (
        f"{account}/{resync.request.resource}: resync {resync.id} of {resync.request.description} is queued. To "
        "follow it: ordersync resyncs"
    )


def _ended(account: str, resync: Resync) -> list[str]:
    took = duration(max(0.0, resync.ended_at - resync.at))
    summary = (
        f"{account}/{resync.request.resource}: resync {resync.id} {resync.state.value}: {resync.read} read, "
        f"{resync.published} published, {resync.unchanged} unchanged, {resync.requests} requests in {took}"
    )
    others = [
        f"{resync.stale} older than what was published: the worker reads them by id next"
        if resync.stale
        else "",
        f"{resync.unreadable} unreadable: see ordersync dead list" if resync.unreadable else "",
        f"{resync.outside} outside the scope" if resync.outside else "",
        f"{resync.erased} erased" if resync.erased else "",
        f"{resync.by_id} read by their ids, since no page showed them: the list moved"
        if resync.by_id
        else "",
        f"{resync.passed_over} known records were on no page and cannot be read by their ids: run the resync again"
        if resync.passed_over
        else "",
    ]
    lines = [summary, *filter(None, others)]
    if resync.missed:
        more = " ..." if resync.missed > len(resync.missing) else ""
        lines.append(f"not found: {', '.join(resync.missing)}{more}")
    return lines


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  ordersync resyncs\n  ordersync resyncs --json\n  ordersync resyncs cancel 4f1c09ab\n"
    "  ordersync resyncs resume 4f1c09ab",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@account_option
@click.pass_context
def resyncs(ctx: click.Context, *, as_json: bool, account: str | None) -> None:
    """List the resyncs; cancel one, or resume a cancelled one."""
    if ctx.invoked_subcommand is not None:
        return
    settings = prepare(quiet=True)

    async def main() -> None:
        async with client_of(settings) as client:
            name = await pick_account(client, account, settings)
            rows = [as_row(name, item) for item in await Resyncs(client, settings.redis.keys.of(name)).all()]
        if as_json:
            say_json(rows)
        elif not rows:
            say(f"Account {name} has had no resync yet.")
        else:
            say_lines(_list(rows))

    run_async(main)


def _list(rows: list[dict[str, Any]]) -> list[str]:
    head = ("id", "resource", "what", "state", "done", "published", "by", "at")
    shown = [
        (
            row["id"],
            row["resource"],
            row["what"],
            f"{row['state']}: {row['error']}" if row["error"] else row["state"],
            "-" if row["share"] is None else f"{row['share'] * 100:.0f} %",
            str(row["published"]),
            row["by"],
            row["at"],
        )
        for row in rows
    ]
    return columns([head, *shown])


@resyncs.command(epilog="\b\nExample:\n  ordersync resyncs cancel 4f1c09ab")
@click.argument("name", metavar="ID")
@account_option
def cancel(name: str, account: str | None) -> None:
    """Cancel a resync. It ends after its current page; published events stay published."""
    _change(account, name, resume=False)


@resyncs.command(epilog="\b\nExample:\n  ordersync resyncs resume 4f1c09ab")
@click.argument("name", metavar="ID")
@account_option
def resume(name: str, account: str | None) -> None:
    """Resume a cancelled resync where it stopped."""
    _change(account, name, resume=True)


def _change(account: str | None, name: str, *, resume: bool) -> None:
    settings = prepare(quiet=True)

    async def main() -> None:
        async with client_of(settings) as client:
            chosen = await pick_account(client, account, settings)
            keys = settings.redis.keys.of(chosen)
            known = Resyncs(client, keys)
            async with recorded(client, keys):
                changed = await (known.resume(name) if resume else known.cancel(name, SystemClock().now()))
        what = "resumed" if resume else "cancelled"
        say(f"{chosen}/{changed.request.resource}: resync {name} {what}")

    run_async(main)
