"""The files that settings come from, and those among them that other users of the machine can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.config.file_trust import is_readable_by_all
from worker.config.sources import DEFAULT_SECRETS_DIR, read_files

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from worker.config.sections import Account, ApiSettings, RedisSettings
    from worker.config.settings import Settings


def settings_files(settings: Settings) -> list[Path]:
    """Return the files that these settings were read from: those of `read_files` and the accounts file."""
    return [*read_files(), *([settings.accounts_file] if settings.accounts_file else [])]


def exposed_files(settings: Settings, accounts: Iterable[Account]) -> list[Path]:
    """Return the files of these settings, and the keys that they name, that every user of the machine can read."""
    users: list[ApiSettings | RedisSettings] = [settings.redis, *(account.api for account in accounts)]
    keys = {each.client_key_file or each.client_cert_file for each in users}
    # The files of a container are in a folder of its own, whatever their modes.
    return [
        file.absolute()
        for file in (*settings_files(settings), *sorted(key for key in keys if key))
        if str(file.parent) != DEFAULT_SECRETS_DIR and is_readable_by_all(file)
    ]


def advice_on(file: object) -> str:
    """Return what to do about a file that every user can read."""
    return f"if it contains secrets: chmod 0600 {file}"
