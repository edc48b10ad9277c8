"""`ordersync dead`: list, show, replay and drop dead letters."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from ordersync_consumer.dead import DELIVERY
from ordersync_consumer.envelope import FIELDS
from worker.admin.dead_letters import KINDS, DeadLetterAdmin, Selection
from worker.cli.common.options import pick_keys, prepare
from worker.cli.common.output import say, say_json, say_lines
from worker.cli.common.params import GROUP, RESOURCE, account_option
from worker.cli.common.recorded import recorded
from worker.cli.common.redis import ask_back, check_resource, client_of, reader_of
from worker.cli.render.tables import columns
from worker.clock import SystemClock, duration
from worker.config.resources import RESOURCES
from worker.errors import NotReplayable, OrdersyncError, SettingsError
from worker.service.loop import run_async

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ordersync_consumer.dead import DeadLetter

_COLUMNS = ("resource", "id", "kind", "group", "subject", "attempts", "age", "reason")
_MAX_REASON = 100
_TOLD = 10
_ATTRIBUTES = tuple(name for name in FIELDS if name != "data")
_LETTER_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


def select(
    words: Sequence[str], *, every: bool | None = None, group: str | None = None, kind: str | None = None
) -> Selection:
    """Return the selection that the arguments of a command line mean.

    Args:
        words: Ids of dead letters, and the name of a resource.
        every: Whether `--all` was passed; None if the command does not have it.
        group: Value of `--group`.
        kind: Value of `--kind`.

    Raises:
        SettingsError: A word is neither an id nor a resource.
        click.UsageError: The arguments are ambiguous.

    """
    ids = tuple(dict.fromkeys(word for word in words if _LETTER_ID.fullmatch(word)))
    names = [word for word in words if word in RESOURCES]
    for word in words:
        if word not in ids and word not in names:
            raise SettingsError(
                f"{word!r} is neither the id of a dead letter, such as 1772448067513-0, nor a resource "
                f"({', '.join(RESOURCES)}). To list the ids: ordersync dead list."
            )
    if len(names) > 1:
        raise click.UsageError("Name one resource, or leave it out for all of them.")
    if every is not None and every == bool(ids):
        raise click.UsageError("Pass either the IDs of dead letters, or --all.")
    if ids and (group or kind):
        raise click.UsageError("--group and --kind can only be combined with --all.")
    return Selection(names[0] if names else None, ids, group or "", kind or "")


class LettersStay(OrdersyncError):
    """Some dead letters could not be replayed."""

    code = "letters_stay"

    def __init__(self, stay: Sequence[tuple[DeadLetter, str]]) -> None:
        details = "".join(
            f"\n  {letter.resource} {letter.letter_id}: {reason}" for letter, reason in stay[:_TOLD]
        )
        more = f"\n  and {len(stay) - _TOLD} more" if len(stay) > _TOLD else ""
        super().__init__(f"{counted(len(stay))} cannot be replayed:{details}{more}")


@click.group(
    name="dead",
    epilog="\b\nExamples:\n  ordersync dead list\n  ordersync dead show 1772448067513-0\n"
    "  ordersync dead replay --all --group warehouse\n  ordersync dead drop 1772448067513-0",
)
def command() -> None:
    """List, show, replay or drop dead letters.

    There are two kinds: a `delivery` is an event that a group failed to handle in all its attempts, a `record` is an
    OrderMesh record that could not be read.
    """


def _with_picks(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        account_option,
        click.option("--kind", type=click.Choice(KINDS), help="Only dead letters of this kind."),
        click.option("--group", "-g", type=GROUP, help="Only dead letters of this group."),
    ):
        function = option(function)
    return function


@command.command(
    name="list",
    epilog="\b\nExamples:\n  ordersync dead list orders --group warehouse\n"
    "  ordersync dead list --json | jq -r '.[].subject'",
)
@click.argument("resource", type=RESOURCE, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_with_picks
def list_letters(
    *, resource: str | None, group: str | None, kind: str | None, account: str | None, as_json: bool
) -> None:
    """List the dead letters of one RESOURCE, or of all, the oldest first."""
    check_resource(resource)
    settings = prepare(quiet=True)

    async def main() -> None:
        async with reader_of(settings) as client:
            letters = DeadLetterAdmin(client, await pick_keys(client, account, settings))
            result = await letters.pick(Selection(resource, (), group or "", kind or ""))
        now = SystemClock().now()
        if as_json:
            say_json([_row(letter, now) for letter in result])
        elif result:
            say_lines(columns([_COLUMNS, *(_cells(letter, now) for letter in result)]))
        else:
            say("No dead letters match." if resource or group or kind else "There are no dead letters.")

    run_async(main)


@command.command(
    epilog="\b\nExamples:\n  ordersync dead show 1772448067513-0\n"
    "  ordersync dead show 1772448067513-0 --json | jq .data"
)
@click.argument("words", type=RESOURCE, metavar="[RESOURCE] ID", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@account_option
def show(*, words: tuple[str, ...], as_json: bool, account: str | None) -> None:
    """Show one dead letter: the reason, its traceback, and the complete event or record."""
    picked = select(words)
    if len(picked.ids) != 1:
        raise click.UsageError("Pass the ID of one dead letter. To list the ids: ordersync dead list.")
    settings = prepare(quiet=True)

    async def main() -> None:
        async with reader_of(settings) as client:
            letters = DeadLetterAdmin(client, await pick_keys(client, account, settings))
            letter = await letters.find(picked.ids[0], picked.resource)
        if as_json:
            say_json(_whole(letter))
        else:
            say_lines(_lines(letter))

    run_async(main)


@command.command(
    epilog="\b\nExamples:\n  ordersync dead replay 1772448067513-0\n"
    "  ordersync dead replay --all orders --group warehouse"
)
@click.argument("words", type=RESOURCE, metavar="ID... | --all [RESOURCE]", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All dead letters, of one RESOURCE or of all.")
@_with_picks
def replay(
    *, words: tuple[str, ...], every: bool, group: str | None, kind: str | None, account: str | None
) -> None:
    """Retry dead letters, and remove those whose retry has started.

    An event is redelivered to its group only: the same entry, marked as replayed, with its attempts counted from
    zero. An event that retention has removed from the stream cannot be redelivered; its dead letter is kept. A record
    is read again by the next full scan.
    """
    picked = select(words, every=every, group=group, kind=kind)
    settings = prepare()

    async def main() -> None:
        done: list[DeadLetter] = []
        stay: list[tuple[DeadLetter, str]] = []
        async with client_of(settings) as client:
            keys = await pick_keys(client, account, settings)
            letters = DeadLetterAdmin(client, keys)
            async with recorded(client, keys):
                for letter in await letters.pick(picked):
                    try:
                        await letters.replay(letter)
                    except NotReplayable as error:
                        stay.append((letter, str(error)))
                    else:
                        done.append(letter)
                await letters.log("dead_letters_replayed", done)
        if done or not stay:
            say(_replayed(done))
        if stay:
            raise LettersStay(stay)

    run_async(main)


@command.command(
    epilog="\b\nExamples:\n  ordersync dead drop 1772448067513-0\n"
    "  ordersync dead drop --all orders --kind record --yes"
)
@click.argument("words", type=RESOURCE, metavar="ID... | --all [RESOURCE]", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All dead letters, of one RESOURCE or of all.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@_with_picks
def drop(
    *,
    words: tuple[str, ...],
    every: bool,
    yes: bool,
    group: str | None,
    kind: str | None,
    account: str | None,
) -> None:
    """Delete dead letters permanently. Their events stay in the stream until retention removes them."""
    picked = select(words, every=every, group=group, kind=kind)
    settings = prepare()

    async def main() -> None:
        async with client_of(settings) as client:
            keys = await pick_keys(client, account, settings)
            letters = DeadLetterAdmin(client, keys)
            result = await letters.pick(picked)
            if result:
                ask_back(f"Drop {counted(len(result))} permanently?", yes=yes)
            async with recorded(client, keys):
                dropped = await letters.drop(result)
                await letters.log("dead_letters_dropped", result)
        say(f"{counted(dropped)} dropped")

    run_async(main)


def counted(letters: int) -> str:
    """Return the number of dead letters as text."""
    return f"{letters} dead letter{'' if letters == 1 else 's'}"


def _row(letter: DeadLetter, now: float) -> dict[str, Any]:
    return {
        "resource": letter.resource,
        "id": letter.letter_id,
        "kind": letter.kind,
        "group": letter.group or None,
        "consumer": letter.consumer or None,
        "subject": letter.subject,
        "where": letter.where,
        "time": letter.time,
        "age_s": round(max(0.0, now - letter.written_at), 1),
        "attempts": letter.attempts,
        "reason": letter.reason,
    }


def _cells(letter: DeadLetter, now: float) -> tuple[str, ...]:
    reason = letter.reason
    if len(reason) > _MAX_REASON:
        reason = f"{reason[: _MAX_REASON - 3]}..."
    return (
        letter.resource, letter.letter_id, letter.kind, letter.group or "-", letter.subject or "-",
        str(letter.attempts) if letter.kind == DELIVERY else "-", duration(max(0.0, now - letter.written_at)), reason,
    )  # fmt: skip


def _whole(letter: DeadLetter) -> dict[str, Any]:
    row = _row(letter, SystemClock().now())
    row["trace"] = letter.trace
    if letter.event is not None:
        row["event"] = {name: getattr(letter.event, name) for name in _ATTRIBUTES}
        if letter.event.previous:
            row["event"]["previous"] = _parsed(letter.event.previous.encode())
    row["data"] = _parsed(letter.data)
    return row


def _parsed(data: bytes) -> Any:
    """Return decoded JSON; text if it is not JSON."""
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")


def _lines(letter: DeadLetter) -> list[str]:
    whole = _whole(letter)
    event, trace = whole.pop("event", {}), whole.pop("trace")
    del whole["age_s"], whole["data"]
    whole |= {f"event {name}": value for name, value in event.items() if name != "subject"}
    shown = {name: value for name, value in whole.items() if value not in (None, "", [], ())}
    width = max(map(len, shown))
    lines = [f"{name:<{width}}  {_text(value)}" for name, value in shown.items()]
    if trace:
        lines += ["", *_indented(trace)]
    return [*lines, "", *_indented(letter.data.decode("utf-8", "replace"))]


def _indented(text: str) -> list[str]:
    """Return the lines of foreign text, none of which looks like a line above it."""
    return [f"  {line}" for line in text.splitlines()]


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _replayed(done: Sequence[DeadLetter]) -> str:
    """Return a summary of the replayed dead letters."""
    groups: dict[str, int] = {}
    for letter in done:
        groups[letter.group] = groups.get(letter.group, 0) + 1
    records = groups.pop("", 0)
    parts = [f"{events} to group {group}" for group, events in groups.items()]
    if records:
        parts.append(f"{records} to be read again by the next full scan")
    return f"{counted(len(done))} replayed" + (f": {', '.join(parts)}" if parts else "")
