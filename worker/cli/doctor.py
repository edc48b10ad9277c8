"""`ordersync doctor`."""

from __future__ import annotations

import json
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click
import msgspec
import redis.exceptions

from worker.admin import checks
from worker.admin.finding import Finding, Severity
from worker.admin.redis_acl import check_rights
from worker.admin.state_checks import check_state
from worker.app import open_services, redis_url
from worker.service.loop import run_async
from worker.cli.common.options import prepare
from worker.clock import SystemClock
from worker.errors import OrdersyncError, SettingsError
from worker.redis.connections import connect
from worker.redis.refusals import explain
from worker.telemetry.log import redaction

if TYPE_CHECKING:
    from worker.clock import Clock
    from worker.config.sections import Account
    from worker.config.settings import Settings
    from worker.ordermesh.contract.findings import Capabilities
    from worker.services import AccountServices

_COLOURS = {Severity.OK: "green", Severity.NOTE: "blue", Severity.WARNING: "yellow", Severity.PROBLEM: "red"}


class Report:
    """The findings, which are printed as they are added, and the exit code of the command."""

    def __init__(self, *, quiet: bool) -> None:
        self.findings: list[Finding] = []
        self.contract: dict[str, dict[str, Capabilities]] = {}
        self._quiet = quiet

    @property
    def exit_status(self) -> int:
        """The exit code; 0 if the worker can do its job."""
        return max((f.exit_status for f in self.findings if f.level is Severity.PROBLEM), default=0)

    def stopped_since(self, count: int) -> bool:
        """Return True if one of the findings after the first `count` prevents further checks."""
        return any(finding.stops for finding in self.findings[count:])

    def add(self, finding: Finding) -> None:
        """Print a finding. A server may echo what was sent to it, so secrets are hidden."""
        finding = replace(finding, text=redaction.text(finding.text))
        self.findings.append(finding)
        if self._quiet:
            return
        where = f"{finding.account}: " if finding.account else ""
        word = click.style(f"{finding.level.value:<8}", fg=_COLOURS[finding.level])
        click.echo(f"{finding.area:<9} {word} {where}{finding.text}")
        if finding.advice:
            click.echo(f"{'':<18} -> {finding.advice}")

    def conclude(self) -> None:
        """Print the summary, or all findings as JSON."""
        problems = sum(finding.level is Severity.PROBLEM for finding in self.findings)
        warnings = sum(finding.level is Severity.WARNING for finding in self.findings)
        if self._quiet:
            answer = {
                "ok": not problems,
                "findings": [asdict(one) for one in self.findings],
                "contract": msgspec.to_builtins(self.contract),
            }
            click.echo(json.dumps(answer))
        elif problems:
            click.echo(f"\nThe worker cannot run: {_count(problems, 'problem')}.")
        else:
            extra = f"; {_count(warnings, 'warning')}" if warnings else ""
            click.echo(f"\nThe worker can run{extra}.")


@click.command(
    epilog="\b\nExamples:\n  ordersync doctor\n  ordersync doctor --json | jq '.findings[] | select(.level != \"ok\")'"
)
@click.option("--json", "as_json", is_flag=True, help="Print all findings as JSON.")
def command(as_json: bool) -> None:
    """Check everything that the worker needs: settings, login, contract, Redis, clocks.

    Sends only reads to OrderMesh, within the request budget, and stores its findings about the contract for the
    worker. Exits with 0 only if the worker can run.
    """
    report = Report(quiet=as_json)
    try:
        settings = prepare(quiet=True)
        run_async(lambda: _examine(settings, report))
    except OrdersyncError as error:
        area = "settings" if isinstance(error, SettingsError) else "redis"
        report.add(Finding(area, Severity.PROBLEM, str(error), exit_status=error.exit_status))
    except (redis.exceptions.RedisError, OSError) as error:  # it was reachable during the check
        report.add(Finding("redis", Severity.PROBLEM, f"the check failed: {explain(error)}", exit_status=3))
    report.conclude()
    sys.exit(report.exit_status)


async def _examine(settings: Settings, report: Report) -> None:
    clock = SystemClock()
    accounts = settings.accounts()
    for finding in checks.check_settings(settings, accounts):
        report.add(finding)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(redis_url(settings))
        if not await _examine_redis(settings, url, accounts, report):
            report.add(
                Finding("contract", Severity.NOTE, "login, contract and clocks cannot be checked without Redis")
            )  # fmt: skip
            return
        services = await stack.enter_async_context(open_services(accounts, url))
        await services.clock.sync()
        for account in services.accounts.values():
            async for finding in checks.check_workers(services.redis, account.keys):
                report.add(finding)
            await _examine_account(account, clock, report)


async def _examine_redis(settings: Settings, url: str, accounts: tuple[Account, ...], report: Report) -> bool:
    """Check Redis; return True if the other checks, which need the server for events and state, can be run."""
    names = [account.name for account in accounts]
    queue_url = settings.redis.queue_address
    before = len(report.findings)
    async for finding in checks.check_redis(url, "events and state"):
        report.add(finding)
    if not report.stopped_since(before):
        async for finding in check_rights(url, names, queue=queue_url is None, space=settings.redis.keys):
            report.add(finding)
    usable = not report.stopped_since(before)
    if usable:
        await _examine_state(url, settings, accounts, report)
    if queue_url is not None:
        before = len(report.findings)
        async for finding in checks.check_redis(queue_url, "arq's queue"):
            report.add(finding)
        if not report.stopped_since(before):
            async for finding in check_rights(queue_url, [], queue=True, space=settings.redis.keys):
                report.add(finding)
    return usable


async def _examine_state(url: str, settings: Settings, accounts: tuple[Account, ...], report: Report) -> None:
    client = connect(url)
    try:
        for account in accounts:
            async for finding in check_state(client, settings.redis.keys.of(account.name), account.api):
                report.add(finding)
    finally:
        await client.aclose()


async def _examine_account(account: AccountServices, clock: Clock, report: Report) -> None:
    before = len(report.findings)
    async for finding in checks.check_login(account, clock):
        report.add(finding)
    if any(finding.level is Severity.PROBLEM for finding in report.findings[before:]):
        return
    result = report.contract[account.account.name] = {}
    async for finding in checks.check_contract(account, result):
        report.add(finding)
    async for finding in checks.check_clock(account, result, clock):
        report.add(finding)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
