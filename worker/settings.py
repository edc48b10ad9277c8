"""Settings: the only reader of the environment.

Sources, the first wins: arguments, environment (`ORDERSYNC_API__PAGE_SIZE`), `.env` in the working folder,
a folder of secret files (`ORDERSYNC_SECRETS_DIR`, else `/run/secrets`; a file is named like the variable).
`__` nests. A name that starts with `ORDERSYNC_` and is not known is an error: a typo in a setting would
otherwise be found out by a missing order.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as SourceError

from worker.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX = "ORDERSYNC_"
SECRETS_DIR = "ORDERSYNC_SECRETS_DIR"
DEFAULT_SECRETS_DIR = "/run/secrets"
INTERVALS = {
    "orders": 15.0,
    "order_items": 60.0,
    "shipments": 15.0,
    "notes": 60.0,
    "categories": 600.0,
    "products": 600.0,
    "variants": 600.0,
    "merchant_catalogs": 600.0,
    "order_audit": 15.0,
    "order_item_audit": 15.0,
    "shipment_audit": 15.0,
    "package_audit": 15.0,
    "message_audit": 15.0,
    "note_audit": 15.0,
    "category_audit": 60.0,
    "product_audit": 60.0,
    "variant_audit": 60.0,
    "merchant_catalog_audit": 60.0,
}
"""The usual seconds between two polls of each resource, and of each kind of audit log."""
RESOURCES = tuple(INTERVALS)
"""The resources and audit logs that this version can read."""
PRESETS = {
    "orders": {"orders": INTERVALS["orders"]},
    "records": {name: seconds for name, seconds in INTERVALS.items() if not name.endswith("_audit")},
    "all": INTERVALS,
}
"""What is polled where it is not said one by one: orders, all records, or those and all their audit logs."""
WITH_STATUS = ("orders", "order_items", "shipments")
"""Those whose records have a status."""
SANDBOX_ACCOUNT = "sandbox"
"""The account of `ordersync run --sandbox`. Each run begins with new orders and drops what it knew of older ones."""
_MAPS = (
    "ORDERSYNC_POLL__INTERVALS",
    "ORDERSYNC_POLL__IGNORE_FIELDS",
    "ORDERSYNC_PRIVACY__FIELDS",
    "ORDERSYNC_INTEREST__MERCHANTS",
    "ORDERSYNC_INTEREST__STATUSES",
    "ORDERSYNC_INTEREST__FINAL_STATUSES",
    "ORDERSYNC_EVENTS__GROUPS",
    "ORDERSYNC_RETENTION__RESOURCES",
)

_GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _has_good_port(parts):
        raise ValueError("must be an address like https://api.ordermesh.io")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold no user, password, query or fragment")
    return value.rstrip("/")


def _optional_url(value: str | None) -> str | None:
    return _http_url(value) if value else None


def _has_good_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _redis_url(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in {"redis", "rediss", "unix"} or not _has_good_port(parts):
        raise ValueError("must be an address like redis://host:6379/0, rediss://... or unix:///path")
    return value


def _home(value: Path | None) -> Path | None:
    return value.expanduser() if value else None


def _account_name(value: str) -> str:
    if not _ACCOUNT_NAME.fullmatch(value):
        raise ValueError("must be 1 to 64 letters, digits, dots, dashes or underscores")
    if value == SANDBOX_ACCOUNT:
        raise ValueError(
            f"{value!r} is the account of `ordersync run --sandbox`, which empties it; choose another"
        )
    return value


def _resource(value: str) -> str:
    if value not in RESOURCES:
        raise ValueError(f"there is no resource {value!r}. There is: {', '.join(RESOURCES)}")
    return value


_Resource = Annotated[str, AfterValidator(_resource)]


def _group_name(value: str) -> str:
    if not _GROUP_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no name for a group: 1 to 64 letters, digits, dots, colons, dashes")
    return value


_GroupName = Annotated[str, AfterValidator(_group_name)]


def _field_path(value: str) -> str:
    names = value.removeprefix("**.").split(".")
    if not all(names) or any(mark in value.removeprefix("**.") for mark in "*[]"):
        raise ValueError(
            f"{value!r} is no path to a field. Write names with dots between them, lists are gone through by "
            "themselves: items.images; or **.email for a name at any depth"
        )
    if value.startswith("**.") and len(names) > 1:
        raise ValueError(f"{value!r}: behind **. stands one name, such as **.email")
    return value


_FieldPath = Annotated[str, AfterValidator(_field_path)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ApiSettings(_Part):
    """How to reach OrderMesh, and how much to ask of it."""

    base_url: Annotated[str, AfterValidator(_http_url)] = Field(
        "https://api.ordermesh.io", description="address of the gateway"
    )
    client_id: str | None = Field(None, description="production login: id of the service client")
    client_secret: SecretStr | None = Field(None, description="production login: its secret")
    username: str | None = Field(None, description="development login: user")
    password: SecretStr | None = Field(None, description="development login: password")
    requests_per_second: float = Field(10, gt=0, le=1_000_000, description="budget of all workers together")
    max_concurrency: int = Field(4, ge=1, le=64, description="requests under way of all workers together")
    page_size: int = Field(100, ge=1, le=1000, description="records asked for in one page")
    timeout: float = Field(30, gt=0, le=600, description="seconds without a byte until a request has failed")
    attempts: int = Field(5, ge=1, le=20, description="tries for one request before the poll fails")

    @property
    def has_login(self) -> bool:
        """Whether one of the two logins is complete."""
        return bool((self.client_id and self.client_secret) or (self.username and self.password))


class RedisSettings(_Part):
    """Where events and state are kept, and where arq has its queue."""

    url: Annotated[SecretStr | None, AfterValidator(_redis_url)] = Field(
        None, description="events and state; without it an embedded server is started"
    )
    queue_url: Annotated[SecretStr | None, AfterValidator(_redis_url)] = Field(
        None, description="arq's queue; without it the same server"
    )


class PollSettings(_Part):
    """What is read, and how often."""

    preset: Literal["orders", "records", "all"] = Field(
        "orders", description="what is polled, each at its usual interval, where no intervals are set"
    )
    intervals: dict[_Resource, Annotated[float, Field(ge=1, le=86400)]] = Field(
        default={}, description="seconds between two polls of each resource that is polled, 1 to 86400"
    )
    ignore_fields: dict[_Resource, tuple[str, ...]] = Field(
        default={}, description="top-level fields whose change alone is no change"
    )
    complete_every: float = Field(
        3600,
        ge=1,
        le=86400,
        description="seconds between two complete reads where the rest reads what is newer",
    )

    @property
    def chosen(self) -> dict[str, float]:
        """What is polled, and how often."""
        return dict(self.intervals or PRESETS[self.preset])


class ReconcileSettings(_Part):
    """How what was published is held against the audit logs of OrderMesh."""

    every: float = Field(
        3600, ge=0, le=2_592_000, description="seconds between two comparisons with the audit logs; 0: never"
    )
    share: float = Field(
        0.1, gt=0, le=1, description="part of the request budget that the comparison may take, such as 0.1"
    )
    lag: float = Field(
        120,
        ge=0,
        le=86_400,
        description="seconds after a change until it counts as missed, if it was not published",
    )


class InterestSettings(_Part):
    """Which records are published. Which resources: those that have an interval."""

    merchants: tuple[str, ...] = Field(default=(), description="ids of merchants; all if not set")
    statuses: dict[_Resource, tuple[str | int, ...]] = Field(
        default={}, description="statuses of each resource in which its records are published; all if not set"
    )
    final_statuses: dict[_Resource, tuple[str | int, ...]] = Field(
        default={"orders": ("Fulfilled", "Cancelled")},
        description="statuses in which records are left to the complete reads, where every poll would read everything",
    )

    @model_validator(mode="after")
    def _have_statuses(self) -> Self:
        for resource in {**self.statuses, **self.final_statuses}:
            if resource not in WITH_STATUS:
                raise ValueError(f"{resource} have no status. There is one in: {', '.join(WITH_STATUS)}")
        return self


class PrivacySettings(_Part):
    """What of the records is published. What a rule does: `worker.capture.privacy`."""

    policy: Literal["keep", "minimal"] = Field(
        "keep", description="minimal: without names, addresses, phones, mail, payment details, free text"
    )
    fields: dict[_Resource, dict[_FieldPath, Literal["keep", "drop", "mask", "hash"]]] = Field(
        default={}, description="keep, drop, mask or hash for fields of each resource, over the policy"
    )
    key: SecretStr | None = Field(None, description="key of the hashes, 16 characters or more")

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        key = self.key.get_secret_value() if self.key else ""
        if key and len(key) < 16:
            raise ValueError(
                "ORDERSYNC_PRIVACY__KEY is too short to keep anything secret: 16 characters or more"
            )
        for resource, rules in self.fields.items():
            for path, action in rules.items():
                if action == "hash" and not key:
                    raise ValueError(
                        f"{path} of {resource} is to be hashed, which needs a key: set ORDERSYNC_PRIVACY__KEY to a "
                        "secret of 16 characters or more, and keep it: with another key all hashes are others"
                    )
                if action != "keep" and path.lower() in {"id", "**.id"}:
                    raise ValueError(
                        f"{path} of {resource} names the record, and stands in `subject` of every event: it is kept"
                    )
        return self


class EventSettings(_Part):
    """Who reads the events, and what they hold beside the record."""

    groups: dict[_GroupName, tuple[_Resource, ...]] = Field(
        default={}, description="consumer groups that exist from the start, and the resources that each reads"
    )
    compress_above: int | None = Field(
        None, ge=1, description="bytes above which the record of an event is compressed; never if not set"
    )
    previous: bool = Field(
        default=False, description="whether updates tell the old values of what changed; keeps every record"
    )
    traceparent: bool = Field(
        default=False, description="whether events tell the run that published them, as a W3C traceparent"
    )


class KeptSettings(_Part):
    """What is kept of the stream of one resource; 0 is no limit."""

    max_age: float | None = Field(None, ge=0)
    max_entries: int | None = Field(None, ge=0)
    max_bytes: int | None = Field(None, ge=0)


class RetentionSettings(_Part):
    """How long events are kept. What a group still needs is kept longer, whatever the limits say."""

    max_age: float = Field(604_800, ge=0, description="seconds that events are kept; 0: without limit")
    max_entries: int = Field(0, ge=0, description="events that are kept of a resource; 0: without limit")
    max_bytes: int = Field(
        0, ge=0, description="bytes of events that are kept of a resource; 0: without limit"
    )
    resources: dict[_Resource, KeptSettings] = Field(
        default={}, description="max_age, max_entries, max_bytes of single resources"
    )
    every: float = Field(60, ge=1, le=86400, description="seconds between two rounds")
    idle_after: float = Field(
        604_800, ge=1, description="seconds without reading after which a group is reported as idle"
    )

    def of(self, resource: str) -> KeptSettings:
        """The limits of one resource."""
        own = self.resources.get(resource, KeptSettings())
        shared = {name: getattr(self, name) for name in KeptSettings.model_fields}
        return KeptSettings(**shared | own.model_dump(exclude_none=True))


class BackpressureSettings(_Part):
    """When polling pauses, until consumers or Redis have caught up. 0 turns a mark off."""

    entries: int = Field(500_000, ge=0, description="polling pauses when a group has so many events to read")
    bytes: int = Field(1 << 30, ge=0, description="the same in bytes")
    memory: float = Field(0.9, ge=0, le=1, description="polling pauses at this share of Redis' maxmemory")
    resume: float = Field(
        0.9, gt=0, le=1, description="part of a mark below which polling goes on, such as 0.9"
    )


class ResyncSettings(_Part):
    """Resyncs that somebody asks for."""

    share: float = Field(
        0.5, gt=0, le=1, description="part of the request budget that resyncs take at most, such as 0.5"
    )


class LogSettings(_Part):
    """How the worker writes its logs; they go to stderr."""

    format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level written")


class MetricsSettings(_Part):
    """Metrics for Prometheus, and probes: `/metrics`, `/healthz`, `/readyz`. Off without a port."""

    port: int | None = Field(
        None, ge=0, le=65535, description="port of /metrics, /healthz, /readyz; none: off"
    )
    host: str = Field("127.0.0.1", min_length=1, description="address that it listens on; 0.0.0.0: all")


class TraceSettings(_Part):
    """Traces to an OpenTelemetry collector. Off without an address."""

    endpoint: Annotated[str | None, AfterValidator(_optional_url)] = Field(
        None, description="collector (OTLP over HTTP), such as http://127.0.0.1:4318; none: off"
    )
    share: float = Field(1.0, ge=0, le=1, description="share of traces that is recorded, from 0 to 1")


@dataclass(frozen=True, slots=True)
class Account:
    """One set of OrderMesh credentials, and what is read with it."""

    name: str
    api: ApiSettings
    intervals: Mapping[str, float]
    ignore_fields: Mapping[str, tuple[str, ...]]
    complete_every: float = 3600.0
    reconcile: ReconcileSettings = field(default_factory=ReconcileSettings)
    contract_file: Path | None = None
    interest: InterestSettings = field(default_factory=InterestSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    events: EventSettings = field(default_factory=EventSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    backpressure: BackpressureSettings = field(default_factory=BackpressureSettings)
    resync: ResyncSettings = field(default_factory=ResyncSettings)


def default_data_dir() -> Path:
    """The XDG state folder of this program."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "ordersync"


class Settings(BaseSettings):
    """All settings. Use `load()`, which turns every problem into a `SettingsError` that names it."""

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
    account: Annotated[str, AfterValidator(_account_name)] = Field(
        "default", description="name of the one account"
    )
    accounts_file: Annotated[Path | None, AfterValidator(_home)] = Field(
        None, description="TOML file with many accounts, instead of the one"
    )
    contract_file: Annotated[Path | None, AfterValidator(_home)] = Field(
        None, description="contract profile (TOML) or OpenAPI document (JSON, YAML) of the gateway"
    )
    data_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default_factory=default_data_dir, description="data of the embedded server, heartbeat"
    )
    grace_seconds: float = Field(4, ge=0, le=600, description="time to finish the page in hand when stopping")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources, the first wins."""
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
        """The accounts to work for, each with a complete login.

        Raises:
            SettingsError: There is no account with a login, or the accounts file cannot be used.

        """
        if self.accounts_file is not None:
            return _read_accounts(self.accounts_file, self)
        if not self.api.has_login:
            raise SettingsError(
                "No login for OrderMesh. Set ORDERSYNC_API__CLIENT_ID and ORDERSYNC_API__CLIENT_SECRET "
                "(in the environment, in .env or as secret files; for development "
                "ORDERSYNC_API__USERNAME and ORDERSYNC_API__PASSWORD), or name accounts in "
                "ORDERSYNC_ACCOUNTS_FILE. To try it without an account: ordersync run --sandbox"
            )
        return (_account(self.account, self.api, self.poll, self.contract_file, self),)

    def shown(self) -> dict[str, Any]:
        """All settings with secrets hidden, as plain values."""
        shown = self.model_dump(mode="json")
        for name in ("url", "queue_url"):
            if url := getattr(self.redis, name):
                shown["redis"][name] = hide_password(url.get_secret_value())
        return shown


def load(**arguments: Any) -> Settings:
    """Read the settings from all sources.

    Raises:
        SettingsError: A value cannot be used or a name is not known; the message names the variable.

    """
    given = _given()
    _refuse_unknown_names(given)
    try:
        return Settings(**arguments)
    except ValidationError as error:
        raise SettingsError(_describe(error, PREFIX)) from None
    except SourceError as error:
        where = ", ".join(name for name in _MAPS if name in given) or "Settings"
        raise SettingsError(f"{where}: {error.__cause__ or error}. Maps are written as JSON.") from None


def hide_password(url: str) -> str:
    """A URL with its password, also one among the options of a Redis URL, replaced by stars."""
    url = re.sub(r"(?<=[?&]password=)[^&#]*", "***", url)
    return re.sub(r"^(\w+://[^/@:]*):[^/]*@", r"\1:***@", url)


def variable_names() -> dict[str, str]:
    """Every variable that may be set, and what it means."""
    names = {SECRETS_DIR: "folder of secret files"}
    for name, setting in Settings.model_fields.items():
        part = setting.annotation
        if isinstance(part, type) and issubclass(part, _Part):
            for inner, inner_field in part.model_fields.items():
                names[f"{PREFIX}{name}__{inner}".upper()] = inner_field.description or ""
        else:
            names[f"{PREFIX}{name}".upper()] = setting.description or ""
    return names


def _given() -> set[str]:
    """The names that are set somewhere: in the environment, in `.env`, as secret files."""
    names = set(os.environ)
    try:
        names.update(dotenv_values(".env"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f".env cannot be read: {error}") from None
    folder = Path(os.environ.get(SECRETS_DIR) or DEFAULT_SECRETS_DIR)
    if os.environ.get(SECRETS_DIR) and not folder.is_dir():
        raise SettingsError(f"{SECRETS_DIR}: there is no folder {folder}")
    with contextlib.suppress(OSError):
        names.update(file.name for file in folder.iterdir())
    return {name.upper() for name in names if name.upper().startswith(PREFIX)}


def _refuse_unknown_names(given: Iterable[str]) -> None:
    known = variable_names()
    for name in sorted(given):
        if name in known or name.startswith(tuple(f"{map_name}__" for map_name in _MAPS)):
            continue
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]}?" if close else " See: ordersync config show --names"
        raise SettingsError(f"{name} is not a setting.{hint}")


def _describe(error: ValidationError, prefix: str) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        name = prefix + "__".join(str(part) for part in problem["loc"] if part != "[key]").upper()
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
        reconcile=settings.reconcile,
        contract_file=contract_file,
        interest=settings.interest,
        privacy=settings.privacy,
        events=settings.events,
        retention=settings.retention,
        backpressure=settings.backpressure,
        resync=settings.resync,
    )


class _AccountEntry(_Part):
    """One `[accounts.NAME]` of the accounts file: settings of `api`, and those of `poll` that differ.

    `contract_file`, relative to the accounts file, stands for the one of the environment; "" for none.
    """

    api: dict[str, Any] = {}
    poll: dict[str, Any] = {}
    contract_file: str | None = None


def _read_accounts(path: Path, settings: Settings) -> tuple[Account, ...]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"ORDERSYNC_ACCOUNTS_FILE: {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"ORDERSYNC_ACCOUNTS_FILE: {path} is not TOML: {error}") from None
    tables = content.get("accounts")
    if not isinstance(tables, dict) or not tables or set(content) != {"accounts"}:
        raise SettingsError(
            f"ORDERSYNC_ACCOUNTS_FILE: {path} needs tables [accounts.NAME.api] and nothing else"
        )
    return tuple(_read_account(path, name, table, settings) for name, table in tables.items())


def _read_account(path: Path, name: str, table: Any, settings: Settings) -> Account:
    where = f"{path}: accounts.{name}"
    try:
        _account_name(name)
        entry = _AccountEntry.model_validate(table)
        # What the file leaves out comes from the environment, but never somebody else's login.
        shared = settings.api.model_dump(
            exclude={"client_id", "client_secret", "username", "password"}, exclude_unset=True
        )
        api = ApiSettings.model_validate({**shared, **_with_secret_files(path, entry.api)})
        shared = settings.poll.model_dump(exclude_unset=True)
        if "preset" in entry.poll:
            shared.pop("intervals", None)  # those of the account's own preset
        poll = PollSettings.model_validate({**shared, **entry.poll})
    except ValidationError as error:
        raise SettingsError(f"{where}: {_describe(error, '').lower()}") from None
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from None
    if not api.has_login:
        raise SettingsError(f"{where}: needs client_id and client_secret (or client_secret_file)")
    contract_file = settings.contract_file
    if entry.contract_file is not None:
        own = Path(entry.contract_file).expanduser()
        contract_file = path.parent / own if entry.contract_file else None
    return _account(name, api, poll, contract_file, settings)


def _with_secret_files(path: Path, api: dict[str, Any]) -> dict[str, Any]:
    """`client_secret_file = "..."` stands for the content of that file; likewise `password_file`."""
    values = dict(api)
    for name in ("client_secret", "password"):
        file = values.pop(f"{name}_file", None)
        if file is not None:
            try:
                values[name] = (path.parent / str(file)).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ValueError(f"{name}_file: {file} cannot be read: {error.strerror}") from None
    return values
