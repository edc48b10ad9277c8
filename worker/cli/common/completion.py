"""`ordersync completion`, and what is offered where a resource, an account or a group is expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from redis import Redis

VARIABLE = "_ORDERSYNC_COMPLETE"
"""Set by the shell when it asks what may come next."""
TIMEOUT = 0.5
"""Seconds that Redis may take: somebody waits with a finger on the key."""
_INSTALL = {
    "bash": 'eval "$(ordersync completion bash)"    # in ~/.bashrc; bash 4.4 or newer',
    "zsh": 'eval "$(ordersync completion zsh)"     # in ~/.zshrc, behind compinit',
    "fish": "ordersync completion fish | source    # in ~/.config/fish/config.fish",
}


@click.command(
    epilog="\b\nExamples:\n  ordersync completion bash > /etc/bash_completion.d/ordersync\n"
    + "\n".join(f"  {line}" for line in _INSTALL.values())
)
@click.argument("shell", type=click.Choice(list(_INSTALL)))
def command(shell: str) -> None:
    """Print what a SHELL needs to complete commands, options, resources, accounts and groups.

    Accounts and groups are those of the Redis that the settings lead to, where it answers within half a second.
    """
    group = click.get_current_context().find_root().command
    made = get_completion_class(shell)(group, {}, "ordersync", VARIABLE)  # type: ignore[misc] # a Choice, so it is there
    click.echo(made.source())


def teach(taught: click.Command) -> click.Command:
    """Let the parameters of a command offer what there is. Only for the process of a shell that asks."""
    for param in taught.params:
        offer = _offer_of(param)
        if offer is not None:
            param.shell_complete = _completing(offer)  # type: ignore[assignment, method-assign] # of this process alone
    for inner in getattr(taught, "commands", {}).values():
        teach(inner)
    return taught


def _offer_of(param: click.Parameter) -> Callable[[], Iterable[str]] | None:
    if param.name in {"resource", "resources"} or (
        param.name == "words" and "RESOURCE" in str(param.metavar)
    ):
        return _resources
    return {"account": _accounts, "group": _groups}.get(param.name or "")


def _completing(offer: Callable[[], Iterable[str]]) -> Callable[[click.Context, str], list[CompletionItem]]:
    def complete(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(item) for item in offer() if item.startswith(incomplete)]

    return complete


def _resources() -> Iterable[str]:
    from worker.config.sections import RESOURCES  # noqa: PLC0415 - takes time to import

    return RESOURCES


def _accounts() -> Iterable[str]:
    return _from_redis(lambda redis, _: _names(redis))


def _groups() -> Iterable[str]:
    def look(redis: Redis, requested: str) -> Iterable[str]:
        from worker.keys import Keys  # noqa: PLC0415 - as above

        known = _names(redis)
        result: set[str] = set()
        for account in [requested] if requested in known else known:
            for resource in _resources():
                key = Keys(account).stream(resource)
                if redis.exists(key):
                    groups: Any = redis.xinfo_groups(key)
                    result |= {item["name"].decode("utf-8", "replace") for item in groups}
        return sorted(result)

    return _from_redis(look)


def _names(redis: Redis) -> list[str]:
    from worker.keys import ACCOUNTS  # noqa: PLC0415 - as above

    members: Any = redis.smembers(ACCOUNTS)
    return sorted(name.decode() for name in members)


def _from_redis(look: Callable[[Redis, str], Iterable[str]]) -> Iterable[str]:
    """What `look` finds, by a client and the account of the settings; nothing where anything is wrong."""
    try:
        import redis  # noqa: PLC0415 - takes time to import

        from worker.app import running_redis_url  # noqa: PLC0415 - as above
        from worker.config import settings  # noqa: PLC0415 - as above

        loaded = settings.load()
        with redis.Redis.from_url(
            running_redis_url(loaded), socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT
        ) as client:
            return look(client, loaded.account)
    except Exception:  # noqa: BLE001 - a line that is being typed is no place for an error
        return []
