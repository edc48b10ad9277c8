"""`ordersync schema`."""

from __future__ import annotations

from pathlib import Path

import click

from ordersync_consumer.resources import nearest
from worker import shipped
from worker.cli.common.output import say, say_lines, say_own
from worker.cli.render.tables import columns
from worker.errors import SettingsError


@click.command(
    epilog="\b\nExamples:\n  ordersync schema\n  ordersync schema order.1\n"
    "  ordersync schema accounts > accounts.schema.json\n  ordersync schema --output contracts"
)
@click.argument("name", required=False)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write the file to, or all of them without NAME.",
)
def command(*, name: str | None, output: Path | None) -> None:
    """Print a file that comes with the program, or list them: schemas, systemd unit, alerts, dashboard and others.

    NAME is a name of the list, with or without folder and ending.
    """
    known = shipped.files()
    chosen = known if name is None else [_find(name, known)]
    if output is not None:
        _write(chosen, output)
    elif name is None:
        say_lines(columns([(file.name, file.path, file.about) for file in known]))
    else:
        say_own(chosen[0].text(), newline=False)


def _find(name: str, known: list[shipped.ShippedFile]) -> shipped.ShippedFile:
    for file in known:
        if name in (file.name, file.path, Path(file.path).name):
            return file
    advice = nearest(name, [file.name for file in known]) or " To list them: ordersync schema"
    raise SettingsError(f"Unknown schema or file {name!r}.{advice}")


def _write(chosen: list[shipped.ShippedFile], folder: Path) -> None:
    for file in chosen:
        path = folder / file.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text(), encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"--output: {path} cannot be written: {error.strerror}") from None
        say(str(path))
