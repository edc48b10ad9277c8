"""`ordersync doctor`."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click
import msgspec
import redis.exceptions

from ordersync_consumer.resources import nearest
from ordersync_consumer.servers.address import Kind, parse
from worker.admin import checks, clock_checks, redis_checks
from worker.admin.finding import Finding, Severity
from worker.admin.redis_acl import check_rights
from worker.admin.state_checks import check_state
from worker.admin.survey import MANY
from worker.app import open_services, redis_url
from worker.cancellation import end
from worker.capture.registry import RESOURCES
from worker.cli.common.options import prepare
from worker.cli.common.output import Styled, say, say_json, say_lines, styled
from worker.cli.common.params import ACCOUNT, Number
from worker.cli.common.sandbox import accounts_of, served_by
from worker.cli.render.folding import folded
from worker.clock import SystemClock
from worker.errors import OrdersyncError, SettingsError
from worker.ordermesh.http.waits import Waits, noted_in
from worker.redis.connections import NO_QUEUE, connect
from worker.redis.refusals import explain
from worker.service.loop import run_async
from worker.telemetry.log import redaction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.clock import Clock
    from worker.config.sections import Account
    from worker.config.settings import Settings
    from worker.ordermesh.contract.findings import Capabilities
    from worker.ordermesh.http.waits import Wait
    from worker.services import AccountServices

_COLOURS = {Severity.OK: "green", Severity.NOTE: "blue", Severity.WARNING: "yellow", Severity.PROBLEM: "red"}
_TEXT = 19
"""Column in which the text of a finding begins, after its area and its level."""

MAX_SECONDS = 15.0
"""Seconds for which the command checks; it names what it has not checked by then."""
MAX_SILENCE = 10.0
"""Seconds for which a gateway may answer nothing before its checks end."""
MAX_PAUSE = 2.0
"""Seconds. If OrderMesh asks for a longer pause, the check says so instead of waiting."""


class Report:
    """The findings, which are printed as they are added, and the exit code of the command."""

    def __init__(self, *, quiet: bool) -> None:
        self.findings: list[Finding] = []
        self.contract: dict[str, dict[str, Capabilities]] = {}
        self.left: list[tuple[Account, list[str]]] | None = None
        """What is not checked yet of each account: login, contract of each resource, clock; None while Redis is."""
        self._quiet = quiet
        self._unchecked = 0

    @property
    def exit_status(self) -> int:
        """The exit code; 0 if the worker can do its job."""
        return max((f.exit_status for f in self.findings if f.level is Severity.PROBLEM), default=0)

    def out_of_time(self, seconds: float) -> None:
        """Name what was not checked within so many seconds: a problem if the worker needs it, else a note."""
        text = f"not checked within {seconds:g} s:"
        if self.left is None:
            self._add_unchecked("redis", Severity.PROBLEM, f"{text} Redis, logins and contracts")
        for account, left in self.left or ():
            if left:
                self._add_unchecked(
                    "contract", _level_of(account, left), f"{text} {', '.join(left)}", account.name
                )

    def _add_unchecked(self, area: str, level: Severity, text: str, account: str = "") -> None:
        self._unchecked += level is Severity.PROBLEM
        named = f" --account {shlex.quote(account)}" if account else ""
        advice = f"to check it: ordersync doctor{named} --timeout 120"
        self.add(Finding(area, level, text, advice, account))

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
        word = styled(f"{finding.level.value:<8}", _COLOURS[finding.level])
        # Of these errors only those of the settings, which are the operator's own, have several lines.
        first, *more = finding.text.split("\n") if finding.area == "settings" else [finding.text]
        self._say(f"{finding.area:<9} ", word, f" {where}{first}")
        for line in more:
            self._say(f"{'':<{_TEXT}}{line.lstrip()}")
        if finding.advice:
            say(f"{'':<{_TEXT}}-> {finding.advice}")  # in one piece, so that its command can be copied

    def _say(self, *line: str | Styled) -> None:
        """Print a line, folded to the width of a terminal that has room for the text."""
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        say_lines(folded(line, width, indent=_TEXT) if width >= 2 * _TEXT else [line])

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
            say_json(answer)
        elif problems:
            say()
            is_known = problems > self._unchecked
            verdict = "The worker cannot run" if is_known else "Not all that the worker needs was checked"
            say(f"{verdict}: {_count(problems, 'problem')}.")
        else:
            extra = f"; {_count(warnings, 'warning')}" if warnings else ""
            say()
            say(f"The worker can run{extra}.")


@click.command(
    epilog="\b\nExamples:\n  ordersync doctor\n  ordersync doctor --json | jq '.findings[] | select(.level != \"ok\")'"
)
@click.option(
    "--account",
    "requested",
    type=ACCOUNT,
    multiple=True,
    help="Check this account; may be given several times.",
)
@click.option(
    "--timeout",
    type=Number(1, 3600),
    metavar="SECONDS",
    help=f"End the check after so many seconds and name what was not checked.  [default: {MAX_SECONDS:g}]",
)
@click.option("--json", "as_json", is_flag=True, help="Print all findings as JSON.")
def command(*, requested: tuple[str, ...], timeout: float | None, as_json: bool) -> None:
    """Check everything that the worker needs: settings, login, contract, Redis, clocks.

    Sends only reads to OrderMesh, within the request budget, and stores its findings about the contract for the
    worker. Exits with 0 only if the worker can run. What is polled is checked first. Of more than 20 accounts it checks
    the first 20; --account checks others.
    """
    report = Report(quiet=as_json)
    try:
        settings = prepare(quiet=True)
        run_async(lambda: _examine(settings, report, requested, timeout or MAX_SECONDS))
    except OrdersyncError as error:
        area = "settings" if isinstance(error, SettingsError) else "redis"
        report.add(Finding(area, Severity.PROBLEM, str(error), exit_status=error.exit_status))
    except (redis.exceptions.RedisError, OSError) as error:  # it was reachable during the check
        report.add(Finding("redis", Severity.PROBLEM, f"the check failed: {explain(error)}", exit_status=3))
    report.conclude()
    sys.exit(report.exit_status)


async def _examine(settings: Settings, report: Report, requested: Sequence[str], seconds: float) -> None:
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    try:
        own = accounts_of(settings)
    except SettingsError:
        if settings.has_accounts or settings.secret_key is None:
            raise
        own = ()  # they may be in Redis
    shown = _some({account.name: account for account in own}, requested)
    for finding in checks.check_settings(settings, shown):
        report.add(finding)
    async with redis_url(settings) as url:
        check = asyncio.ensure_future(_examine_servers(settings, url, shown, requested, report))
        try:
            await asyncio.wait([check], timeout=deadline - clock.monotonic())
            if check.done():
                await check
            else:
                report.out_of_time(seconds)
        finally:
            await end(check)


async def _examine_servers(
    settings: Settings, url: str, shown: tuple[Account, ...], requested: Sequence[str], report: Report
) -> None:
    """Check Redis, and then the gateway of each account."""
    if not await _examine_redis(settings, url, shown, report):
        report.add(
            Finding("contract", Severity.NOTE, "login, contract and clocks cannot be checked without Redis")
        )  # fmt: skip
        return
    served = await _served(settings, url, report, requested)
    async with open_services(served, url) as services:
        await services.clock.sync()
        report.left = [(account, _all_of(account)) for account in served]
        for account, left in report.left:
            examined = services.accounts[account.name]
            async for finding in clock_checks.check_workers(services.redis, examined.keys):
                report.add(finding)
            await _examine_account(examined, left, report)
            left.clear()


def _all_of(account: Account) -> list[str]:
    """Return what is checked of an account at its gateway, in order: what the worker needs comes first."""
    return ["login", *sorted(RESOURCES, key=lambda name: name not in account.intervals), "clock"]


def _some(accounts: Mapping[str, Account], requested: Sequence[str]) -> tuple[Account, ...]:
    """Return the requested accounts, else the first ones."""
    if requested:
        return tuple(accounts[name] for name in dict.fromkeys(requested) if name in accounts)
    return tuple(accounts.values())[:MANY]


async def _served(
    settings: Settings, url: str, report: Report, requested: Sequence[str]
) -> tuple[Account, ...]:
    """Return the accounts to check, of the settings and in Redis, and report those that cannot be served.

    Raises:
        SettingsError: There is no account, or no such account.

    """
    client = connect(url)
    try:
        served = await served_by(settings, client)
    finally:
        await client.aclose()
    for name, problem in served.problems.items():
        text = f"this account in Redis is not served: {problem}"
        report.add(Finding("settings", Severity.WARNING, text, "ordersync accounts list", name))
    for name in requested:
        if name not in served.accounts and name not in served.problems:
            raise SettingsError(f"Unknown account {name!r}.{nearest(name, served.accounts)}")
    if not requested and len(served.accounts) > MANY:
        text = (
            f"there are {len(served.accounts)} accounts; login and contract of the first {MANY} are checked"
        )
        report.add(Finding("settings", Severity.NOTE, text, "for others: ordersync doctor --account NAME"))
    return _some(served.accounts, requested)


async def _examine_redis(settings: Settings, url: str, accounts: tuple[Account, ...], report: Report) -> bool:
    """Check Redis; return True if the other checks, which need the server for events and state, can be run."""
    names = [account.name for account in accounts]
    queue_url = settings.redis.queue_address
    is_cluster = parse(url).kind is Kind.CLUSTER
    if is_cluster and queue_url is None:
        text, _, advice = NO_QUEUE.partition(". ")
        report.add(
            Finding("settings", Severity.PROBLEM, text, advice[:1].lower() + advice[1:], exit_status=2)
        )
    before = len(report.findings)
    async for finding in redis_checks.check_redis(url, "events and state"):
        report.add(finding)
    if not report.stopped_since(before):
        async for finding in check_rights(
            url, names, queue=queue_url is None and not is_cluster, space=settings.redis.keys
        ):
            report.add(finding)
    usable = not report.stopped_since(before)
    if usable:
        await _examine_state(url, settings, accounts, report)
    if queue_url is not None:
        before = len(report.findings)
        async for finding in redis_checks.check_redis(queue_url, "arq's queue"):
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


async def _examine_account(account: AccountServices, left: list[str], report: Report) -> None:
    """Check the gateway of an account, as long as it answers; remove from `left` what is checked."""
    clock = SystemClock()
    client, waits, began = account.client, Waits(), clock.monotonic()
    client.patience = MAX_PAUSE
    with noted_in(waits):
        check = asyncio.ensure_future(_examine_gateway(account, left, clock, report))
    try:
        while not check.done():
            await asyncio.wait([check], timeout=MAX_SILENCE / 40)
            if not check.done() and clock.monotonic() - max(began, client.answered_at) >= MAX_SILENCE:
                _report_silence(report, account, left, client.wait_of(waits))
                return
        await check
    finally:
        await end(check)


def _level_of(account: Account, left: list[str]) -> Severity:
    """Return how much it matters that `left` was not checked: a problem if the worker needs some of it."""
    is_needed = any(each == "login" or each in account.intervals for each in left)
    return Severity.PROBLEM if is_needed else Severity.NOTE


def _report_silence(report: Report, account: AccountServices, left: list[str], wait: Wait | None) -> None:
    name, why = account.account.name, f": {wait.cause.rstrip('.')}" if wait else ""
    report.add(
        Finding(
            "contract" if name in report.contract else "login",
            _level_of(account.account, left),
            f"OrderMesh has answered no request for {MAX_SILENCE:.0f} s, so this check was not finished{why}",
            "wait until OrderMesh answers, then run: ordersync doctor",
            name,
            3,
        )
    )


async def _examine_gateway(account: AccountServices, left: list[str], clock: Clock, report: Report) -> None:
    before = len(report.findings)
    async for finding in checks.check_login(account, clock):
        report.add(finding)
    if any(finding.level is Severity.PROBLEM for finding in report.findings[before:]):
        return
    left.remove("login")
    result = report.contract[account.account.name] = {}
    async for finding in checks.check_contract(account, left, result):
        report.add(finding)
    async for finding in clock_checks.check_clock(account, result, clock):
        report.add(finding)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
