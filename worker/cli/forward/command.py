"""`ordersync forward`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio
import click

from ordersync_consumer.cancellation import plain_errors
from worker.cli.common.options import prepare
from worker.cli.common.params import Integer, Number, account_option
from worker.cli.consume import options as shared
from worker.cli.consume.batches import FailureThrottle
from worker.cli.consume.session import consume_until_signal
from worker.cli.forward.address import check_address, shown
from worker.cli.forward.lanes import Forwarding
from worker.cli.forward.receiver import Receiver, Target
from worker.cli.forward.signature import key_of
from worker.clock import SystemClock
from worker.service.loop import run_async
from worker.telemetry.log import get_logger, redaction

if TYPE_CHECKING:
    from worker.cli.consume.batches import EventFeed
    from worker.config.settings import Settings

_UNLIMITED = 2**31
"""Attempts that the consumer makes: which of them count is decided here, by the answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardOptions(shared.GroupOptions):
    """The options of the command line; `command` describes them."""

    address: str
    several: int | None
    timeout: float


@click.command(
    epilog="\b\nExamples:\n"
    "  ordersync forward --group shop --to https://shop.example/events orders\n"
    "  ordersync forward --group search --to http://127.0.0.1:9200/in --batch 100 products variants\n\n"
    "\b\nExit codes: 0 ended by a signal, or --once with no events left; 1 the receiver is gone (410), with --once it\n"
    "  takes no events, or the group was dropped; 2 wrong usage (address, unknown resource, name used by another\n"
    "  process); 3 Redis is unreachable at the start."
)
@shared.resources_argument
@shared.group_option
@click.option(
    "--to", "address", metavar="URL", required=True, help="Address that gets the events, with POST."
)
@shared.consumer_option
@click.option(
    "--batch",
    "several",
    type=Integer(1),
    help="Send lists of up to N events, in the batched format of CloudEvents.  [default: one event in each request]",
)
@shared.parallel_option(help="Number of requests at the same time.")
@click.option(
    "--timeout",
    type=Number(0.1, 600),
    default=30.0,
    show_default=True,
    help="Seconds that a request may take.",
)
@shared.max_deliveries_option("attempts that the receiver refuses")
@shared.begin_option
@shared.once_option
@shared.grace_option(help="Seconds that running requests have to finish when `forward` stops.")
@click.option("--allow-http", is_flag=True, help="Permit http:// to other machines.")
@account_option
def command(*, several: int | None, allow_http: bool, **options: Any) -> None:
    """Send the events of RESOURCEs (orders) to an HTTP address, each as a CloudEvent in JSON.

    An event is acknowledged when the receiver answers 2xx. Otherwise it is sent again with growing pauses, while later
    events of the same entity wait. The receiver may ask for a pause with Retry-After. An event that it refuses
    --max-deliveries times becomes a dead letter; while it takes no events at all, none does.

    Each request has webhook-id, webhook-timestamp and, with ORDERSYNC_FORWARD__SECRET, webhook-signature, after
    Standard Webhooks. An event may be sent twice, with the same webhook-id: the receiver remembers it to have each
    effect once.

    Redirects are not followed. On SIGTERM or Ctrl-C running requests finish; all other events are returned to the
    group.
    """
    check_address(options["address"], allow_http=allow_http)
    settings = prepare()
    requested = ForwardOptions(several=several, batch=several or 1, **options)
    run_async(
        lambda: consume_until_signal(
            settings,
            replace(requested, max_deliveries=_UNLIMITED),
            lambda feed: _work(feed, settings, requested),
            exclusive=requested.parallel > 1,
        )
    )


async def _work(feed: EventFeed, settings: Settings, requested: ForwardOptions) -> None:
    clock, address = SystemClock(), shown(requested.address)
    secrets = settings.forward.secrets()
    for secret in secrets:
        redaction.add(secret)
    if not secrets:
        get_logger().warning(
            "forward_unsigned",
            advice="Anybody who knows the address can send events to it. Set ORDERSYNC_FORWARD__SECRET.",
        )
    throttle = FailureThrottle(
        feed.stopping,
        event="receiver_fails",
        advice=f"See why {address} does not answer with 2xx.",
    )
    forwarding = Forwarding(
        feed,
        throttle,
        clock,
        address=address,
        limit=requested.batch,
        max_deliveries=requested.max_deliveries,
        once=requested.once,
    )
    target = Target(
        requested.address,
        tuple(map(key_of, secrets)),
        batch=requested.several is not None,
        timeout=requested.timeout,
    )

    async def lane() -> None:
        async with Receiver(target, clock) as receiver:
            await forwarding.lane(receiver)

    with plain_errors():
        async with anyio.create_task_group() as tasks:
            for _ in range(requested.parallel):
                tasks.start_soon(lane)
