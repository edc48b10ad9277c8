"""Addresses of Redis: one server, the master that sentinels name, or a cluster. No I/O.

    redis://USER:PASSWORD@HOST:PORT/DB
    redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/NAME/DB?sentinel_password=...
    redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT

With `rediss` in the place of `redis` every connection is encrypted, also those to sentinels. User and password are
those of the servers that hold the data; sentinels have their own as options. The other options are those of redis-py.
"""

from __future__ import annotations

import re
from enum import StrEnum
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

SENTINEL_PORT = 26379
REDIS_PORT = 6379
_ONE = frozenset({"redis", "rediss", "unix"})
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/\s]+)(?::([0-9]{1,5}))?")


class Kind(StrEnum):
    """What an address leads to."""

    ONE = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Address(msgspec.Struct, frozen=True):
    """A parsed address.

    Attributes:
        kind: What it leads to.
        plain: An address of one server, as redis-py reads it, with user, password, database and options. For sentinels
            and clusters its host is the first one of `hosts`.
        hosts: The sentinels, or the nodes of the cluster that are asked for the others.
        name: The name of the master, where sentinels are asked.
        sentinel_user: The user for the sentinels; "" for none.
        sentinel_password: The password for the sentinels; "" for none.

    """

    kind: Kind
    plain: str
    hosts: tuple[tuple[str, int], ...] = ()
    name: str = ""
    sentinel_user: str = ""
    sentinel_password: str = ""

    @property
    def is_encrypted(self) -> bool:
        """True if the connections are encrypted."""
        return self.plain.startswith("rediss:")


def parse(url: str) -> Address:
    """Return what an address says.

    Raises:
        ValueError: It is not the address of a Redis; the message says why, without the address.

    """
    scheme = url.partition(":")[0].lower()
    base, _, kind = scheme.partition("+")
    if scheme in _ONE:
        return Address(Kind.ONE, url)
    if base not in {"redis", "rediss"} or kind not in {Kind.SENTINEL, Kind.CLUSTER}:
        raise ValueError(
            "must be an address like redis://host:6379/0, rediss://..., unix:///path, "
            "redis+sentinel://h1:26379,h2:26379/NAME/0 or redis+cluster://h1:6379,h2:6379"
        )
    parts = urlsplit(url)
    login, _, listed = parts.netloc.rpartition("@")
    sentinel = kind == Kind.SENTINEL
    hosts = _hosts(listed, SENTINEL_PORT if sentinel else REDIS_PORT)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    user, password = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    name, database = _path(parts.path) if sentinel else ("", _no_path(parts.path))
    if not sentinel and (user or password):
        raise ValueError("the options sentinel_username and sentinel_password need redis+sentinel://")
    host, port = hosts[0]
    shown = f"[{host}]" if ":" in host else host
    query = f"?{urlencode(options)}" if options else ""
    plain = f"{base}://{login}{'@' if login else ''}{shown}:{port}/{database}{query}"
    return Address(Kind(kind), plain, hosts, name, user, password)


def secrets_of(url: str) -> tuple[str, ...]:
    """Return the passwords in an address, so that they can be hidden in texts."""
    try:
        parts, address = urlsplit(url), parse(url)
    except ValueError:
        return ()
    found = (unquote(parts.password or ""), parts.password or "", address.sentinel_password)
    return tuple(dict.fromkeys(secret for secret in found if secret))


def _hosts(listed: str, port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for item in listed.split(","):
        found = _HOST.fullmatch(item.strip())
        if found is None or not 0 < int(found[2] or port) <= 65535:
            raise ValueError(f"{item!r} is not a host and a port, as in h1:{port},h2:{port}")
        hosts.append((unquote(found[1].strip("[]")), int(found[2] or port)))
    return tuple(dict.fromkeys(hosts))


def _path(path: str) -> tuple[str, str]:
    """Return the name of the master and the database."""
    name, _, database = path.removeprefix("/").partition("/")
    if not name:
        raise ValueError("names no master, as in redis+sentinel://h1:26379,h2:26379/NAME/0")
    if not re.fullmatch("[0-9]*", database):
        raise ValueError(f"{database!r} is not a database number, as in redis+sentinel://h1:26379/NAME/0")
    return unquote(name), database or "0"


def _no_path(path: str) -> str:
    if path not in {"", "/", "/0"}:
        raise ValueError(f"a cluster has no databases: remove {path!r} from the address")
    return "0"
