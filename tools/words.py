"""Find words that this project does not use in help texts, log advice, error messages and documentation.

    python -m tools.words                  what `make lint` runs
    python -m tools.words worker/cli       only below these paths
    python -m tools.words --docstrings     docstrings too

In the code it reads every string literal with a space in it, since a person may read each of them, and the docstrings
that click shows as help. Each finding is one line: file:line, kind of text, the words, and what to write instead.
To allow a phrase in one file, such as the text of a server, add it to ALLOWED with the reason.
"""

from __future__ import annotations

import ast
import re
import sys
from argparse import ArgumentParser
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
CODE = ("worker", "jobs", "consumer")
DOCS = ("*.md", "consumer/*.md", "docs/**/*.md", "deploy/**/*.md", ".github/**/*.md", ".github/**/*.yml")

ALLOWED: dict[tuple[str, str], str] = {}
"""(file, phrase on one line of it) -> reason. A phrase that is no longer in its file is a finding."""


@dataclass(frozen=True, slots=True)
class Word:
    """A pattern, what to write instead, and why. `unless`: a pattern that makes the sentence acceptable."""

    pattern: str
    instead: str
    reason: str
    unless: str = ""


_NOUN = "negate the verb, not the noun"
_ACTOR = "name the actor"
_PLACE = "a word of place for what has no place"
_IDIOM = "not idiomatic"
_METAPHOR = "a private metaphor"

WORDS = (
    Word(r"(is|are|was|were|be) none", "does not exist, is not one, there is no X", _NOUN),
    Word(r"(is|are|was|were) no (?!longer|more|one\b)\w+", "is not a X, does not, cannot", _NOUN),
    Word(r"(is|are) not one", "name the noun: is not a valid X", "a pronoun without its noun"),
    Word(r"no more", "no longer, not any more", _IDIOM),
    Word(r"anew", "again", _IDIOM),
    Word(r"once more", "again", _IDIOM),
    Word(r"of another hand", "foreign, not written by this program", _METAPHOR),
    Word(r"(some|no)body", "the worker, the group, a user; no process, no one", _ACTOR),
    Word(r"stands?|stood", "is, is stored, is written, appears, stops", _PLACE),
    Word(r"standing (in|among|at|under|behind|beside)", "in, among, at; drop the verb", _PLACE),
    Word(r"told", "log, report, say, notify", _ACTOR),
    Word(r"ill", "failing, unhealthy, unavailable", _METAPHOR),
    Word(
        r"(?-i:holds?)",
        "contains, is valid, works, is honoured, compares",
        "only locks, leases and claims are held",
        unless=r"\b(lock|lease|claim)",
    ),
    Word(r"behind", "after, below", _PLACE),
    Word(r"by (itself|themselves)", "automatically, alone, without help", _ACTOR),
)
IDIOMS = (
    r"there (is|are|was|were) no",
    r"(is|are) not one of",
    r"no more than",
    r"(stand|stands|stood) (for|by|out)",
    r"holds? (back|up)|on hold|\.hold",
    r"(lag|lags|lagging|fall|falls|fell|far|left|leave|leaves|s) behind",
    r"behind (an?|the|your) ([\w-]+ )?(proxy|load balancer|firewall|ingress|gateway)",
)
"""Where the words of the list are good English. The last but one includes a clock that is `1.2 s behind`."""

_PATTERNS = [
    *(f"(?:{idiom})" for idiom in IDIOMS),
    *(f"(?P<w{n}>{word.pattern})" for n, word in enumerate(WORDS)),
]
_ANY = re.compile(rf"\b(?:{'|'.join(_PATTERNS)})\b".replace(" ", " +"), re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n\s*\n")


@dataclass(frozen=True, slots=True)
class Text:
    """A text that a person may read. `line` and `source`: where it begins, and the lines that it is written on."""

    kind: str
    value: str
    line: int
    source: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Words in a file that should be others."""

    path: str
    line: int
    kind: str
    found: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}: {self.found!r}: {self.advice}"


def matches(text: str) -> Iterator[tuple[int, str, Word]]:
    """Yield the offset of each unwanted phrase of a text, the phrase, and its entry in WORDS."""
    flat = re.sub(r"\s", " ", text)
    ends = [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    for match in _ANY.finditer(flat):
        if match.lastgroup is None:
            continue
        word = WORDS[int(match.lastgroup[1:])]
        start = max((end for end in ends if end <= match.start()), default=0)
        sentence = flat[start : min(end for end in ends if end > match.start())]
        if not (word.unless and re.search(word.unless, sentence, re.IGNORECASE)):
            yield match.start(), " ".join(match[0].split()), word


def texts_of_code(source: str) -> Iterator[Text]:
    """Yield the texts of a Python module. Kinds: help, advice, error, docstring, and text for all others."""
    lines = source.splitlines()
    nodes: list[tuple[ast.AST, str]] = [(ast.parse(source), "text")]
    while nodes:
        node, kind = nodes.pop()
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        ):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            value = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
            if " " in value:
                yield Text(kind, value, node.lineno, lines[node.lineno - 1 : node.end_lineno])
        nodes += (
            (child, _kind(node, child) or kind)
            for child in ast.iter_child_nodes(node)
            if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant))
        )


def _kind(parent: ast.AST, child: ast.AST) -> str:
    """Return the kind of the texts in a node; empty if it is that of its parent."""
    match parent, child:
        case ast.FunctionDef(decorator_list=by), ast.Expr(ast.Constant()) if _names(by) & {
            "command",
            "group",
        }:
            return "help"
        case _, ast.Expr(ast.Constant()):
            return "docstring"
        case _, ast.keyword("help" | "epilog" | "short_help"):
            return "help"
        case _, ast.keyword("advice") | ast.Call(ast.Name("LogEvent" | "LogField")):
            return "advice"
        case _, ast.Raise() | ast.Call(ast.Attribute(ast.Call(ast.Name("super")), "__init__")):
            return "error"
    return "error" if isinstance(child, ast.Call) and _name(child).endswith("Error") else ""


def _names(nodes: Iterable[ast.AST]) -> set[str]:
    return {_name(node) for node in nodes}


def _name(node: ast.AST) -> str:
    """Return the last part of the name that is called or referred to."""
    match node:
        case ast.Call():
            return _name(node.func)
        case ast.Attribute():
            return node.attr
        case ast.Name():
            return node.id
    return ""


def check(path: str, source: str, *, docstrings: bool = False) -> Iterator[Finding]:
    """Yield the findings in one file: a Python module, or a document, which is one text."""
    for (file, phrase), reason in ALLOWED.items():
        if file == path:
            if phrase not in source:
                yield Finding(path, 1, "exception", phrase, f"not found; remove it from ALLOWED ({reason})")
            source = source.replace(phrase, " " * len(phrase))
    lines = source.splitlines()
    texts = texts_of_code(source) if path.endswith(".py") else [Text("docs", source, 1, lines)]
    for text in texts:
        if text.kind == "docstring" and not docstrings:
            continue
        for offset, found, word in matches(text.value):
            at = _line(text, offset, found)
            yield Finding(path, at, text.kind, found, f"{word.instead} ({word.reason})")


def _line(text: Text, offset: int, found: str) -> int:
    """Return the line of a phrase. The lines of a literal are not those of its value, so it is searched for."""
    if text.kind == "docs":
        return text.line + text.value.count("\n", 0, offset)
    earlier = sum(found in line for line in text.value[:offset].splitlines())
    candidates = [text.line + n for n, line in enumerate(text.source) if found in line]
    return candidates[min(earlier, len(candidates) - 1)] if candidates else text.line


def files(root: Path) -> Iterator[str]:
    """Yield the paths that are checked, relative to the root of the repository."""
    paths = {path for folder in CODE for path in (root / folder).rglob("*.py")}
    paths |= {path for pattern in DOCS for path in root.glob(pattern)}
    yield from sorted(path.relative_to(root).as_posix() for path in paths)


def is_below(path: str, folders: Iterable[str]) -> bool:
    """Return whether a path is one of some files or folders, or lies in one of them."""
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the findings. Return 1 if there are any."""
    parser = ArgumentParser(
        prog="python -m tools.words", description="Find words that this project does not use."
    )
    parser.add_argument("paths", nargs="*", help="check only these files and folders")
    parser.add_argument("--docstrings", action="store_true", help="also check docstrings")
    options = parser.parse_args(arguments)
    findings = [
        finding
        for path in files(ROOT)
        if is_below(path, options.paths) or not options.paths
        for finding in check(path, (ROOT / path).read_text(encoding="utf-8"), docstrings=options.docstrings)
    ]
    for finding in sorted(findings, key=lambda each: (each.path, each.line)):
        print(finding)
    kinds = Counter(finding.kind for finding in findings)
    print(", ".join(f"{count} in {kind}" for kind, count in sorted(kinds.items())) or "words: nothing found")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
