"""What this worker knows to be given out: the highest sequence of each source, also from its earlier lives.

Redis may hold less than that after a crash, a failover, or a restored backup. Then it has lost events that consumers
may have, and would give their numbers out again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from worker.keys import PREFIX
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker.keys import Keys

FILE = "sequences.json"
"""The file in the data folder."""


class _Content(msgspec.Struct, frozen=True):
    """The file: sequences by account and source, the runs of the servers, and whether the worker ended in order.

    `server`: the ids of the runs of all masters, with blanks between them.
    """

    sequences: dict[str, int] = {}
    server: str = ""
    ended: bool = False


class GivenOut:
    """The highest sequence of each source that this worker knows to be given out.

    It may be in doubt: the answer to a commit was lost, or an earlier life ended before it could write everything down.
    If the server was not started again since, nothing can be lost and the doubt is over.

    Args:
        folder: The data folder, where it is kept across lives; None to keep it for this life only.

    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = folder / FILE if folder else None
        content = self._read()
        self._sequences, self._servers = dict(content.sequences), set(content.server.split())
        self._doubtful = set() if content.ended else set(content.sequences)
        self._seen: dict[str, tuple[int, int]] = {}

    def of(self, keys: Keys, source: str) -> SourceNumbers:
        """Return the view of one source."""
        return SourceNumbers(self, f"{'' if keys.prefix == PREFIX else keys.prefix}{keys.account}/{source}")

    def get(self, name: str) -> int:
        """Return the highest sequence of a source; 0 if none is known."""
        return self._sequences.get(name, 0)

    def note(self, name: str, sequence: int) -> None:
        """Record a sequence that Redis has given out."""
        self._sequences[name] = max(self.get(name), sequence)

    def doubt(self, name: str) -> None:
        """Record that Redis may have given out more than is known."""
        self._doubtful.add(name)

    def is_doubtful(self, name: str) -> bool:
        """True if Redis may have given out more than is known."""
        return name in self._doubtful

    def settle(self, name: str) -> None:
        """Record that the numbers of a source are known again."""
        self._doubtful.discard(name)

    def is_other_server(self, run: str) -> bool:
        """True if this run of the server is not the one that was seen before the doubt; "" is an unknown run."""
        return not run or run not in self._servers

    def is_replaced(self, name: str, failovers: int, generation: int) -> bool:
        """True if the server was replaced since the source was seen last, and no generation has begun since."""
        before, known = self._seen.get(name, (0, generation))
        return failovers > before and generation <= known

    def saw(self, name: str, failovers: int, generation: int) -> bool:
        """Record how often the server was replaced, and the generation of the numbers of a source.

        Returns:
            True if it was replaced since the source was seen last, and no worker has begun a new generation since.

        """
        replaced = self.is_replaced(name, failovers, generation)
        self._seen[name] = (failovers, generation)
        return replaced

    def saw_servers(self, runs: Sequence[str]) -> None:
        """Record the runs of the servers, unless a doubt has to be settled first."""
        if not self._doubtful:
            self._servers = {run for run in runs if run}

    def save(self, *, ended: bool = False) -> None:
        """Write the file. `ended`: the worker commits nothing more."""
        if self._file is None:
            return
        others = self._read().sequences  # of workers that share the folder
        sequences = {name: max(self.get(name), others.get(name, 0)) for name in {*self._sequences, *others}}
        content = _Content(sequences, " ".join(sorted(self._servers)), ended and not self._doubtful)
        new = self._file.with_name(f".{FILE}.{os.getpid()}.new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            new.write_bytes(msgspec.json.encode(content))
            new.replace(self._file)
        except OSError as error:
            get_logger().warning("sequences_not_written", folder=str(self._file.parent), error=str(error))

    def _read(self) -> _Content:
        try:
            return msgspec.json.decode(self._file.read_bytes() if self._file else b"{}", type=_Content)
        except (OSError, msgspec.DecodeError):
            return _Content(ended=True)


class SourceNumbers:
    """What is known to be given out of one source."""

    def __init__(self, given_out: GivenOut, name: str) -> None:
        self._given_out, self._name = given_out, name

    @property
    def sequence(self) -> int:
        """The highest sequence that is known to be given out."""
        return self._given_out.get(self._name)

    @property
    def is_doubtful(self) -> bool:
        """True if Redis may have given out more than is known."""
        return self._given_out.is_doubtful(self._name)

    def note(self, sequence: int) -> None:
        """Record a sequence that Redis has given out."""
        self._given_out.note(self._name, sequence)

    def doubt(self) -> None:
        """Record that the answer to a commit was lost."""
        self._given_out.doubt(self._name)

    def settle(self) -> None:
        """Record that the numbers are known again."""
        self._given_out.settle(self._name)

    def is_replaced(self, failovers: int, generation: int) -> bool:
        """Return what `saw` would return, and record nothing."""
        return self._given_out.is_replaced(self._name, failovers, generation)

    def saw(self, failovers: int, generation: int) -> bool:
        """Return True if the server was replaced since the last call, and no worker has begun again since."""
        return self._given_out.saw(self._name, failovers, generation)

    def is_other_server(self, run: str) -> bool:
        """True if the server was started again since the doubt, or may have been."""
        return self._given_out.is_other_server(run)
