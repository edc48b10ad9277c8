"""Everything that the commands print. No other module of the command line writes to stdout or stderr.

Most of what is shown was written by others: ids, names, messages of servers. So every line is made printable here, as
a whole: a line break in a value cannot begin a line of its own, and the only escape sequences of a terminal are those
of `styled`. Secrets are hidden where the words are kept (`worker.telemetry.words`), not here.
"""

from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import click
import msgspec

from worker.printable import printable, printable_json

if TYPE_CHECKING:
    from collections.abc import Iterable


class Styled(msgspec.Struct, frozen=True):
    """A part of a line that is shown in a colour, or bold, where the output is a terminal."""

    text: str
    colour: str | None = None
    bold: bool | None = None


Line: TypeAlias = "str | tuple[str | Styled, ...]"
"""A line of output: text, or parts of it that follow each other."""


def styled(text: str, colour: str | None = None, *, bold: bool | None = None) -> Styled:
    """Return a part of a line in a colour of click."""
    return Styled(text, colour, bold)


def rendered(line: Line) -> str:
    """Return a line as it is written to a terminal."""
    parts = (line,) if isinstance(line, str) else line
    return "".join(
        click.style(printable(part.text), fg=part.colour, bold=part.bold)
        if isinstance(part, Styled)
        else printable(part)
        for part in parts
    )


def say(*parts: str | Styled, err: bool = False) -> None:
    """Print one line, to stderr with `err`."""
    click.echo(rendered(parts), err=err)


def say_lines(lines: Iterable[Line]) -> None:
    """Print lines in one piece."""
    click.echo("\n".join(map(rendered, lines)))


def say_json(value: Any) -> None:
    """Print a value as JSON on one line, in ASCII."""
    say_json_text(json.dumps(value))


def say_json_text(text: str) -> None:
    """Print JSON as it is, on one line, in UTF-8."""
    click.echo(printable_json(text).encode())


def say_own(text: str, *, newline: bool = True) -> None:
    """Print text of this program exactly, such as a script for a shell. Nothing in it may have come from elsewhere."""
    click.echo(text, nl=newline)


def complain(text: str) -> None:
    """Print the error that ends a command to stderr, if that can be written to. Its further lines are indented."""
    first, *more = text.split("\n")
    with suppress(OSError):
        say(first, err=True)
        for line in more:
            say(f"  {line.lstrip()}", err=True)


def complain_of_usage(error: click.ClickException) -> None:
    """Print wrong usage to stderr, after the usage of the command, if that can be written to.

    A group without a command prints its help, and a missing option what to type for it.
    """
    shown = io.StringIO()
    error.show(shown)
    usage, _, _ = shown.getvalue().partition("Error: ")
    with suppress(OSError):
        click.echo(usage, nl=False, err=True)
        if not isinstance(error, click.exceptions.NoArgsIsHelpError):
            say(f"Error: {' '.join(_message_of(error).split())}", err=True)


def _message_of(error: click.ClickException) -> str:
    """Return the message of click; of a missing option how it is written, and its help."""
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Option) and error.ctx:
        option = error.param
        return f"Missing option {option.opts[0]} {option.make_metavar(error.ctx)}: {option.help}"
    return error.format_message()


def ask_secret(question: str) -> str:
    """Ask for a secret at the terminal, without showing what is typed."""
    return str(click.prompt(printable(question), hide_input=True, err=True))


def ask(question: str) -> None:
    """Ask for confirmation on the terminal.

    Raises:
        click.Abort: The answer is no.

    """
    click.confirm(printable(question), abort=True)
