"""The clock of the host of a program, which a test may put on or back while the program runs (libfaketime).

clock = HostClock(folder, offset=300)
with Program(folder, *clock.command(), **settings):     # a daemon whose host is five minutes ahead
    clock.set(-3600)                                    # and is put back
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from tests.support.tools import missing

_PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")


def _library() -> str:
    for place in _PLACES:
        for found in Path("/").glob(place.removeprefix("/")):
            return str(found)
    return missing("libfaketime is not installed")


class HostClock:
    """A clock of a host, `offset` seconds ahead of the true time; the test ends where libfaketime is missing.

    Only the time of day is another one: as on a real host, the monotonic clock goes on.
    """

    def __init__(self, folder: Path, offset: float = 0.0) -> None:
        self._library = _library()
        self._file = folder / f"clock-{id(self)}"
        self.set(offset)

    def set(self, offset: float) -> None:
        """Let the host be so many seconds ahead, or behind, from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset:+.3f}\n")
        new.replace(self._file)

    def command(self, *words: str) -> tuple[str, ...]:
        """A command under this clock: the daemon, or `ordersync` with these words."""
        return (*self._prefix, sys.executable, "-m", "worker.cli", *(words or ("run",)))

    def program(self, path: str) -> str:
        """The path of a program that is the one at `path` under this clock, such as a server."""
        script = self._file.with_suffix(".sh")
        script.write_text(f'#!/bin/sh\nexec {shlex.join((*self._prefix, path))} "$@"\n')
        script.chmod(0o755)
        return str(script)

    @property
    def _prefix(self) -> tuple[str, ...]:
        return (
            "env",
            f"LD_PRELOAD={self._library}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "DONT_FAKE_MONOTONIC=1",
        )
