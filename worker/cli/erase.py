"""`ordersync erase`."""

from __future__ import annotations

from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from worker.admin.erase import Erasing, NothingToErase
from worker.capture.registry import RESOURCES
from worker.cli.common.options import pick_account, prepare
from worker.cli.common.output import say_json, say_lines
from worker.cli.common.params import RESOURCE, account_option, excludes
from worker.cli.common.recorded import recorded
from worker.cli.common.redis import ask_back, client_of
from worker.cli.render.tables import columns
from worker.cli.timeline import api_of
from worker.errors import SettingsError
from worker.redis.clock import RedisClock
from worker.reporting import worker_id
from worker.service.loop import run_async

if TYPE_CHECKING:
    from worker.admin.erase import Scope
    from worker.admin.erase_report import ErasureReport
    from worker.config.settings import Settings


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked for on the command line."""

    resource: str
    ids: tuple[str, ...]
    dry_run: bool
    forget: bool
    offline: bool
    yes: bool


@click.command(
    epilog="\b\nExamples:\n  ordersync erase 67789cd8912265b1f5000ba4 --dry-run\n"
    "  ordersync erase 67789cd8912265b1f5000ba4 67789cd8912265b1f5000ba5 --yes\n"
    "  ordersync erase --resource notes 67789cd8912265b1f5000c01\n"
    "  ordersync erase --forget 67789cd8912265b1f5000ba4"
)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--resource", type=RESOURCE, default="orders", show_default=True, help="Resource of the records."
)
@click.option("--dry-run", is_flag=True, help="Show what would be erased, and write nothing.")
@click.option("--forget", is_flag=True, help="Take the marks away, so that the records are published again.")
@click.option("--offline", is_flag=True, help="Do not ask OrderMesh what belongs to an order.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@account_option
def command(
    *,
    ids: tuple[str, ...],
    resource: str,
    dry_run: bool,
    forget: bool,
    offline: bool,
    yes: bool,
    as_json: bool,
    account: str | None,
) -> None:
    """Remove everything that Redis keeps of each record ID, and publish nothing of it any more.

    Of an order, its items, shipments, packages and notes are erased as well, and the audit logs of all. An event
    `erased`, with the id and nothing else, tells consumers. The records stay erased while OrderMesh serves them;
    erase them there as well. `--forget` ends that.

    The daemon may run meanwhile. A command that was interrupted is run again, and goes on. It needs the Redis user of
    the worker. With ORDERSYNC_REDIS__WAIT_REPLICAS it fails until so many replicas have erased the records as well. The
    output says what this command cannot reach, and what to do about it.

    Exits with 1 if Redis knows nothing of the records.
    """
    excludes("--yes", yes, "--dry-run", dry_run)
    if offline and resource != "orders":
        raise click.UsageError(
            "--offline has no effect without --resource orders: OrderMesh is asked what belongs to an order only."
        )
    names = tuple(dict.fromkeys(name.strip() for name in ids))
    if not all(names):
        raise SettingsError("An id is empty. Pass the ids of records as OrderMesh has them.")
    if resource not in RESOURCES:
        raise SettingsError(
            f"{resource!r} is not a resource with records of its own. Choose one of: {', '.join(RESOURCES)}."
        )
    settings = prepare(quiet=True)
    request = _Request(resource, names, dry_run, forget, offline, yes)
    run_async(lambda: _main(settings, request, account, as_json=as_json))


async def _main(settings: Settings, request: _Request, account: str | None, *, as_json: bool) -> None:
    async with client_of(settings) as client, AsyncExitStack() as stack:
        name = await pick_account(client, account, settings)
        clock = RedisClock(client)
        await clock.sync()
        api, remark = None, "OrderMesh was not asked what belongs to the records (--offline)."
        if not request.offline:
            api, remark = await api_of(settings, name, stack)
        keys = settings.redis.keys.of(name)
        erasing = Erasing(client, keys, api, clock, worker_id(), replicas=settings.redis.replicas)
        if remark and request.resource == "orders":
            erasing.remarks.append(remark)
        scope = await erasing.scope(request.resource, request.ids)
        if not await erasing.is_known(scope):
            raise NothingToErase(
                f"Redis keeps nothing of {', '.join(request.ids)} in {request.resource} of account {name}. Ids are "
                "those of OrderMesh; to find the id of an order by another one: ordersync timeline."
            )
        if request.forget:
            async with nullcontext() if request.dry_run else recorded(client, keys):
                await _forget(erasing, scope, request, name, as_json=as_json)
            return
        if request.dry_run:
            report = await erasing.preview(scope, request.ids)
        else:
            count = sum(map(len, scope.values()))
            ask_back(f"Erase {_records(count)} of account {name} for good?", yes=request.yes)
            async with recorded(client, keys):
                report = await erasing.erase(scope, request.ids)
    if as_json:
        say_json(_as_json(report, request, name))
    else:
        say_lines(_lines(report, request))


async def _forget(erasing: Erasing, scope: Scope, request: _Request, account: str, *, as_json: bool) -> None:
    if request.dry_run:
        report = await erasing.preview(scope, request.ids)
        count = sum(len(each.records) - each.marked for each in report.resources)
    else:
        count = await erasing.forget(scope)
    if as_json:
        say_json({"account": account, "dry_run": request.dry_run, "forgotten": count})
        return
    would = "would be" if request.dry_run else "are"
    say_lines(
        [f"{_records(count)} {would} no longer erased: the next full scan publishes what OrderMesh still has"]
    )


def _as_json(report: ErasureReport, request: _Request, account: str) -> dict[str, Any]:
    return {
        "account": account,
        "dry_run": request.dry_run,
        "resource": request.resource,
        "ids": list(request.ids),
        "resources": [each.as_json() for each in report.resources],
        "runs": report.runs,
        "resyncs": report.resyncs,
        "probes": report.probes,
        "elsewhere": [{"where": where, "do": do} for where, do in report.elsewhere.items()],
        "remarks": report.remarks,
    }


def _lines(report: ErasureReport, request: _Request) -> list[str]:
    rows = [
        (each.resource, str(len(each.records)), str(each.marked), str(each.events), str(each.dead_letters))
        for each in report.resources
        if each.marked or each.events or each.dead_letters
    ]
    head = ("resource", "records", "newly erased", "events removed", "dead letters removed")
    lines = (
        list(columns([head, *rows]))
        if rows
        else ["Redis keeps nothing more of the records than their marks."]
    )
    others = (
        ("run records", report.runs),
        ("resyncs", report.resyncs),
        ("journals of probes", report.probes),
    )
    if told := [f"{what} {count}" for what, count in others if count]:
        lines.append(f"Also removed, because they name an id: {', '.join(told)}.")
    if request.dry_run:
        lines.append("Nothing was written (--dry-run).")
    lines += ["", "Out of reach of this command:"]
    lines += [f"- {where}: {do}" for where, do in report.elsewhere.items()]
    return [*lines, *(["", *report.remarks] if report.remarks else [])]


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count} records"
