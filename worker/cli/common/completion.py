"""`ordersync completion`. The type of a parameter defines its completions: see `params`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from worker.cli.common.output import say_own

VARIABLE = "_ORDERSYNC_COMPLETE"
"""Variable that the shell sets when it requests completions."""
_INSTALL = {
    "bash": 'eval "$(ordersync completion bash)"    # in ~/.bashrc; bash 4.4 or newer',
    "zsh": 'eval "$(ordersync completion zsh)"     # in ~/.zshrc, after compinit',
    "fish": "ordersync completion fish | source    # in ~/.config/fish/config.fish",
}


@click.command(
    epilog="\b\nExamples:\n  ordersync completion bash > /etc/bash_completion.d/ordersync\n"
    + "\n".join(f"  {line}" for line in _INSTALL.values())
)
@click.argument("shell", type=click.Choice(list(_INSTALL)))
def command(shell: str) -> None:
    """Print the script with which SHELL completes commands, options, resources, accounts and groups.

    Accounts and groups are read from the configured Redis if it responds within half a second.
    """
    group = click.get_current_context().find_root().command
    made = get_completion_class(shell)(group, {}, "ordersync", VARIABLE)  # type: ignore[misc] # a Choice, so it is there
    say_own(made.source())
