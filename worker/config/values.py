"""The kinds of values that settings have, each with the rule that it must keep."""

from __future__ import annotations

import base64
import re
from datetime import date
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, WithJsonSchema

from ordersync_consumer.resources import unknown_resource
from ordersync_consumer.servers.address import Kind, parse
from worker.clock import parse_time
from worker.config.file_trust import why_foreign
from worker.config.resources import SANDBOX_ACCOUNT

_GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_OWN_HEADERS = frozenset({
    "accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "expect", "host",
    "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip
_FIELD_RULES = ("keep", "drop", "mask", "hash")
_HASH_GROUP = re.compile(r"hash:[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_KEY_LENGTH, _KEY_SIGNS = 32, 8
_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}")
ACCOUNT_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""The pattern of the name of an account."""


def without_line_ends(values: Any) -> Any:
    """Return settings, by name, without the line break that `echo` and editors put at the end of a text.

    Args:
        values: The settings as they were given; what is no dictionary is returned unchanged.

    """
    if not isinstance(values, dict):
        return values
    return {name: value.rstrip("\r\n") if isinstance(value, str) else value for name, value in values.items()}


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _has_good_port(parts):
        raise ValueError("must be an address like https://api.ordermesh.io")
    _host_name(parts.hostname)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not contain a user, password, query or fragment")
    return value.rstrip("/")


def _optional_url(value: str | None) -> str | None:
    return _http_url(value) if value else None


def _has_good_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def _host_name(value: str) -> str:
    try:
        value.encode("idna")
    except UnicodeError:
        raise ValueError(f"{value!r} is not a host name") from None
    return value


def is_loopback(host: str) -> bool:
    """Return True for a name or an address of this machine itself."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _redis_url(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    address = parse(value.get_secret_value())
    if address.kind is not Kind.ONE:
        for host, _ in address.hosts:
            _host_name(host)
        return value
    parts = urlsplit(value.get_secret_value())
    if not _has_good_port(parts):
        raise ValueError("must be an address like redis://host:6379/0, with a port from 1 to 65535")
    if parts.scheme != "unix":
        _host_name(parts.hostname or "")
        # redis-py uses database 0 if the path is not a number.
        if not re.fullmatch(r"(/[0-9]*)?", parts.path):
            raise ValueError(f"{parts.path[1:]!r} is not a database number, as in redis://host:6379/0")
    return value


def _queue_url(value: SecretStr | None) -> SecretStr | None:
    checked = _redis_url(value)
    if checked is not None and parse(checked.get_secret_value()).kind is Kind.CLUSTER:
        raise ValueError(
            "arq's queue cannot be on a cluster: name one server (redis://host:6379/0) or sentinels "
            "(redis+sentinel://h1:26379,h2:26379/NAME/0)"
        )
    return checked


def _proxy_url(value: SecretStr | None) -> SecretStr | None:
    if value is None or not value.get_secret_value():
        return None
    parts = urlsplit(value.get_secret_value())
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _has_good_port(parts):
        raise ValueError("must be an address like http://user:password@proxy:3128")
    _host_name(parts.hostname)
    return value


def account_name(value: str) -> str:
    """Return the name if it is a valid name of an account.

    Raises:
        ValueError: The name is invalid; the message says why.

    """
    if not re.fullmatch(ACCOUNT_NAME, value):
        raise ValueError("must be 1 to 64 letters, digits, dots, dashes or underscores")
    if value == SANDBOX_ACCOUNT:
        raise ValueError(
            f"{value!r} is the account of `ordersync run --sandbox`, which deletes its data; choose another name"
        )
    return value


def _resource(value: str) -> str:
    if problem := unknown_resource(value):
        raise ValueError(problem)
    return value


def group_name(value: str) -> str:
    """Return the name of a group; raise `ValueError` if it cannot be one."""
    if not _GROUP_NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a group name: use 1 to 64 letters, digits, dots, colons, dashes or underscores"
        )
    return value


def _prefix(value: str) -> str:
    if not _PREFIX.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a prefix: use 1 to 64 letters, digits, dots, dashes, underscores and colons, "
            "such as shop:ordersync:"
        )
    return value


def _as_text(value: Any) -> Any:
    """Return a date of a TOML file as it is written."""
    return value.isoformat() if isinstance(value, date) else value


def _moment(value: str | None) -> str | None:
    if value is not None and parse_time(value) is None:
        raise ValueError(f"{value!r} is neither a date (2026-03-01) nor a time (2026-03-01T08:00:00Z)")
    return value


def _field_path(value: str) -> str:
    names = value.removeprefix("**.").split(".")
    if not all(names) or any(mark in value.removeprefix("**.") for mark in "*[]"):
        raise ValueError(
            f"{value!r} is not a field path. Join names with dots, as in items.images (lists need no index), or "
            "write **.email for a name at any depth"
        )
    if value.startswith("**.") and len(names) > 1:
        raise ValueError(f"{value!r}: write exactly one name after **., such as **.email")
    return value


def _home(value: Path | None) -> Path | None:
    return value.expanduser() if value else None


def _not_foreign(value: Path | None) -> Path | None:
    if value and (reason := why_foreign(value)):
        raise ValueError(
            f"{value} is not read, because {reason}. Whoever can change it decides whom the worker trusts. Check the "
            "content, then correct owner and mode: chown, chmod go-w"
        )
    return value


def _headers(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, secret in value.items():
        text = secret.get_secret_value().strip()
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a header")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"the worker sets the header {name} itself")
        if not text or not text.isascii() or not text.isprintable():
            raise ValueError(f"the value of {name} must be printable ASCII characters")
    return {name: SecretStr(secret.get_secret_value().strip()) for name, secret in value.items()}


def keys_of(value: SecretStr | None) -> tuple[SecretStr, ...]:
    """Return the secret keys that a setting has, newest first. White space stands between them."""
    return tuple(SecretStr(key) for key in (value.get_secret_value() if value else "").split())


def _secret_keys(value: SecretStr | None) -> SecretStr | None:
    for key in keys_of(value):
        if weakness := _weakness_of(key.get_secret_value()):
            raise ValueError(f"a key is too weak: {weakness}. Use what `openssl rand -hex 32` prints")
    return value


def _webhook_secrets(value: SecretStr | None) -> SecretStr | None:
    for secret in keys_of(value):
        prefix, _, encoded = secret.get_secret_value().partition("_")
        try:
            key = base64.b64decode(encoded, validate=True)
        except ValueError:
            key = b""
        if prefix != "whsec" or not 24 <= len(key) <= 64:
            raise ValueError(
                "must be whsec_ and 24 to 64 random bytes in base64. To create one: "
                'echo "whsec_$(openssl rand -base64 32)"'
            )
    return value


def _field_rule(value: str) -> str:
    if value not in _FIELD_RULES and not _HASH_GROUP.fullmatch(value):
        raise ValueError("Input should be 'keep', 'drop', 'mask', 'hash' or 'hash:NAME'")
    return value


def _privacy_key(value: SecretStr | None) -> SecretStr | None:
    weakness = _weakness_of(value.get_secret_value()) if value else ""
    if weakness:
        raise ValueError(
            f"the key is too weak: {weakness}. Whoever guesses it can guess what was hashed. Use what "
            "`openssl rand -base64 32` prints, and keep it: another key changes every hash"
        )
    return value


def _weakness_of(key: str) -> str:
    """Return why a key can be guessed; "" if it looks random. Empty: there is no key.

    None of these is true of 32 random bytes in base64 or 16 in hex, but for one of more than a million keys.
    """
    signs, pairs = len(set(key)), list(pairwise(map(ord, key)))
    reasons = {
        f"it has {len(key)} characters of at least {_KEY_LENGTH}": len(key) < _KEY_LENGTH,
        f"it has {signs} different characters of at least {_KEY_SIGNS}": signs < _KEY_SIGNS,
        "it repeats itself": any(key.startswith(key[at:]) for at in range(1, len(key) // 2 + 1)),
        "its characters follow each other in the alphabet": (
            sum(abs(one - other) <= 1 for one, other in pairs) > len(pairs) * 3 // 5
        ),
        "it consists of words or of digits alone": (
            key.isdigit() or not any(sign.isdigit() or sign.isupper() for sign in key)
        ),
    }
    return next((why for why, is_so in reasons.items() if key and is_so), "")


HttpAddress = Annotated[str, AfterValidator(_http_url)]
OptionalHttpAddress = Annotated[str | None, AfterValidator(_optional_url)]
HostName = Annotated[str, AfterValidator(_host_name)]
ProxyAddress = Annotated[SecretStr | None, AfterValidator(_proxy_url)]
RedisAddress = Annotated[SecretStr | None, AfterValidator(_redis_url)]
QueueAddress = Annotated[SecretStr | None, AfterValidator(_queue_url)]
Prefix = Annotated[str, AfterValidator(_prefix)]
Moment = Annotated[str | None, BeforeValidator(_as_text), AfterValidator(_moment)]
WebhookSecrets = Annotated[SecretStr | None, AfterValidator(_webhook_secrets)]
Headers = Annotated[dict[str, SecretStr], AfterValidator(_headers)]
FieldRule = Annotated[
    str,
    AfterValidator(_field_rule),
    WithJsonSchema({"type": "string", "enum": [*_FIELD_RULES, "hash:NAME"]}),
]
PrivacyKey = Annotated[SecretStr | None, AfterValidator(_privacy_key)]
ResourceName = Annotated[str, AfterValidator(_resource)]
GroupName = Annotated[str, AfterValidator(group_name)]
FieldPath = Annotated[str, AfterValidator(_field_path)]
SecretKeys = Annotated[SecretStr | None, AfterValidator(_secret_keys)]
File = Annotated[Path | None, AfterValidator(_home), AfterValidator(_not_foreign)]
