"""The word list: which words it finds, where, and that no text that a user or operator reads escapes it."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from tools import words
from worker.cli import COMMANDS, cli
from worker.telemetry.catalog import EVENTS, FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(words.ROOT)


@pytest.mark.parametrize(
    "text",
    [
        "It is made if there is none.",
        "The argument is none.",
        "The value is no time.",
        "The request is not one.",
        "The filter does so no more.",
        "It is read anew.",
        "Try it once more.",
        "An entry of another hand.",
        "Somebody removed it.",
        "Nobody can be asked here.",
        "The cursor stands in Redis.",
        "It stood still.",
        "What stands among them.",
        "The worker is told.",
        "The gateway is ill.",
        "The filter holds.",
        "A record holds no id, and the gateway is away.\nThe lease is renewed.",
        "It lies behind the page.",
        "The worker starts again by itself.",
        "The value is\n  none.",
    ],
)
def test_a_word_of_the_list_is_found(text: str) -> None:
    """Each word is found once, also across a line break."""
    assert len(list(words.matches(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "There is no run yet.",
        "The group is no longer used.",
        "No more than 20.",
        "Another worker holds the lease on orders.",
        "The groups hold back the stream.",
        "An unreadable record does not hold up the others.",
        "client.orders.hold puts an order on hold: Customer Care Hold.",
        "UTC stands for universal time.",
        "The group has fallen so far behind that it lags behind the others.",
        "The gateway's clock is 1.2 s behind ours.",
        "Run it behind a reverse proxy.",
        "It works until the bill is paid: `not_told`.",
        "",
    ],
)
def test_idiomatic_english_is_not_found(text: str) -> None:
    """The same words where English has no better one, and parts of other words."""
    assert list(words.matches(text)) == []


MODULE = '''"""Nobody reads a module docstring here."""
import click

@group.command(epilog="Told at the end.")
@click.option("--x", help="The value holds.")
def command() -> None:
    """Show what stands here."""

class Gone(Exception):
    """Somebody dropped it."""
    def __init__(self, name: str) -> None:
        super().__init__(
            f"group {name} is gone: "
            f"{'it is ill' if name else name}. Create it anew."
        )

LogEvent("x", "It is told.")
log.warning("event", advice="read it " "once more")
raise SettingsError("the value is none" if x else "fine", told="told")
print("The rest, by itself")
'''


def test_where_it_looks() -> None:
    """Kind and line of each text of a module. Names and docstrings that only developers read are not checked."""
    found = {(each.line, each.kind, each.found) for each in words.check("worker/x.py", MODULE)}
    assert found == {
        (4, "help", "Told"),
        (5, "help", "holds"),
        (7, "help", "stands"),
        (14, "error", "ill"),
        (14, "error", "anew"),
        (17, "advice", "told"),
        (18, "advice", "once more"),
        (19, "error", "is none"),
        (20, "text", "by itself"),
    }
    docstrings = {each.line for each in words.check("worker/x.py", MODULE, docstrings=True)} - {
        line for line, _, _ in found
    }
    assert docstrings == {1, 10}


def test_a_finding_names_the_place_the_words_and_what_to_write() -> None:
    """One line that an editor can jump to."""
    (finding,) = words.check("docs/x.md", "# Title\n\nIt is tried\nonce more.\n")
    assert str(finding) == "docs/x.md:4: docs: 'once more': again (not idiomatic)"


def test_an_exception_is_for_one_file_and_must_be_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phrase is allowed in the file named beside it; when it has gone from there, the exception has to go too."""
    monkeypatch.setattr(words, "ALLOWED", {("docs/x.md", "is told"): "the server says so"})
    assert list(words.check("docs/x.md", "The server is told.")) == []
    assert len(list(words.check("docs/y.md", "The server is told."))) == 1
    (finding,) = words.check("docs/x.md", "The server says so.")
    assert finding.kind == "exception"


def test_exit_code_and_paths(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exits with 1 for findings, with 0 for none; paths limit what is checked."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "x.md").write_text("It is told.\n")
    (tmp_path / "README.md").write_text("All is well.\n")
    monkeypatch.setattr(words, "ROOT", tmp_path)
    assert words.main([]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 in docs"
    assert words.main(["README.md"]) == 0
    assert words.main(["docs"]) == 1


# That nothing escapes


@functools.cache
def texts_of_the_code() -> list[words.Text]:
    sources = [
        (ROOT / path).read_text(encoding="utf-8") for path in words.files(ROOT) if path.endswith(".py")
    ]
    return [text for source in sources for text in words.texts_of_code(source)]


def escaping(shown: Iterable[str], *kinds: str) -> list[str]:
    """Lines that a person sees, and that are in none of the texts of the code of these kinds."""
    checked = [_flat(text.value) for text in texts_of_the_code() if text.kind in kinds]
    whole = "\n".join(checked)
    templates = [text for text in checked if "{}" in text and len(text) > 20]
    filled_in = [re.compile(re.escape(text).replace(r"\{\}", ".*")) for text in templates]
    lines = [_flat(line) for text in shown for line in text.splitlines() if " " in line.strip()]
    return [
        line for line in lines if line not in whole and not any(each.fullmatch(line) for each in filled_in)
    ]


def _flat(text: str) -> str:
    return " ".join(text.replace("\b", "").split())


def helps(command: click.Command) -> Iterator[str]:
    """Every text that --help of a command and of those below it shows."""
    yield from (command.help or "", command.epilog or "")
    yield from (parameter.help or "" for parameter in command.params if isinstance(parameter, click.Option))
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from helps(inner)


def test_every_help_text_is_checked() -> None:
    """What click shows is what the checker has read. Some examples are put together from a table."""
    shown = list(helps(cli))
    assert len(shown) > 150
    assert escaping(shown, "help", "text") == []


def test_the_list_of_commands_is_checked() -> None:
    """The short help of each command is in a table of its own."""
    assert escaping((text for _, text in COMMANDS.values()), "text") == []


def test_every_text_of_the_log_catalogue_is_checked() -> None:
    """Meaning and action of each event, meaning of each field."""
    shown = [text for event in EVENTS.values() for text in (event.meaning, event.action)]
    assert escaping([*shown, *(field.meaning for field in FIELDS.values())], "advice") == []


def test_a_text_that_is_not_in_the_code_escapes() -> None:
    """The three tests above can fail."""
    assert escaping(["This text is nowhere."], "help", "text", "advice") == ["This text is nowhere."]
