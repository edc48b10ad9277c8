"""Settings: the only module that reads the environment.

Sources in order of precedence: arguments, environment (`ORDERSYNC_API__PAGE_SIZE`), `.env` in the working directory, a
folder of secret files (`ORDERSYNC_SECRETS_DIR`, by default `/run/secrets`; each file has the name of a variable).
`__` separates nested names. An unknown name that starts with `ORDERSYNC_` is an error, so that a misspelled setting is
not discovered by a missing order.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as SourceError

from worker.config.sections import (
    Account,
    ApiSettings,
    BackpressureSettings,
    EventSettings,
    InterestSettings,
    LogSettings,
    MetricsSettings,
    PollSettings,
    PrivacySettings,
    ReconcileSettings,
    RedisSettings,
    ResyncSettings,
    RetentionSettings,
    Section,
    TraceSettings,
    account_name,
    without_line_end,
)
from worker.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "ORDERSYNC_"
SECRETS_DIR = "ORDERSYNC_SECRETS_DIR"
DEFAULT_SECRETS_DIR = "/run/secrets"
_MAPS = (
    "ORDERSYNC_API__HEADERS",
    "ORDERSYNC_POLL__INTERVALS",
    "ORDERSYNC_POLL__IGNORE_FIELDS",
    "ORDERSYNC_PRIVACY__FIELDS",
    "ORDERSYNC_INTEREST__MERCHANTS",
    "ORDERSYNC_INTEREST__STATUSES",
    "ORDERSYNC_INTEREST__FINAL_STATUSES",
    "ORDERSYNC_EVENTS__GROUPS",
    "ORDERSYNC_RETENTION__RESOURCES",
)


def _home(value: Path | None) -> Path | None:
    return value.expanduser() if value else None


def default_data_dir() -> Path:
    """Return the XDG state folder of this program."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "ordersync"


class Settings(BaseSettings):
    """All settings. Use `load()`, which reports every problem as a `SettingsError` with the name of the variable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    api: ApiSettings = ApiSettings()
    redis: RedisSettings = RedisSettings()
    poll: PollSettings = PollSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    events: EventSettings = EventSettings()
    interest: InterestSettings = InterestSettings()
    privacy: PrivacySettings = PrivacySettings()
    retention: RetentionSettings = RetentionSettings()
    backpressure: BackpressureSettings = BackpressureSettings()
    resync: ResyncSettings = ResyncSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TraceSettings = TraceSettings()
    account: Annotated[str, AfterValidator(account_name)] = Field(
        "default", description="name of the one account"
    )
    accounts_file: Annotated[Path | None, AfterValidator(_home)] = Field(
        None, description="TOML file with several accounts, instead of the one"
    )
    contract_file: Annotated[Path | None, AfterValidator(_home)] = Field(
        None, description="contract profile (TOML) or OpenAPI document (JSON, YAML) of the gateway"
    )
    data_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default_factory=default_data_dir,
        description="folder for the heartbeat and the data of the embedded Valkey",
    )
    grace_seconds: float = Field(
        4, ge=0, le=600, description="seconds to finish the current page when stopping"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _without_line_end(cls, value: Any) -> Any:
        return without_line_end(value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in order of precedence."""
        del settings_cls
        secrets = NestedSecretsSettingsSource(
            file_secret_settings,
            secrets_dir=os.environ.get(SECRETS_DIR) or DEFAULT_SECRETS_DIR,
            secrets_dir_missing="ok",
            secrets_prefix=PREFIX,
            secrets_nested_delimiter="__",
        )
        return init_settings, env_settings, dotenv_settings, secrets

    def accounts(self) -> tuple[Account, ...]:
        """Return the configured accounts, each with a complete login.

        Raises:
            SettingsError: There is no account with a login, or the accounts file cannot be used.

        """
        if self.accounts_file is not None:
            return _read_accounts(self.accounts_file, self)
        if not self.api.has_login:
            raise SettingsError(
                "No login for OrderMesh. Set ORDERSYNC_API__CLIENT_ID and ORDERSYNC_API__CLIENT_SECRET (in the "
                "environment, in .env or as secret files; for development ORDERSYNC_API__USERNAME and "
                "ORDERSYNC_API__PASSWORD), or list accounts in ORDERSYNC_ACCOUNTS_FILE. To try it without an "
                "account: ordersync run --sandbox"
            )
        return (_account(self.account, self.api, self.poll, self.contract_file, self),)

    def shown(self) -> dict[str, Any]:
        """Return all settings as plain values, with secrets hidden."""
        shown = self.model_dump(mode="json")
        for name in ("url", "queue_url"):
            if url := getattr(self.redis, name):
                shown["redis"][name] = hide_password(url.get_secret_value())
        return shown


def load(**arguments: Any) -> Settings:
    """Return the settings from all sources.

    Raises:
        SettingsError: A value is invalid or a name is unknown; the message names the variable.

    """
    given = _given()
    _refuse_unknown_names(given)
    try:
        return Settings(**arguments)
    except ValidationError as error:
        raise SettingsError(_describe(error, PREFIX)) from None
    except UnicodeDecodeError as error:
        folder = os.environ.get(SECRETS_DIR) or DEFAULT_SECRETS_DIR
        raise SettingsError(f"A secret file in {folder} is not valid UTF-8: {error.reason}") from None
    except SourceError as error:
        where = ", ".join(name for name in _MAPS if name in given) or "Settings"
        raise SettingsError(f"{where}: {error.__cause__ or error}. Write maps as JSON.") from None


def hide_password(url: str) -> str:
    """Return a URL with its password, including one in the query of a Redis URL, replaced by asterisks."""
    url = re.sub(r"(?<=[?&]password=)[^&#]*", "***", url)
    return re.sub(r"^(\w+://[^/@:]*):[^/]*@", r"\1:***@", url)


def variable_names() -> dict[str, str]:
    """Return the names and descriptions of all variables."""
    names = {SECRETS_DIR: "folder of secret files"}
    for name, setting in Settings.model_fields.items():
        part = setting.annotation
        if isinstance(part, type) and issubclass(part, Section):
            for inner, inner_field in part.model_fields.items():
                names[f"{PREFIX}{name}__{inner}".upper()] = inner_field.description or ""
        else:
            names[f"{PREFIX}{name}".upper()] = setting.description or ""
    return names


def environment_without_secrets(*, passed: Iterable[str] = ()) -> dict[str, str]:
    """Return the environment without the variables of secret settings, for a program of somebody else.

    Args:
        passed: Names of variables that are kept all the same.

    Raises:
        SettingsError: A name in `passed` is not set.

    """
    kept = set(passed)
    if missing := sorted(name for name in kept if name not in os.environ):
        raise SettingsError(f"--pass-env: {missing[0]} is not set in the environment.")
    secret = secret_names()
    return {
        name: value
        for name, value in os.environ.items()
        if name in kept
        or not any(name.upper() == one or name.upper().startswith(f"{one}__") for one in secret)
    }


def secret_names() -> set[str]:
    """Return the names of the variables whose values are secret."""
    names = set()
    for name, setting in Settings.model_fields.items():
        part = setting.annotation
        if isinstance(part, type) and issubclass(part, Section):
            names |= {
                f"{PREFIX}{name}__{inner}".upper()
                for inner, inner_field in part.model_fields.items()
                if SecretStr.__name__ in repr(inner_field.annotation)
            }
        elif SecretStr.__name__ in repr(part):
            names.add(f"{PREFIX}{name}".upper())
    return names


def _given() -> set[str]:
    """Return the names that are set in the environment, in `.env` or as secret files."""
    names = set(os.environ)
    for name, value in os.environ.items():
        try:
            (value if name.upper().startswith(PREFIX) else "").encode()
        except UnicodeEncodeError:
            raise SettingsError(f"{name}: the value is not valid UTF-8") from None
    try:
        names.update(dotenv_values(".env"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f".env cannot be read: {error}") from None
    folder = Path(os.environ.get(SECRETS_DIR) or DEFAULT_SECRETS_DIR)
    if os.environ.get(SECRETS_DIR) and not folder.is_dir():
        raise SettingsError(f"{SECRETS_DIR}: the folder {folder} does not exist")
    with contextlib.suppress(OSError):
        names.update(file.name for file in folder.iterdir())
    return {name.upper() for name in names if name.upper().startswith(PREFIX)}


def _refuse_unknown_names(given: Iterable[str]) -> None:
    known = variable_names()
    for name in sorted(given):
        if name in known or name.startswith(tuple(f"{map_name}__" for map_name in _MAPS)):
            continue
        close = difflib.get_close_matches(name, known, n=1)
        hint = (
            f" Did you mean {close[0]}?" if close else " To list the settings: ordersync config show --names"
        )
        raise SettingsError(f"{name} is not a setting.{hint}")


def _describe(error: ValidationError, prefix: str) -> str:
    """Return a line for each problem. With a prefix the names are those of variables, otherwise of a TOML file."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        path = "__".join(str(part) for part in problem["loc"] if part != "[key]")
        name = f"{prefix}{path.upper()}" if prefix else path.lower()
        lines.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def _account(
    name: str, api: ApiSettings, poll: PollSettings, contract_file: Path | None, settings: Settings
) -> Account:
    return Account(
        name=name,
        api=api,
        intervals=poll.chosen,
        ignore_fields=poll.ignore_fields,
        complete_every=poll.complete_every,
        confirm_deletes=poll.confirm_deletes,
        since=poll.since_ms,
        snapshot=poll.snapshot,
        keys=settings.redis.keys,
        reconcile=settings.reconcile,
        contract_file=contract_file,
        interest=settings.interest,
        privacy=settings.privacy,
        events=settings.events,
        retention=settings.retention,
        backpressure=settings.backpressure,
        resync=settings.resync,
    )


class _AccountEntry(Section):
    """One table `[accounts.NAME]` of the accounts file: settings of `api`, and settings of `poll` that differ.

    `contract_file`, relative to the accounts file, replaces the one of the environment; "" for no contract file.
    """

    api: dict[str, Any] = Field(default_factory=dict)
    poll: dict[str, Any] = Field(default_factory=dict)
    contract_file: str | None = None


def _read_accounts(path: Path, settings: Settings) -> tuple[Account, ...]:
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
    return tuple(_read_account(path, name, table, settings) for name, table in tables.items())


def _read_account(path: Path, name: str, table: Any, settings: Settings) -> Account:
    where = f"{path}: accounts.{name}"
    try:
        account_name(name)
        entry = _AccountEntry.model_validate(table)
        # Settings missing from the file come from the environment, except for the login of another account.
        own = _with_files(path, entry.api)
        secret = {"client_id", "client_secret", "username", "password"}
        if own.get("base_url", settings.api.base_url) != settings.api.base_url:
            secret |= {"headers", "client_cert_file", "client_key_file"}  # those of another gateway
        shared = settings.api.model_dump(exclude=secret, exclude_unset=True)
        api = ApiSettings.model_validate({**shared, **own})
        shared = settings.poll.model_dump(exclude_unset=True)
        if "preset" in entry.poll:
            shared.pop("intervals", None)  # the intervals come from the account's own preset
        poll = PollSettings.model_validate({**shared, **entry.poll})
    except ValidationError as error:
        raise SettingsError(f"{where}: {_describe(error, '')}") from None
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None
    if not api.has_login:
        raise SettingsError(
            f"{where}: the login is missing. Set client_id and client_secret (or client_secret_file)"
        )
    contract_file = settings.contract_file
    if entry.contract_file is not None:
        named = Path(entry.contract_file).expanduser()
        contract_file = path.parent / named if entry.contract_file else None
    return _account(name, api, poll, contract_file, settings)


def _with_files(path: Path, api: dict[str, Any]) -> dict[str, Any]:
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
    try:
        return (path.parent / str(file)).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{name}: {file} cannot be read: {error.strerror}") from None
