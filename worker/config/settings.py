"""Settings, from all their sources.

Sources in order of precedence: arguments, environment (`ORDERSYNC_API__PAGE_SIZE`), `.env` in the working directory, a
folder of secret files (`ORDERSYNC_SECRETS_DIR`, by default `/run/secrets`; each file has the name of a variable).
`__` separates nested names. An unknown name that starts with `ORDERSYNC_` is an error, so that a misspelled setting is
not discovered by a missing order.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from ordersync_consumer.resources import nearest
from worker.config.accounts_file import AccountEntry, read_tables, with_files
from worker.config.compiled import ABOUT_COMPILED, COMPILED
from worker.config.sections import (
    Account,
    ApiSettings,
    BackpressureSettings,
    ConcurrencySettings,
    EmbeddedSettings,
    EventSettings,
    ForwardSettings,
    GroupSettings,
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
)
from worker.config.sources import (
    DOTENV,
    PREFIX,
    SECRETS_DIR,
    SecretFiles,
    given_names,
    secrets_folder,
)
from worker.config.urls import hide_password
from worker.config.values import SecretKeys, account_name, keys_of, without_line_ends
from worker.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
        env_file=DOTENV,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    api: ApiSettings = ApiSettings()
    redis: RedisSettings = RedisSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    poll: PollSettings = PollSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    events: EventSettings = EventSettings()
    groups: GroupSettings = GroupSettings()
    forward: ForwardSettings = ForwardSettings()
    interest: InterestSettings = InterestSettings()
    privacy: PrivacySettings = PrivacySettings()
    retention: RetentionSettings = RetentionSettings()
    backpressure: BackpressureSettings = BackpressureSettings()
    resync: ResyncSettings = ResyncSettings()
    concurrency: ConcurrencySettings = ConcurrencySettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    traces: TraceSettings = TraceSettings()
    account: Annotated[str, AfterValidator(account_name)] = Field(
        "default", description="name of the one account"
    )
    accounts_file: Annotated[Path | None, AfterValidator(_home)] = Field(
        None, description="TOML file with several accounts, instead of the one"
    )
    accounts_open: int = Field(
        2_000,
        ge=1,
        description="accounts that a worker keeps in memory after their jobs; others are built again for each job",
    )
    contract_file: Annotated[Path | None, AfterValidator(_home)] = Field(
        None, description="contract profile (TOML) or OpenAPI document (JSON, YAML) of the gateway"
    )
    data_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default_factory=default_data_dir,
        description="folder for the heartbeat and the data of the embedded Valkey",
    )
    secret_key: SecretKeys = Field(
        None,
        description="key that encrypts access tokens and the logins of `ordersync accounts` in Redis, 32 characters or "
        "more; several, newest first, with spaces between them, while a key is replaced",
    )
    known_megabytes: int = Field(
        32,
        ge=0,
        le=100_000,
        description="memory for what is known of the bytes of records between polls, 18 bytes for each; 0: each record "
        "of a full scan is looked up in Redis",
    )
    grace_seconds: float = Field(
        4, ge=0, le=600, description="seconds to finish the current page when stopping"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_line_ends(cls, values: Any) -> Any:
        return without_line_ends(values)

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
        secrets = SecretFiles(
            file_secret_settings,
            secrets_dir=secrets_folder(),
            secrets_dir_missing="ok",
            secrets_prefix=PREFIX,
            secrets_nested_delimiter="__",
        )
        return init_settings, env_settings, dotenv_settings, secrets

    def account_at(
        self, name: str, api: ApiSettings, poll: PollSettings, contract_file: Path | None = None
    ) -> Account:
        """Return an account that reads by `api` and `poll`; all other settings are these."""
        return Account(
            name=name,
            api=api,
            intervals=poll.chosen,
            ignore_fields=poll.ignore_fields,
            complete_every=poll.complete_every,
            confirm_deletes=poll.confirm_deletes,
            since=poll.since_ms,
            snapshot=poll.snapshot,
            audit_history=poll.audit_history,
            keys=self.redis.keys,
            reconcile=self.reconcile,
            contract_file=contract_file,
            interest=self.interest,
            privacy=self.privacy,
            events=self.events,
            groups=self.groups,
            retention=self.retention,
            backpressure=self.backpressure,
            resync=self.resync,
            secret_keys=keys_of(self.secret_key),
            replicas=self.redis.replicas,
        )

    def accounts(self) -> tuple[Account, ...]:
        """Return the configured accounts, each with a complete login.

        Raises:
            SettingsError: There is no account with a login, or the accounts file cannot be used.

        """
        if self.accounts_file is not None:
            file = self.accounts_file
            return tuple(_read_account(file, *entry, self) for entry in read_tables(file).items())
        if not self.api.has_login:
            raise SettingsError(
                "No login for OrderMesh. Set ORDERSYNC_API__CLIENT_ID and ORDERSYNC_API__CLIENT_SECRET (in the "
                "environment, in .env or as secret files; for development ORDERSYNC_API__USERNAME and "
                "ORDERSYNC_API__PASSWORD), or list accounts in ORDERSYNC_ACCOUNTS_FILE. To keep accounts in Redis, set "
                "ORDERSYNC_REDIS__URL and ORDERSYNC_SECRET_KEY, and run: ordersync accounts add. To try it without an "
                "account: ordersync run --sandbox"
            )
        return (self.account_at(self.account, self.api, self.poll, self.contract_file),)

    @property
    def has_accounts(self) -> bool:
        """True if the settings name accounts. Further ones may be in Redis (`worker/accounts`)."""
        return self.accounts_file is not None or self.api.has_login

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
    given = given_names()
    _refuse_unknown_names(given)
    try:
        return Settings(**arguments)
    except ValidationError as error:
        raise SettingsError(_describe(error, PREFIX)) from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"A secret file in {secrets_folder()} is not valid UTF-8: {error.reason}"
        ) from None
    except SourceError as error:
        where = ", ".join(name for name in _MAPS if name in given) or "Settings"
        raise SettingsError(f"{where}: {error.__cause__ or error}. Write maps as JSON.") from None


def variable_names() -> dict[str, str]:
    """Return the names and descriptions of all variables."""
    names = {SECRETS_DIR: "folder of secret files", COMPILED: ABOUT_COMPILED}
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


def _refuse_unknown_names(given: Iterable[str]) -> None:
    known = variable_names()
    for name in sorted(given):
        if name in known or name.startswith(tuple(f"{map_name}__" for map_name in _MAPS)):
            continue
        hint = nearest(name, known) or " To list the settings: ordersync config show --names"
        raise SettingsError(f"{name} is not a setting.{hint}")


def _describe(error: ValidationError, prefix: str) -> str:
    """Return a line for each problem. With a prefix the names are those of variables, otherwise of a TOML file."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        path = "__".join(str(part) for part in problem["loc"] if part != "[key]")
        name = f"{prefix}{path.upper()}" if prefix else path.lower()
        if problem["type"] == "extra_forbidden":
            known = {each.rpartition("__")[2].lower() for each in variable_names()} | {"api", "poll"}
            lines.append(f"{name} is not a setting.{nearest(str(problem['loc'][-1]), known)}")
        else:
            lines.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def _read_account(path: Path, name: str, table: Any, settings: Settings) -> Account:
    where = f"{path}: accounts.{name}"
    try:
        entry = AccountEntry.model_validate(table)
        contract_file = settings.contract_file
        if entry.contract_file is not None:
            named = Path(entry.contract_file).expanduser()
            contract_file = path.parent / named if entry.contract_file else None
        return account_of(
            name, settings, api=with_files(path, entry.api), poll=entry.poll, contract_file=contract_file
        )
    except ValidationError as error:
        raise SettingsError(f"{where}: {_describe(error, '')}") from None
    except (SettingsError, ValueError) as error:
        raise SettingsError(f"{where}: {error}") from None


def account_of(
    name: str,
    settings: Settings,
    *,
    api: Mapping[str, Any],
    poll: Mapping[str, Any],
    contract_file: Path | None,
) -> Account:
    """Return an account with settings of its own. Those that it lacks come from the environment, except for the login.

    Args:
        name: The name of the account.
        settings: The settings of the environment.
        api: Its own settings of `api`, by name.
        poll: Its own settings of `poll`, by name.
        contract_file: The contract file of its gateway.

    Raises:
        SettingsError: A value is invalid, a name is unknown, or the login is missing.

    """
    try:
        account_name(name)
        secret = {"client_id", "client_secret", "username", "password"}
        if api.get("base_url", settings.api.base_url) != settings.api.base_url:
            secret |= {"headers", "client_cert_file", "client_key_file"}  # those of another gateway
        shared = settings.api.model_dump(exclude=secret, exclude_unset=True)
        own_api = ApiSettings.model_validate({**shared, **api})
        shared = settings.poll.model_dump(exclude_unset=True)
        if "preset" in poll:
            shared.pop("intervals", None)  # the intervals come from the account's own preset
        own_poll = PollSettings.model_validate({**shared, **poll})
    except ValidationError as error:
        raise SettingsError(_describe(error, "")) from None
    except ValueError as error:
        raise SettingsError(str(error)) from None
    if not own_api.has_login:
        raise SettingsError("the login is missing. Set client_id and client_secret (or client_secret_file)")
    return settings.account_at(name, own_api, own_poll, contract_file)
