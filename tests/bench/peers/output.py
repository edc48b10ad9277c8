"""What peers write to standard output goes into a file, so that it can be counted."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def into_file() -> Iterator[IO[bytes]]:
    """Write the standard output of the block into a file, which is removed after its use."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller reads it after the block
    kept = os.dup(1)
    sys.stdout.flush()
    os.dup2(file.fileno(), 1)
    try:
        yield file
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def lines_with(file: IO[bytes], *marks: bytes) -> int:
    """How many lines of a file have one of these in their first bytes."""
    file.seek(0)
    return sum(any(mark in line[:60] for mark in marks) for line in file)
