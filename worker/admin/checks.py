"""The checks of `ordersync doctor`.

Each check yields findings. The only data that a check changes is the stored findings of the contract probe.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ordersync_consumer.servers.address import parse
from worker.admin import probe_report as probed
from worker.admin.finding import Finding, Severity, problem_of
from worker.admin.permissions import claims, permissions
from worker.capture.records import compiled
from worker.capture.registry import RESOURCES
from worker.config.secret_files import advice_on, exposed_files, settings_files
from worker.config.values import is_loopback
from worker.errors import GatewayUnreachable, LoginRejected, OrderMeshError, RateLimited
from worker.ordermesh.http.auth import credentials_of, login_request, parse_token
from worker.ordermesh.record_schema import record_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from worker.clock import Clock
    from worker.config.sections import Account
    from worker.config.settings import Settings
    from worker.ordermesh.contract.findings import Capabilities
    from worker.services import AccountServices


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
        if not credentials_of(api).is_client and not account.secret_keys:
            yield Finding(
                "settings", Severity.WARNING,
                "the key that encrypts the token in Redis comes from the password alone, which can be tried against it",
                "set ORDERSYNC_SECRET_KEY to what `openssl rand -hex 32` prints", account.name,
            )  # fmt: skip
        if urlsplit(api.base_url).scheme == "http" and not is_loopback(urlsplit(api.base_url).hostname or ""):
            yield Finding(
                "settings", Severity.WARNING, "the connection to the gateway is not encrypted and exposes the secret",
                "use an https address in ORDERSYNC_API__BASE_URL", account.name,
            )  # fmt: skip
    yield from _files(settings, accounts)
    yield from _plain_redis(settings)
    yield _reader()
    folder = settings.data_dir
    nearest = next(item for item in (folder, *folder.parents) if item.exists())
    if not os.access(nearest, os.W_OK) or not nearest.is_dir():
        yield Finding(
            "settings", Severity.PROBLEM, f"the data folder {folder} is not writable",
            "make it writable, or set ORDERSYNC_DATA_DIR to another folder", exit_status=2,
        )  # fmt: skip


def _files(settings: Settings, accounts: tuple[Account, ...]) -> Iterator[Finding]:
    """Yield the files that settings come from, and a warning for each with secrets that every user can read."""
    files = settings_files(settings)
    if files:
        yield Finding(
            "settings", Severity.OK, f"read from {', '.join(str(file.absolute()) for file in files)}"
        )
    for file in exposed_files(settings, accounts):
        yield Finding(
            "settings", Severity.WARNING, f"every user of this machine can read {file}", advice_on(file)
        )


def _reader() -> Finding:
    """Return which reader of records is in use. Both give the same, in another time."""
    if not compiled.missing:
        return Finding("settings", Severity.OK, "records are read by the compiled reader")
    return Finding(
        "settings", Severity.NOTE, f"records are read by Python, which is slower: {compiled.missing}"
    )


def _plain_redis(settings: Settings) -> Iterator[Finding]:
    """Yield a warning for each address of Redis whose password goes over a network in clear."""
    for name in ("url", "queue_url"):
        given = getattr(settings.redis, name)
        hosts = _open_hosts(given.get_secret_value()) if given else []
        if hosts:
            yield Finding(
                "settings", Severity.WARNING,
                f"the connection to Redis at {hosts[0]} is not encrypted: password and events can be read on "
                "the way",
                f"use {given.get_secret_value().partition(':')[0].replace('redis', 'rediss')}:// in "
                f"ORDERSYNC_REDIS__{name.upper()}, or a network of their own for worker and Redis",
            )  # fmt: skip


def _open_hosts(url: str) -> list[str]:
    """Return the hosts of other machines to which a connection is not encrypted."""
    address = parse(url)
    if address.is_encrypted or address.plain.startswith("unix"):
        return []
    hosts = [host for host, _ in address.hosts] or [urlsplit(url).hostname or "localhost"]
    return [host for host in hosts if not is_loopback(host)]


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
        token = parse_token(request, raw, now=clock.now(), share=1.0, previous=None)
    except OrderMeshError as error:
        yield problem_of("login", error, account)
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


async def check_contract(
    account_services: AccountServices, left: list[str], result: dict[str, Capabilities]
) -> AsyncIterator[Finding]:
    """Yield the findings of the probe for the resources in `left`, from which each is removed then.

    A resource that is not polled gets a note, not a problem, and no advice. What was found is put into `result`.
    """
    account = account_services.account.name
    for resource in [RESOURCES[name] for name in left if name in RESOURCES]:
        polled = resource.name in account_services.account.intervals
        name = resource.name if polled else f"{resource.name} (not polled)"
        try:
            capabilities = result[resource.name] = await account_services.capabilities.probe(resource)
        except OrderMeshError as error:
            left.remove(resource.name)
            finding = problem_of("contract", error, account)
            yield finding if polled else replace(finding, level=Severity.NOTE, text=f"{name}: {error}")
            if isinstance(error, GatewayUnreachable | LoginRejected | RateLimited):
                return
            continue
        left.remove(resource.name)
        bad = probed.stops(capabilities, account_services.account.api.page_size)
        level = (Severity.PROBLEM if polled else Severity.NOTE) if bad else Severity.OK
        text = bad or probed.summary(capabilities)
        advice = probed.advice(capabilities, account_services.account.api.page_size) if polled else ""
        yield Finding("contract", level, f"{name}: {text}", advice, account)
        for text in probed.shortcomings(capabilities) if polled and not bad else ():
            yield Finding("contract", Severity.NOTE, f"{name}: {text}", account=account)


def _duration(seconds: float) -> str:
    if seconds >= 7200:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
