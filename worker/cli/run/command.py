"""`ordersync run`."""

from __future__ import annotations

import signal
import sys
from contextlib import AsyncExitStack, nullcontext, suppress
from typing import TYPE_CHECKING

import click
import redis.exceptions

from ordersync_consumer.servers.cluster import at
from ordersync_consumer.servers.topology import SlotUnavailable
from worker import __version__
from worker.admin.redis_acl import check_usable
from worker.app import announce, deregister, redis_url
from worker.capture.state.given_out import GivenOut
from worker.capture.state.parked import apply_retries
from worker.capture.state.source import check_source
from worker.cli.common.options import prepare
from worker.cli.common.output import say_lines
from worker.cli.common.params import Integer, is_given, needs
from worker.cli.common.sandbox import LocalOrderMesh, sandbox_account
from worker.cli.common.streams import drop_rest
from worker.cli.run.account_watch import FEW_ACCOUNTS
from worker.cli.run.logins import log_in
from worker.cli.run.monitoring import USUAL_PORT, check_traces, watched
from worker.cli.run.once import PATIENCE, read_once
from worker.cli.run.sandbox_process import local_ordermesh
from worker.cli.run.serving import Serving, sample_of
from worker.clock import SystemClock
from worker.config.resources import SANDBOX_ACCOUNT
from worker.config.secret_files import advice_on, exposed_files
from worker.config.settings import Settings, load
from worker.config.urls import hide_password
from worker.errors import LoginRejected, OrderMeshError, RedisFull, RedisUnavailable, SourceMoved
from worker.redis import embedded
from worker.redis.connections import check_queue_address, check_server, wait_until_up
from worker.redis.refusals import explain, is_full
from worker.reporting import remember, worker_id
from worker.service.daemon import Daemon, has_terminal
from worker.service.loop import ended_by_sigterm, run_async
from worker.service.starting import starting
from worker.service.systemd import ServiceManager
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.config.sections import Account
    from worker.services import Services

MAX_GREETED = 3
"""Accounts that are described when the daemon starts at a terminal."""


@click.command(
    epilog="\b\nExamples:\n  ordersync run --sandbox\n  ordersync run\n  ordersync run --once --json"
)
@click.option("--sandbox", is_flag=True, help="Read a local OrderMesh whose orders keep changing.")
@click.option(
    "--orders",
    type=Integer(0, 10_000_000),
    default=300,
    show_default=True,
    help="With --sandbox: number of orders.",
)
@click.option("--once", is_flag=True, help="Read every resource completely, print a summary, and exit.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print the summary as JSON.")
@click.option("--no-wait", is_flag=True, help="With --once: do not wait until deletions are confirmed.")
def command(sandbox: bool, orders: int, once: bool, as_json: bool, no_wait: bool) -> None:
    """Run the daemon: read OrderMesh and publish every change, once and in order.

    Without ORDERSYNC_REDIS__URL, an embedded Valkey stores events and state in ORDERSYNC_DATA_DIR. The first SIGTERM
    or Ctrl-C finishes the current page and exits; a second one exits immediately. SIGHUP reads the settings, accounts,
    secrets and contract again.
    """
    needs("--orders", is_given("orders"), "--sandbox", sandbox)
    needs("--json", as_json, "--once", once)
    needs("--no-wait", no_wait, "--once", once)
    settings = prepare()
    run_async(
        lambda: ended_by_sigterm(
            _run(settings, sandbox=sandbox, orders=orders, once=once, as_json=as_json, wait=not no_wait)
        )
    )


async def _run(
    settings: Settings, *, sandbox: bool, orders: int, once: bool, as_json: bool, wait: bool
) -> None:
    clock, manager, hangups = SystemClock(), ServiceManager.of_environment(), Hangups(noted=not once)
    manager.status("starting: waiting for Redis, then logging in")
    async with AsyncExitStack() as stack:
        local = (
            await stack.enter_async_context(local_ordermesh(orders, settings.data_dir)) if sandbox else None
        )

        def read() -> tuple[Settings, Sequence[Account]]:
            return _with_accounts(load(), local)

        settings, accounts = _with_accounts(settings, local)
        if not once:
            check_traces(settings)
        for file in exposed_files(settings, accounts):
            get_logger().warning("settings_exposed", file=str(file), advice=advice_on(file))
        url = await stack.enter_async_context(redis_url(settings, alone=sandbox or not once))
        if not once:
            check_queue_address(settings.redis.queue_address or url)
        # Each sandbox begins anew, so it has published nothing before.
        given_out = GivenOut(None if sandbox else settings.data_dir)
        serving = await stack.enter_async_context(Serving((settings, accounts), read, url, given_out, clock))
        services = serving.services
        stack.callback(given_out.save, ended=True)
        async with nullcontext() if once else starting(settings.data_dir, worker_id(), clock):
            await _start(serving, url, clock, once=once, anew=local is not None)
        if once:
            await read_once(services, as_json=as_json, wait=wait)
        else:

            def greet(page: str) -> None:
                if not as_json:
                    _greet(settings, serving.accounts, url, local, page)

            await _daemon(serving, clock, manager, hangups, greet, usual_port=USUAL_PORT if local else None)


async def _start(serving: Serving, url: str, clock: SystemClock, *, once: bool, anew: bool) -> None:
    """Wait for Redis, check what can be checked, log in, and write down what other programs need to know.

    `anew`: what Redis has of the account of the sandbox is deleted.
    """
    services, redis_settings = serving.services, serving.settings.redis
    # The daemon serves the accounts of the nodes that answer, and takes up those of the others later.
    away: tuple[type[Exception], ...] = () if once else (SlotUnavailable,)
    await wait_until_up(services.redis, url, clock, patience=PATIENCE if once else None)
    try:
        await services.clock.sync()
        await check_server(services.redis, url)
        await serving.take_up_accounts()
        await check_usable(
            url,
            sample_of(services),
            queue=not once and redis_settings.queue_url is None,
            space=services.keys,
        )
        if anew:
            await _delete_state(services)
        await _check_sources(services, all_of_them=once)
        await _log_in(services, must_reach=once)
        with suppress(*away):
            await announce(services)
        await remember(services)
        for name in services.configured if once else sample_of(services):
            account = services.accounts[name]
            with suppress(*away):
                await (account.retention.run() if once else account.retention.declare())
                await apply_retries(services.redis, account.keys)
    except (redis.exceptions.RedisError, OSError) as error:
        if once or not is_full(error):
            raise RedisUnavailable(
                f"{hide_password(url)} failed during the start: {explain(error)}"
            ) from None
        get_logger().error(RedisFull.code, error=str(RedisFull()))


def _with_accounts(settings: Settings, local: LocalOrderMesh | None) -> tuple[Settings, Sequence[Account]]:
    if local:
        return settings, (sandbox_account(settings, local),)
    # Without a login there may be accounts in Redis, which nobody can read without a secret key.
    return settings, settings.accounts() if settings.has_accounts or settings.secret_key is None else ()


async def _daemon(
    serving: Serving,
    clock: SystemClock,
    manager: ServiceManager,
    hangups: Hangups,
    greet: Callable[[str], None],
    *,
    usual_port: int | None,
) -> None:
    await serving.check_queue()
    daemon = Daemon(
        worker_id=worker_id(),
        data_dir=serving.settings.data_dir,
        make_worker=serving.make_worker,
        wait_for_redis=serving.wait_for_redis,
        report=serving.report,
        clock_offset=serving.clock_offset,
        reload=serving.reload,
        grace=serving.settings.grace_seconds,
        clock=clock,
        manager=manager,
        in_terminal=hangups.in_terminal,
    )
    serving.serve(daemon)
    if hangups.seen:
        daemon.reload()
    try:
        async with watched(serving, daemon, usual_port=usual_port) as page:
            greet(page)
            await daemon.run()
    finally:
        await deregister(serving.services)


class Hangups:
    """Notes SIGHUP until the daemon takes it over: a reload during the start is made after it."""

    def __init__(self, *, noted: bool) -> None:
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup
        self.in_terminal = has_terminal() and not ignored
        self.seen = False
        if noted and not self.in_terminal:
            signal.signal(signal.SIGHUP, self._note)

    def _note(self, *_: object) -> None:
        self.seen = True


async def _check_sources(services: Services, *, all_of_them: bool) -> None:
    """Check that the state of the accounts comes from the gateways of the settings.

    A wrong one ends the start if `all_of_them` must be right, or no other account can be served; else its polls fail.
    """
    moved: list[SourceMoved] = []
    for name, account in services.configured.items():
        try:
            await check_source(services.redis, services.keys.of(name), account.api)
        except SourceMoved as error:
            moved.append(error)
        except SlotUnavailable:
            if all_of_them:
                raise
    if moved and (all_of_them or len(moved) == len(services.configured)):
        raise moved[0]


async def _log_in(services: Services, *, must_reach: bool) -> None:
    """Log in for every account, of many for the first ones: the others log in with their first poll.

    Rejected credentials end the start, unless another account can be served.
    An unreachable or failing gateway ends the start only if `must_reach` is set.
    """
    names = list(services.configured) if must_reach else sample_of(services)
    for start in range(0, len(names), FEW_ACCOUNTS):
        failed = await log_in(services, names[start : start + FEW_ACCOUNTS])
        refused = [error for error in failed.values() if isinstance(error, LoginRejected)]
        for name, error in failed.items():
            if must_reach or len(refused) == len(services.accounts):
                raise error
            if isinstance(error, OrderMeshError):
                get_logger(account=name).error(
                    "login_failed",
                    error=str(error),
                    error_code=error.code,
                    advice="The worker retries the login, and reads its secrets again. If `error` names another "
                    "setting, correct it and send SIGHUP.",
                )


async def _delete_state(services: Services) -> None:
    """Delete the state of the sandbox account: each sandbox starts with new orders."""
    base = services.keys.of(SANDBOX_ACCOUNT).base
    redis = at(services.redis, base)
    keys = [key async for key in redis.scan_iter(f"{base}*", count=1000)]
    for start in range(0, len(keys), 1000):
        await redis.unlink(*keys[start : start + 1000])


def _where(settings: Settings, url: str) -> str:
    if settings.redis.url:
        return hide_password(url)
    address = embedded.address_of(settings.data_dir, settings.embedded.port) or hide_password(url)
    return f"{address} (embedded Valkey; data in {settings.data_dir})"


def _greet(
    settings: Settings, accounts: Sequence[Account], url: str, local: LocalOrderMesh | None, page: str
) -> None:
    """Print for a user at a terminal what the daemon does, and the next command to type."""
    me = sys.argv[0] if "/" in sys.argv[0] and not sys.argv[0].endswith(".py") else "ordersync"
    where = f"the sandbox at {local.url}: {local.orders} made-up orders that keep changing" if local else ""
    lines = [f"ordermesh-sync {__version__}", ""]
    for account in accounts[:MAX_GREETED]:
        lines += [
            f"  OrderMesh  {where or account.api.base_url} (account {account.name})",
            f"  polling    {_every(account)}",
            f"             at most {account.api.requests_per_second:g} requests per second",
        ]
    if len(accounts) > MAX_GREETED:
        lines.append(f"  and {len(accounts) - MAX_GREETED} more accounts: {me} accounts list")
    if not accounts:
        lines.append(f"  no account yet. To add one: {me} accounts add NAME --client-id ID")
    lines += [
        f"  events     in Redis at {_where(settings, url)}",
        *([f"  page       {page}"] if page else []),
        "",
        "In a second terminal:",
        f"  {me} tail orders     events as they are published",
        f"  {me} status          health of each resource",
        "",
        "Press Ctrl-C to stop.",
        "",
    ]
    try:
        say_lines(lines)
    except OSError:  # the reader is gone or the disk is full; the daemon works without a greeting
        drop_rest(sys.stdout)


def _every(account: Account) -> str:
    """Return what is polled how often: resources with the same interval stand together."""
    names: dict[float, list[str]] = {}
    for name, seconds in account.intervals.items():
        names.setdefault(seconds, []).append(name)
    return "; ".join(f"{', '.join(group)} every {seconds:g} s" for seconds, group in names.items())
