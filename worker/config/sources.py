"""The names and files that settings come from: the environment, `.env`, and secret files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from dotenv import dotenv_values
from pydantic_settings import NestedSecretsSettingsSource

from worker.config.compiled import COMPILED, refuse_unknown_choice
from worker.config.file_trust import refuse_foreign
from worker.errors import SettingsError

PREFIX = "ORDERSYNC_"
SECRETS_DIR = "ORDERSYNC_SECRETS_DIR"
DEFAULT_SECRETS_DIR = "/run/secrets"
DOTENV = ".env"


def secrets_folder() -> Path:
    """Return the folder of secret files, which need not exist unless it is set."""
    return Path(os.environ.get(SECRETS_DIR) or DEFAULT_SECRETS_DIR)


class SecretFiles(NestedSecretsSettingsSource):
    """The secret files. An empty one is one that is not set, as an empty variable is."""

    @classmethod
    def load_secrets(cls, path: Path) -> dict[str, str]:
        """Return the contents by name."""
        return {name: text for name, text in super().load_secrets(path).items() if text}


def given_names() -> set[str]:
    """Return the names that are set in the environment, in `.env` or as secret files."""
    for file, of in read_files().items():
        refuse_foreign(file, of, own=file == Path(DOTENV))
    names = set(os.environ)
    refuse_unknown_choice()
    for name, value in os.environ.items():
        try:
            (value if name.upper().startswith(PREFIX) else "").encode()
        except UnicodeEncodeError:
            raise SettingsError(f"{name}: the value is not valid UTF-8") from None
    try:
        names.update(dotenv_values(DOTENV))
    except OSError as error:
        raise SettingsError(f".env cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(".env is not valid UTF-8. Save it in that encoding.") from None
    if COMPILED not in os.environ and COMPILED in names:
        raise SettingsError(f"{COMPILED} is read from the environment alone, not from .env")
    folder = secrets_folder()
    if os.environ.get(SECRETS_DIR) and not folder.is_dir():
        raise SettingsError(f"{SECRETS_DIR}: the folder {folder} does not exist")
    with contextlib.suppress(OSError):
        names.update(file.name for file in folder.iterdir())
    return {name.upper() for name in names if name.upper().startswith(PREFIX)}


def read_files() -> dict[Path, str]:
    """Return the files that settings are read from: `.env` and the secret files, with what an error calls them."""
    files = {Path(DOTENV): DOTENV} if Path(DOTENV).is_file() else {}
    folder = secrets_folder()
    with contextlib.suppress(OSError):
        files |= {
            file: file.name
            for file in sorted(folder.iterdir())
            if file.name.upper().startswith(PREFIX) and file.is_file()
        }
    return files
