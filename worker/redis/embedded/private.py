"""Folders and files that no other user may change: what the worker stores there decides whom it trusts."""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_ELSEWHERE = "or set ORDERSYNC_DATA_DIR to a folder of your own"


def make(folder: Path, inner: str) -> Path:
    """Return the folder `inner` of a folder, both created if they are missing, for this user alone.

    Raises:
        SettingsError: Another user could change what is in it, or it cannot be used. The message says what to type.

    """
    try:
        check(folder, own=1)  # before anything is created: a link of another user may lead anywhere
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / inner).mkdir(exist_ok=True, mode=0o700)
        check(folder / inner, own=2)
        real = (folder / inner).resolve(strict=True)
        check_content(real)
        real.chmod(0o700)
    except OSError as error:
        raise SettingsError(
            f"ORDERSYNC_DATA_DIR: {error.filename or folder} cannot be used: {error.strerror}"
        ) from None
    return real


def check(path: Path, *, own: int) -> None:
    """Check that no other user may replace a folder, or change what is in it. Missing folders are passed over.

    Every folder and link on the way must belong to this user or to root.

    Args:
        path: The folder.
        own: Number of folders at the end of the path that must belong to this user, if the folder exists.

    Raises:
        SettingsError: Another user may. The message says what to type.
        OSError: The folder cannot be looked at.

    """
    steps = list(_way(path.absolute()))
    exists = os.path.lexists(path)
    for left, (step, status) in zip(reversed(range(len(steps))), steps, strict=True):
        if stat.S_ISLNK(status.st_mode):
            _check_owner("link", step, status, {os.geteuid(), 0})
        else:
            is_own = exists and left < own
            _check_owner("folder", step, status, {os.geteuid()} if is_own else {os.geteuid(), 0})
            _check_folder(step, status, is_own=is_own)


def check_content(folder: Path) -> None:
    """Check that this user has created everything in a folder. Raises `SettingsError` with what to type."""
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            file = Path(where, name)
            status = file.lstat()
            if stat.S_ISLNK(status.st_mode):
                reason = "is a link, and the worker creates none"
            elif status.st_uid not in {os.geteuid(), 0}:
                reason = f"belongs to {_user(status.st_uid)}, not to {_user(os.geteuid())}"
            else:
                continue
            raise SettingsError(
                f"ORDERSYNC_DATA_DIR: {file} {reason}. Move it away: mv {file} {Path(where).parent}, {_ELSEWHERE}."
            )


def read(file: Path) -> bytes:
    """Return the content of a file that only this user may have written.

    Raises:
        OSError: It cannot be read, or is a link.

    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as source:  # noqa: PTH123 - a descriptor
        return source.read()


def write(file: Path, content: bytes) -> None:
    """Replace a file atomically by one that only this user may read. A file or link in its place is not followed."""
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as target:  # noqa: PTH123 - a descriptor
            target.write(content)
        new.replace(file)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _way(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield every folder and link that leads to a path, and the path, as far as they exist."""
    current, pending, links = Path("/"), list(path.parts[1:]), 0
    yield current, current.lstat()
    while pending:
        name = pending.pop(0)
        if name == "..":
            current = current.parent
            continue
        step = current / name
        try:
            status = step.lstat()
        except FileNotFoundError:
            return
        yield step, status
        if not stat.S_ISLNK(status.st_mode):
            current = step
            continue
        links += 1
        if links > 40:
            raise OSError(40, "Too many levels of symbolic links", str(path))
        target = step.readlink()
        if target.is_absolute():
            current = Path("/")
        pending[:0] = [part for part in target.parts if part != "/"]


def _check_owner(what: str, step: Path, status: os.stat_result, owners: set[int]) -> None:
    if status.st_uid in owners:
        return
    me = _user(os.geteuid())
    raise SettingsError(
        f"ORDERSYNC_DATA_DIR: the {what} {step} belongs to {_user(status.st_uid)}, not to {me}, so that user could "
        f"read and replace the data. Run the command as the owner of the folder, {_ELSEWHERE}."
    )


def _check_folder(step: Path, status: os.stat_result, *, is_own: bool) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise SettingsError(f"ORDERSYNC_DATA_DIR: {step} cannot be used: Not a directory")
    is_sticky = (
        bool(status.st_mode & stat.S_ISVTX) and not is_own
    )  # such as /tmp: each may remove only his own
    if _others_write(status) and not is_sticky:
        raise SettingsError(
            f"ORDERSYNC_DATA_DIR: other users may write into the folder {step}, so they could have placed files "
            f"there. Look at what it contains, then type: chmod go-w {step}, {_ELSEWHERE}."
        )


def _others_write(status: os.stat_result) -> bool:
    mode = status.st_mode & _WRITABLE_BY_OTHERS
    if mode == stat.S_IWGRP and _is_private(status.st_gid, status.st_uid):
        return False
    return bool(mode)


def _is_private(group: int, user: int) -> bool:
    """Return True for a group that has no other member, as many systems create for each user."""
    try:
        name = pwd.getpwuid(user).pw_name
        members = set(grp.getgrgid(group).gr_mem)
    except KeyError:
        return False
    members |= {entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == group}
    return members <= {name}


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"
