"""`ordersync consume` at work on a stream."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.commands import ordersync
from tests.support.consuming import Stage
from tests.support.programs import Program


@dataclass(slots=True)
class Shop:
    """A stream, and `ordersync consume` at work on it for group g."""

    stage: Stage
    url: str
    folder: Path

    def once(self, *words: str, name: str = "c1", group: str = "g") -> subprocess.CompletedProcess[str]:
        """Consume to the end."""
        all_words = ("consume", "--group", group, "--name", name, "--once", *words)
        return ordersync(*all_words, cwd=self.folder, redis__url=self.url)

    def program(self, *words: str, name: str = "c1") -> Program:
        """Consume beside the test."""
        command = (sys.executable, "-m", "worker.cli", "consume", "--group", "g", "--name", name, *words)
        return Program(self.folder, *command, redis__url=self.url)

    def script(self, text: str) -> str:
        """A command in Python, for the shell."""
        path = self.folder / "command.py"
        path.write_text("import json, os, signal, sys, time\n" + text)
        return f"{sys.executable} -u {path}"

    def read(self, name: str) -> list[str]:
        """The lines of a file that a command has written so far."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


def subjects(lines: list[str]) -> list[str]:
    """Of which entities these events are."""
    return [json.loads(line)["subject"] for line in lines]
