"""`ordersync run`."""

from __future__ import annotations

import signal
import sys
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import click
import redis.exceptions
from pydantic import SecretStr

from worker import __version__
from worker.admin.redis_acl import check_usable
from worker.app import announce, deregister, redis_url
from worker.reporting import remember, worker_id
from worker.service.loop import ended_by_sigterm, run_async
from worker.capture.state.given_out import GivenOut
from worker.capture.state.source import check_source
from worker.cli.common.options import prepare
from worker.cli.run.monitoring import watched
from worker.cli.run.once import PATIENCE, read_once
from worker.cli.run.sandbox_process import LocalOrderMesh, local_ordermesh
from worker.cli.run.serving import Serving
from worker.clock import SystemClock
from worker.config.resources import SANDBOX_ACCOUNT
from worker.config.sections import Account, PollSettings
from worker.config.settings import Settings, hide_password, load
from worker.errors import LoginRejected, OrderMeshError, RedisFull, RedisUnavailable, SourceMoved
from worker.redis.connections import check_server, wait_until_up
from worker.redis.refusals import explain, is_full
from worker.service.daemon import Daemon, has_terminal
from worker.service.systemd import ServiceManager
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.services import Services

SANDBOX_INTERVAL = 5.0


@click.command(
    epilog="\b\nExamples:\n  ordersync run --sandbox\n  ordersync run\n  ordersync run --once --json"
)
@click.option("--sandbox", is_flag=True, help="Read a local OrderMesh whose orders keep changing.")
@click.option(
    "--orders",
    type=click.IntRange(0, 10_000_000),
    default=3000,
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
        local = await stack.enter_async_context(local_ordermesh(orders)) if sandbox else None

        def read() -> tuple[Settings, Sequence[Account]]:
            return _with_accounts(load(), local)

        settings, accounts = _with_accounts(settings, local)
        url = await stack.enter_async_context(redis_url(settings, alone=sandbox or not once))
        # Each sandbox begins anew, so it has published nothing before.
        given_out = GivenOut(None if sandbox else settings.data_dir)
        serving = await stack.enter_async_context(Serving((settings, accounts), read, url, given_out, clock))
        services = serving.services
        stack.callback(given_out.save, ended=True)
        await wait_until_up(services.redis, url, clock, patience=PATIENCE if once else None)
        try:
            await services.clock.sync()
            await check_server(services.redis, url)
            await check_usable(
                url,
                services.accounts,
                queue=not once and settings.redis.queue_url is None,
                space=services.keys,
            )
            if local:
                await _delete_state(services)
            await _check_sources(services, all_of_them=once)
            await _log_in(services, must_reach=once)
            await announce(services)
            await remember(services)
            for account in services.accounts.values():
                await (account.retention.run() if once else account.retention.declare())
        except (redis.exceptions.RedisError, OSError) as error:
            if once or not is_full(error):
                raise RedisUnavailable(
                    f"{hide_password(url)} failed during the start: {explain(error)}"
                ) from None
            get_logger().error(RedisFull.code, error=str(RedisFull()))
        if once:
            await read_once(services, as_json=as_json, wait=wait)
        else:
            if not as_json:
                _greet(settings, accounts, url, local)
            await _daemon(serving, clock, manager, hangups)


def _with_accounts(settings: Settings, local: LocalOrderMesh | None) -> tuple[Settings, Sequence[Account]]:
    return settings, (_sandbox_account(settings, local),) if local else settings.accounts()


async def _daemon(serving: Serving, clock: SystemClock, manager: ServiceManager, hangups: Hangups) -> None:
    await serving.check_queue()
    daemon = Daemon(
        worker_id=worker_id(),
        data_dir=serving.settings.data_dir,
        make_worker=serving.make_worker,
        wait_for_redis=serving.wait_for_redis,
        report=serving.report,
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
        async with watched(serving, daemon):
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
    for account in services.accounts.values():
        try:
            await check_source(services.redis, account.keys, account.account.api)
        except SourceMoved as error:
            moved.append(error)
    if moved and (all_of_them or len(moved) == len(services.accounts)):
        raise moved[0]


async def _log_in(services: Services, *, must_reach: bool) -> None:
    """Log in for every account. Rejected credentials end the start, unless another account can be served.

    An unreachable or failing gateway ends the start only if `must_reach` is set.
    """
    refused: list[LoginRejected] = []
    for account in services.accounts.values():
        try:
            await account.client.tokens.get()
        except OrderMeshError as error:
            if isinstance(error, LoginRejected):
                refused.append(error)
            if must_reach or len(refused) == len(services.accounts):
                raise
            get_logger(account=account.account.name).error(
                "login_failed",
                error=str(error),
                error_code=error.code,
                advice="The worker retries the login, and reads its secrets again. If `error` names another setting, "
                "correct it and send SIGHUP.",
            )


def _sandbox_account(settings: Settings, local: LocalOrderMesh) -> Account:
    api = settings.api.model_copy(
        update={
            "base_url": local.url,
            "client_id": local.client_id,
            "client_secret": SecretStr(local.client_secret),
        }
    )
    chosen = settings.poll.intervals or settings.poll.preset != "orders"
    poll = settings.poll if chosen else PollSettings(intervals={"orders": SANDBOX_INTERVAL})
    return Account(
        SANDBOX_ACCOUNT,
        api,
        poll.chosen,
        settings.poll.ignore_fields,
        confirm_deletes=settings.poll.confirm_deletes,
        since=settings.poll.since_ms,
        snapshot=settings.poll.snapshot,
        keys=settings.redis.keys,
        reconcile=settings.reconcile,
        interest=settings.interest,
        privacy=settings.privacy,
        events=settings.events,
        retention=settings.retention,
        backpressure=settings.backpressure,
        resync=settings.resync,
    )


async def _delete_state(services: Services) -> None:
    """Delete the state of the sandbox account: each sandbox starts with new orders."""
    keys = [
        key
        async for key in services.redis.scan_iter(f"{services.keys.of(SANDBOX_ACCOUNT).base}*", count=1000)
    ]
    for start in range(0, len(keys), 1000):
        await services.redis.unlink(*keys[start : start + 1000])


def _greet(settings: Settings, accounts: Sequence[Account], url: str, local: LocalOrderMesh | None) -> None:
    """Print for a user at a terminal what the daemon does, and the next command to type."""
    me = sys.argv[0] if "/" in sys.argv[0] and not sys.argv[0].endswith(".py") else "ordersync"
    where = f"the sandbox at {local.url}: {local.orders} made-up orders that keep changing" if local else ""
    lines = [f"ordermesh-sync {__version__}", ""]
    for account in accounts:
        every = ", ".join(f"{name} every {seconds:g} s" for name, seconds in account.intervals.items())
        lines += [
            f"  OrderMesh  {where or account.api.base_url} (account {account.name})",
            f"  polling    {every}, at most {account.api.requests_per_second:g} requests per second",
        ]
    kept = "" if settings.redis.url else f" (embedded Valkey; data in {settings.data_dir})"
    lines += [
        f"  events     in Redis at {hide_password(url)}{kept}",
        "",
        "In a second terminal:",
        f"  {me} tail orders     events as they are published",
        f"  {me} status          health of each resource",
        "",
        "Press Ctrl-C to stop.",
        "",
    ]
    with suppress(OSError):  # the reader is gone or the disk is full; the daemon works without a greeting
        click.echo("\n".join(lines))
