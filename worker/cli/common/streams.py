"""The standard streams of the process, made safe to write to on every terminal, and when they are closed or full."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

_PLAIN = {"■": "#", "◆": "+", "·": ".", "→": ">"} | dict(zip("▁▂▃▄▅▆▇█", "_.-:=+*#", strict=True))
"""What replaces a symbol of this program where the encoding lacks it. One character each keeps columns aligned."""
_HANDLER = "ordersync.plain"
_OUTPUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE}


def prepare_streams() -> None:
    """Open closed standard streams, and let no character that the encoding lacks end a command.

    A closed descriptor would be given to the next file or socket, and get the output meant for the terminal.
    """
    null = [_reopen(number) for number in range(3)]
    codecs.register_error(_HANDLER, _plain)
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None or null[number]:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - a descriptor
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def finish_streams(status: int) -> int:
    """Write what is buffered, and return the exit code: `status`, or 1 if output is lost after a success.

    What cannot be written is dropped; otherwise the interpreter would try again at its end and exit with 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            drop_rest(stream)
            if stream is sys.stdout and status == 0:
                status = 1
    return status


def drop_rest(stream: TextIO) -> None:
    """Drop what is buffered and what is written from now on: the reader is gone, or the disk is full."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()


def is_output_error(error: OSError) -> bool:
    """Return True if an error says that output cannot be written."""
    return error.filename is None and error.errno in _OUTPUT_ERRORS


def _reopen(number: int) -> bool:
    """Lead a closed descriptor to the null device; return True if it was closed."""
    try:
        os.fstat(number)
    except OSError:
        os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor is this one
        return True
    return False


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter) or _escaped(letter) for letter in text), error.end


def _escaped(letter: str) -> str:
    """Return half a surrogate pair as the escape that JSON has for it; "?" for another character."""
    return f"\\u{ord(letter):04x}" if 0xD800 <= ord(letter) <= 0xDFFF else "?"
