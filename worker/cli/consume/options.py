"""The options that the commands that consume, `consume` and `forward`, share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ordersync_consumer.resources import check_resource
from worker.cli.common.params import GROUP, RESOURCE, Integer, Number

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOptions:
    """The values of the options that every command that consumes has."""

    resources: tuple[str, ...]
    group: str
    name: str | None
    batch: int
    parallel: int
    max_deliveries: int
    begin: str
    once: bool
    grace: float
    account: str | None


def _resources(
    _context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the resources to read, the orders if none is named.

    Raises:
        SettingsError: A name is unknown.

    """
    for name in names:
        check_resource(name)
    return names or ("orders",)


resources_argument = click.argument(
    "resources", type=RESOURCE, metavar="[RESOURCE]...", nargs=-1, callback=_resources
)
group_option = click.option(
    "--group",
    "-g",
    type=GROUP,
    required=True,
    help="Consumer group. Receives every event once. Created if it does not exist.",
)
consumer_option = click.option(
    "--name",
    help="Name of this consumer: unique in the group, and the same after a restart.  [default: the host]",
)
begin_option = click.option(
    "--from",
    "begin",
    type=click.Choice(["0", "$"]),
    default="0",
    show_default=True,
    help="Where a new group starts: the oldest event in the stream, or the next new one.",
)
once_option = click.option("--once", "--no-wait", is_flag=True, help="Exit when no events are left.")


def parallel_option(*, help: str) -> Callable[[Any], Any]:  # noqa: A002 - the list of words looks for this name
    """Return the option with the number of what runs at the same time, with its help text."""
    return click.option("--parallel", type=Integer(1), default=1, show_default=True, help=help)


def max_deliveries_option(attempts: str) -> Callable[[Any], Any]:
    """Return the option with the number of `attempts` of an event."""
    return click.option(
        "--max-deliveries",
        type=Integer(1),
        default=5,
        show_default=True,
        help=f"Number of {attempts} before an event becomes a dead letter.",
    )


def grace_option(*, help: str) -> Callable[[Any], Any]:  # noqa: A002 - as above
    """Return the option with the time that the command has to end in order, with its help text."""
    return click.option("--grace", type=Number(0), default=20.0, show_default=True, help=help)
