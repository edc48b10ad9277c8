"""Who else may change or read a file of the settings. Whoever may change it decides what the worker does."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from worker.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


def refuse_foreign(path: Path, name: str, *, own: bool = False) -> None:
    """Check that no other user of the machine can change a file, or put another one in its place.

    Args:
        path: The file.
        name: How the error names it.
        own: Also refuse a file that belongs to another user. For a file that nobody has named, and that is read since
            it is in the working directory.

    Raises:
        SettingsError: Another user can.

    """
    if reason := why_foreign(path, own=own):
        raise SettingsError(
            f"{name}: {path.absolute()} is not read, because {reason}. Whoever can change it decides where the worker "
            "sends its secrets. Check the content, then correct owner and mode: chown, chmod go-w."
        )


def why_foreign(path: Path, *, own: bool = False) -> str:
    """Return why another user could have written a file, in words; "" if none could, or there is none."""
    try:
        real = path.resolve()
        status = real.stat()
    except OSError:
        return ""
    if os.name != "posix":
        return ""
    if own and status.st_uid not in _trusted():
        return f"it belongs to another user (uid {status.st_uid})"
    if (
        status.st_mode & stat.S_IWOTH
        and not stat.S_ISCHR(status.st_mode)
        and not stat.S_ISFIFO(status.st_mode)
    ):
        return "every user may write it"
    for folder in real.parents:
        mode = folder.stat().st_mode
        # In a folder with the sticky bit, such as /tmp, nobody removes or renames a file of somebody else.
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"every user may write its folder {folder}"
    return ""


def is_readable_by_all(path: Path) -> bool:
    """Return True if every user of the machine can read a file: its mode and each folder on the way to it permit it."""
    try:
        real = path.resolve()
        if not real.stat().st_mode & stat.S_IROTH:
            return False
        return all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)
    except OSError:
        return False


def _trusted() -> set[int]:
    """Return the users whose files are those of this process: itself, root, and whoever has called sudo."""
    trusted = {0, os.geteuid()}
    caller = os.environ.get("SUDO_UID", "")
    if os.geteuid() == 0 and caller.isdecimal():
        trusted.add(int(caller))
    return trusted
