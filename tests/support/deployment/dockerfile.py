"""Reads a Dockerfile, as far as ours needs it: instructions in order, stages, what the image starts with."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. `flags` are its `--name=value`; `rest` is what follows them."""

    name: str
    flags: dict[str, str]
    rest: str

    @property
    def words(self) -> list[str]:
        """The words of the exec form (a JSON list), else as a shell would split them."""
        return [str(word) for word in json.loads(self.rest)] if self.is_exec else shlex.split(self.rest)

    @property
    def is_exec(self) -> bool:
        """Whether it is a JSON list: no shell stands between the engine and the program."""
        return self.rest.startswith("[")


@dataclass(slots=True)
class Stage:
    """What stands from one FROM to the next."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        """The instructions of that name."""
        return [each for each in self.instructions if each.name == name]

    def one(self, name: str) -> Instruction:
        """The one that is in force: the last."""
        return self.all(name)[-1]


def instructions(text: str) -> list[Instruction]:
    """All instructions, comments left out and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.strip().partition(" ")
        flags = {}
        while match := re.match(r"\s*--([a-z-]+)(?:=(\S+))?\s+", rest):
            flags[match[1]] = match[2] or ""
            rest = rest[match.end() :]
        found.append(Instruction(name.upper(), flags, rest.strip()))
    return found


def stages(path: Path) -> list[Stage]:
    """The stages of a Dockerfile; ARGs before the first one are put into the names of bases."""
    found: list[Stage] = []
    arguments: dict[str, str] = {}
    for instruction in instructions(path.read_text()):
        if instruction.name == "FROM":
            base, *name = re.split(r"\s+AS\s+", instruction.rest, flags=re.IGNORECASE)
            for argument, value in arguments.items():
                base = base.replace(f"${{{argument}}}", value)
            found.append(Stage(base, name[0] if name else ""))
        elif found:
            found[-1].instructions.append(instruction)
        elif instruction.name == "ARG":
            argument, _, value = instruction.rest.partition("=")
            arguments[argument] = value
    return found
