"""The checks of `ordersync doctor`.

Each check yields findings. The only data that a check changes is the stored findings of the contract probe.
"""

from __future__ import annotations

import base64
import difflib
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import redis.exceptions

from worker.admin import probe_report as probed
from worker.admin.finding import Finding, Severity
from worker.capture.registry import RESOURCES
from worker.config.settings import hide_password
from worker.errors import ApiError, GatewayUnreachable, LoginRejected, OrderMeshError, OrdersyncError
from worker.ordermesh.http.auth import credentials_of, login_request, parse_token
from worker.ordermesh.record_schema import record_schema
from worker.redis.connections import connect, version_of
from worker.redis.facts import evicted, eviction_words
from worker.redis.refusals import explain, refusal_of
from worker.service.presence import Presence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from redis.asyncio import Redis

    from worker.clock import Clock
    from worker.config.sections import Account
    from worker.config.settings import Settings
    from worker.keys import Keys
    from worker.ordermesh.contract.findings import Capabilities
    from worker.services import AccountServices

MIN_MEMORY_SHARE, MIN_MEMORY = 0.1, 32 << 20
"""Share of the memory of Redis, and bytes: with less memory left than either, Redis may soon be full."""
MAX_OFFSET = 30.0
"""Acceptable difference between two clocks in seconds."""
_MEGABYTE = 1 << 20


def check_settings(settings: Settings, accounts: tuple[Account, ...]) -> Iterator[Finding]:
    """Yield findings about settings that are valid but may be wrong."""
    for account in accounts:
        api = account.api
        every = ", ".join(f"{name} every {seconds:g} s" for name, seconds in account.intervals.items())
        yield Finding(
            "settings", Severity.OK, f"{api.base_url}, polls {every or 'nothing'}", account=account.name
        )
        if not account.intervals:
            yield Finding(
                "settings", Severity.PROBLEM, "no resource is polled",
                'set ORDERSYNC_POLL__INTERVALS, for example {"orders": 15}', account.name, 2,
            )  # fmt: skip
        yield from _unknown_fields(account)
        parts = urlsplit(api.base_url)
        if parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
            yield Finding(
                "settings", Severity.WARNING, "the connection to the gateway is not encrypted and exposes the secret",
                "use an https address in ORDERSYNC_API__BASE_URL", account.name,
            )  # fmt: skip
    folder = settings.data_dir
    nearest = next(item for item in (folder, *folder.parents) if item.exists())
    if not os.access(nearest, os.W_OK) or not nearest.is_dir():
        yield Finding(
            "settings", Severity.PROBLEM, f"the data folder {folder} is not writable",
            "make it writable, or set ORDERSYNC_DATA_DIR to another folder", exit_status=2,
        )  # fmt: skip


def _unknown_fields(account: Account) -> Iterator[Finding]:
    """Yield warnings for fields in settings that no schema of the vendor contains: they may be misspelled."""
    named = [
        ("ORDERSYNC_PRIVACY__FIELDS", account.privacy.fields),
        ("ORDERSYNC_POLL__IGNORE_FIELDS", account.ignore_fields),
    ]
    for setting, by_resource in named:
        for resource, paths in by_resource.items():
            if resource not in RESOURCES:
                continue
            schema = record_schema(RESOURCES[resource].search, "", resource)
            tops = {name.lower(): name for name in schema["properties"]}
            inner = (item.get("properties", {}) for item in schema.get("$defs", {}).values())
            anywhere = tops | {name.lower(): name for names in inner for name in names}
            for path in paths:
                known = anywhere if path.startswith("**.") else tops
                name = path.removeprefix("**.").split(".")[0]
                if name.lower() in known:
                    continue
                close = difflib.get_close_matches(name.lower(), known, n=1)
                hint = f"did you mean {known[close[0]]}? " if close else ""
                yield Finding(
                    "settings", Severity.WARNING, f"{setting}: unknown field {name!r} of {resource}",
                    f"{hint}The vendor does not document every field. A field that does not exist has no effect",
                    account.name,
                )  # fmt: skip


async def check_login(account_services: AccountServices, clock: Clock) -> AsyncIterator[Finding]:
    """Yield the flow, validity and permissions of a login. It logs in once and leaves the shared token unchanged."""
    account, credentials = account_services.account.name, credentials_of(account_services.account.api)
    request = login_request(credentials)
    flow = "client credentials" if credentials.is_client else "user name and password"
    try:
        raw = await account_services.client.login(request)
        token = parse_token(request, raw, now=clock.now(), share=1.0, login="", previous=None)
    except OrderMeshError as error:
        yield _problem("login", error, account)
        return
    seconds = token.expires_at - token.issued_at
    spelled = ", in snake case" if account_services.client.profile.login_case == "snake" else ""
    renewal = "renewed by a refresh token" if token.refresh else "renewed by logging in again"
    yield Finding(
        "login",
        Severity.OK,
        f"{flow}{spelled}; a token is valid for {_duration(seconds)}, {renewal}",
        account=account,
    )
    if not credentials.is_client:
        yield Finding(
            "login", Severity.WARNING, "a user login ends with a logout or a new password",
            "use ORDERSYNC_API__CLIENT_ID and ORDERSYNC_API__CLIENT_SECRET in production", account,
        )  # fmt: skip
    yield _allowed(raw, account)


def _allowed(raw: bytes, account: str) -> Finding:
    """Return the permissions that the login reports, in its response or in the token itself."""
    granted = permissions(raw)
    if granted:
        listed = "; ".join(f"{name}: {', '.join(verbs) or 'none'}" for name, verbs in granted.items())
        return Finding("login", Severity.OK, f"permissions: {listed}", account=account)
    if claimed := claims(raw):
        listed = "; ".join(f"{name}: {', '.join(words)}" for name, words in claimed.items())
        return Finding(
            "login", Severity.OK, f"the token contains {listed}; see the contract findings below", account=account
        )  # fmt: skip
    return Finding(
        "login", Severity.NOTE, "the login does not report the permissions; see the contract findings below",
        account=account,
    )  # fmt: skip


def permissions(raw: bytes) -> dict[str, list[str]]:
    """Return the verbs by resource that the roles in the response of a login grant."""
    result: dict[str, list[str]] = {}
    for role in _dicts(_decoded(raw), "roles"):
        for part in _dicts(role, "permissionSet"):
            verbs = [str(verb.get("name")) for verb in _dicts(part, "associatedPermissions")]
            known = result.setdefault(str(part.get("resourceName")), [])
            known += [verb for verb in verbs if verb not in known]
    return result


def claims(raw: bytes) -> dict[str, list[str]]:
    """Return the scopes, roles and permissions in the response of a login, or in its token if the token is a JWT.

    The permissions of a client are not documented, so the usual names are tried. The signature is not verified: the
    result is only displayed.
    """
    answer = _decoded(raw)
    token = answer.get("accessToken") if isinstance(answer, dict) else None
    parts = token.split(".") if isinstance(token, str) else []
    inside = _decoded(_unpadded(parts[1])) if len(parts) == 3 else None
    result: dict[str, list[str]] = {}
    for source in (answer, inside):
        for name in ("scope", "scp", "roles", "permissions"):
            _note_words(result, name, source.get(name) if isinstance(source, dict) else None)
        realm = source.get("realm_access") if isinstance(source, dict) else None
        _note_words(result, "roles", realm.get("roles") if isinstance(realm, dict) else None)
    return result


def _note_words(result: dict[str, list[str]], name: str, value: Any) -> None:
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    known = result.get(name, [])
    if new := [word for word in words if isinstance(word, str) and word and word not in known]:
        result[name] = known + new


def _unpadded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return b""


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


async def check_contract(
    account_services: AccountServices, result: dict[str, Capabilities]
) -> AsyncIterator[Finding]:
    """Yield the findings of the probe for each resource. A resource that is not polled gets a note, not a problem."""
    account = account_services.account.name
    for resource in RESOURCES.values():
        polled = resource.name in account_services.account.intervals
        try:
            capabilities = result[resource.name] = await account_services.capabilities.probe(resource)
        except OrderMeshError as error:
            yield _problem("contract", error, account)
            if isinstance(error, GatewayUnreachable | LoginRejected):
                return
            continue
        bad = probed.stops(capabilities, account_services.account.api.page_size)
        level = (Severity.PROBLEM if polled else Severity.NOTE) if bad else Severity.OK
        note = "" if polled else " (not polled)"
        text = bad or probed.summary(capabilities)
        advice = probed.advice(capabilities, account_services.account.api.page_size)
        yield Finding("contract", level, f"{resource.name}{note}: {text}", advice, account)
        for text in probed.shortcomings(capabilities) if polled and not bad else ():
            yield Finding("contract", Severity.NOTE, f"{resource.name}: {text}", account=account)


async def check_clock(
    account_services: AccountServices, result: dict[str, Capabilities], clock: Clock
) -> AsyncIterator[Finding]:
    """Yield the offset of the gateway's clock, from the `Date` of a response, which has a resolution of a second."""
    account = account_services.account.name
    search = next((item.search for item in result.values() if item.state in {"found", "empty"}), None)
    if search is None:
        return
    try:
        before = clock.now()
        reply = await account_services.client.call(
            search, query=account_services.client.profile.page_query(search, 0, 1)
        )
    except ApiError:
        return
    except OrderMeshError as error:
        yield _problem("clock", error, account)
        return
    if reply.date is None:
        yield Finding("clock", Severity.NOTE, "the gateway does not report its time", account=account)
        return
    # A Date is truncated to seconds, so the true time is up to a second later.
    offset = reply.date + 0.5 - (before + clock.now()) / 2
    yield _offset("the gateway's", offset, account)


async def check_workers(client: Redis, keys: Keys) -> AsyncIterator[Finding]:
    """Yield the live workers whose hosts have a clock that differs from that of Redis."""
    for beat in await Presence(client, keys).alive():
        if abs(beat.clock_offset) >= MAX_OFFSET:
            yield _offset(f"worker {beat.worker}'s", beat.clock_offset, keys.account, "that of Redis")


async def check_redis(url: str, role: str) -> AsyncIterator[Finding]:
    """Yield findings about the version, persistence, eviction, free memory and clock of Redis."""
    shown, area = hide_password(url), "redis"
    client = connect(url)
    try:
        facts = await _info(client)
        seconds, micros = await client.time()
    except (redis.exceptions.RedisError, OSError) as error:
        # The text of a refusal names what to do.
        advice = "" if refusal_of(error) else "check the address, and that the server runs"
        yield Finding(
            area, Severity.PROBLEM, f"{shown} ({role}): {explain(error)}", advice, exit_status=3
        )  # fmt: skip
        return
    finally:
        await client.aclose()
    if facts is None:
        yield Finding(area, Severity.OK, f"{shown} ({role}): answers")
        yield Finding(
            area, Severity.NOTE, "the Redis user may not call INFO: version, memory and persistence are not checked",
            "check that the server has maxmemory-policy noeviction and appendonly yes",
        )  # fmt: skip
        yield _offset("Redis's", int(seconds) + int(micros) / 1e6 - time.time(), "")
        return
    name = "Valkey" if "valkey_version" in facts else "Redis"
    version = str(facts.get("valkey_version") or facts.get("redis_version", "unknown"))
    yield Finding(area, Severity.OK, f"{shown} ({role}): {name} {version}")
    for finding in judge_redis(facts):
        yield finding
    yield _offset(f"{name}'s", int(seconds) + int(micros) / 1e6 - time.time(), "")


async def _info(client: Redis) -> dict[str, Any] | None:
    """Return the facts about the server; None if its user may not ask for them."""
    try:
        return dict(await client.info("everything"))
    except redis.exceptions.NoPermissionError:
        return None


def judge_redis(facts: dict[str, Any]) -> Iterator[Finding]:
    """Yield what INFO shows that matters to a server that stores events and state."""
    version = version_of(facts)
    if version is not None and version < (6, 2):
        yield Finding(
            "redis", Severity.PROBLEM, "the server is older than Redis 6.2", "use Redis 6.2 or newer, or Valkey",
            exit_status=3,
        )  # fmt: skip
    if facts.get("role") == "slave":
        yield Finding(
            "redis", Severity.PROBLEM, "the server is a replica and refuses writes",
            "set ORDERSYNC_REDIS__URL to the primary", exit_status=2,
        )  # fmt: skip
    yield from _eviction(facts)
    if count := evicted(facts):
        text, _, advice = eviction_words(count).partition("; ")
        yield Finding("redis", Severity.PROBLEM, text, advice)
    if facts.get("aof_enabled") in {0, "0"}:
        yield Finding(
            "redis", Severity.WARNING, "a crash of Redis loses all events since its last snapshot",
            "run CONFIG SET appendonly yes",
        )  # fmt: skip
    for name, what in (
        ("aof_last_write_status", "append-only file"),
        ("rdb_last_bgsave_status", "snapshot"),
    ):
        if facts.get(name, "ok") != "ok":
            yield Finding(
                "redis", Severity.PROBLEM, f"the last write of the {what} failed, so Redis may refuse writes",
                "read the log of the server; often the disk is full",
            )  # fmt: skip
    yield _memory(facts)


def _eviction(facts: dict[str, Any]) -> Iterator[Finding]:
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    advice = "run CONFIG SET maxmemory-policy noeviction"
    if policy.startswith("allkeys") and int(facts.get("maxmemory", 0)):
        # The loss would not be noticed: evicted streams and record states leave no trace.
        yield Finding(
            "redis", Severity.PROBLEM,
            f"when memory is short, Redis drops keys ({policy}), including unread events and the state of records",
            advice,
        )  # fmt: skip
    elif policy.startswith("allkeys"):
        yield Finding(
            "redis", Severity.WARNING,
            f"if maxmemory is set, Redis drops keys ({policy}), including whole streams",
            advice,
        )  # fmt: skip
    elif policy != "noeviction":
        yield Finding(
            "redis", Severity.WARNING, f"when memory is short, Redis drops keys that expire ({policy}), including "
                "leases",
            advice,
        )  # fmt: skip


def _memory(facts: dict[str, Any]) -> Finding:
    used = int(facts.get("used_memory", 0))
    limit = int(facts.get("maxmemory", 0))
    whole = limit or int(facts.get("total_system_memory", 0))
    if not whole:
        return Finding("redis", Severity.OK, f"{used // _MEGABYTE} MB used")
    left, source = (
        max(0, whole - used),
        "of its limit" if limit else "on the machine, without a maxmemory",
    )
    text = f"{used // _MEGABYTE} MB used, {left // _MEGABYTE} MB left {source}"
    if left < max(whole * MIN_MEMORY_SHARE, MIN_MEMORY):
        advice = "give Redis more memory: while it is full, polling waits"
        return Finding("redis", Severity.WARNING, text, advice)
    return Finding("redis", Severity.OK, text)


def _offset(whose: str, offset: float, account: str, other: str = "ours") -> Finding:
    direction = "ahead of" if offset > 0 else "behind"
    if abs(offset) < MAX_OFFSET:
        near = (
            f"is {abs(offset):.1f} s {direction} {other}"
            if abs(offset) >= 1
            else f"agrees with {other} within 1 s"
        )
        return Finding("clock", Severity.OK, f"{whose} clock {near}", account=account)
    return Finding(
        "clock", Severity.WARNING, f"{whose} clock is {abs(offset):.0f} s {direction} {other}",
        "set up time synchronisation; no change is missed, but ages and times in logs are wrong", account,
    )  # fmt: skip


def _problem(area: str, error: OrdersyncError, account: str) -> Finding:
    return Finding(area, Severity.PROBLEM, str(error), account=account, exit_status=error.exit_status)


def _duration(seconds: float) -> str:
    if seconds >= 7200:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _dicts(value: Any, name: str) -> list[dict[str, Any]]:
    inner = value.get(name) if isinstance(value, dict) else None
    return [item for item in inner if isinstance(item, dict)] if isinstance(inner, list) else []
