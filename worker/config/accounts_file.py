"""The accounts file: a TOML file with a table `[accounts.NAME]` for each account."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from worker.config.file_trust import refuse_foreign
from worker.config.sections import Section
from worker.errors import SettingsError


class AccountEntry(Section):
    """One table `[accounts.NAME]` of the accounts file: settings of `api`, and settings of `poll` that differ.

    `contract_file`, relative to the accounts file, replaces the one of the environment; "" for no contract file.
    """

    api: dict[str, Any] = Field(default_factory=dict)
    poll: dict[str, Any] = Field(default_factory=dict)
    contract_file: str | None = None


def read_tables(path: Path) -> dict[str, Any]:
    """Return the tables of the accounts by name, each yet to be checked with `AccountEntry`.

    Raises:
        SettingsError: The file cannot be read, or contains something else.

    """
    refuse_foreign(path, "ORDERSYNC_ACCOUNTS_FILE")
    import tomllib  # noqa: PLC0415 - compiles patterns, and few settings name a file

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"ORDERSYNC_ACCOUNTS_FILE: {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"ORDERSYNC_ACCOUNTS_FILE: {path} is not valid TOML: {error}") from None
    tables = content.get("accounts")
    if not isinstance(tables, dict) or not tables or set(content) != {"accounts"}:
        raise SettingsError(
            f"ORDERSYNC_ACCOUNTS_FILE: {path} must contain tables [accounts.NAME.api], and nothing outside of "
            "[accounts]"
        )
    return tables


def with_files(path: Path, api: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with files relative to `path`, and with the content of files that contain secrets."""
    values = dict(api)
    for name in ("client_secret", "password"):
        if (file := values.pop(f"{name}_file", None)) is not None:
            values[name] = _content(path, f"{name}_file", file)
    files = values.pop("headers_file", {})
    if not isinstance(files, dict):
        raise ValueError("headers_file must be a table of names and files")  # noqa: TRY004 - told as a wrong setting
    if files:
        values["headers"] = dict(values.get("headers", {})) | {
            name: _content(path, f"headers_file.{name}", file) for name, file in files.items()
        }
    for name in ("ca_file", "client_cert_file", "client_key_file"):
        if values.get(name):
            values[name] = path.parent / Path(str(values[name])).expanduser()
    return values


def _content(path: Path, name: str, file: object) -> str:
    """Return the content of a file with a secret, whose name is relative to `path`."""
    refuse_foreign(path.parent / str(file), name)
    try:
        return (path.parent / str(file)).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{name}: {file} cannot be read: {error.strerror}") from None
