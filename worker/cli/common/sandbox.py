"""The sandbox of a running `ordersync run --sandbox`: commands beside it find it in the data folder.

The file contains the made-up login, so it is private, and it counts only while the process of the sandbox lives. No
setting of a real gateway is ever replaced by it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
from pydantic import SecretStr
from redis.exceptions import ResponseError

from worker.accounts.store import AccountStore
from worker.config.file_trust import why_foreign
from worker.config.resources import SANDBOX_ACCOUNT
from worker.config.sections import ReconcileSettings
from worker.config.values import is_loopback
from worker.errors import SettingsError
from worker.redis.embedded import private
from worker.redis.embedded.processes import Process, is_alive
from worker.redis.refusals import is_wrong_value

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.accounts.served import ServedAccounts
    from worker.config.sections import Account
    from worker.config.settings import Settings

_FILE = "sandbox.json"
_OF_A_GATEWAY = {"base_url", "client_id", "client_secret", "username", "password"}
SANDBOX_INTERVAL = 2.0
"""Seconds between two polls of a resource of the sandbox, and of its audit logs, if no settings say otherwise."""
SANDBOX_RATE = 50.0
SANDBOX_RECONCILE = ReconcileSettings(every=30, share=0.5, lag=5)


class LocalOrderMesh(msgspec.Struct, frozen=True):
    """The address and the login of the sandbox, and its process once that is known."""

    url: str
    client_id: str
    client_secret: str
    orders: int
    process: Process | None = None


def leave(data_dir: Path, local: LocalOrderMesh) -> None:
    """Write down where the sandbox is, for the commands beside it."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    private.write(data_dir / _FILE, msgspec.json.encode(local))


def remove(data_dir: Path) -> None:
    """Remove what `leave` has written."""
    with contextlib.suppress(OSError):
        (data_dir / _FILE).unlink()


def find(data_dir: Path) -> LocalOrderMesh | None:
    """Return the sandbox that runs with this data folder; None if there is none, or another user wrote the file."""
    file = data_dir / _FILE
    try:
        if why_foreign(file, own=True):
            return None
        local = msgspec.json.decode(private.read(file), type=LocalOrderMesh)
    except (OSError, msgspec.DecodeError):
        return None
    is_here = is_loopback(urlsplit(local.url).hostname or "")
    return local if is_here and local.process is not None and is_alive(local.process) else None


def accounts_of(settings: Settings) -> tuple[Account, ...]:
    """Return the accounts of the settings, or else that of the sandbox that runs with their data folder.

    Raises:
        SettingsError: There is neither a login in the settings nor a running sandbox.

    """
    is_set = settings.accounts_file is not None or bool(settings.api.model_fields_set & _OF_A_GATEWAY)
    local = None if is_set else find(settings.data_dir)
    return (sandbox_account(settings, local),) if local else settings.accounts()


async def served_by(settings: Settings, client: Redis) -> ServedAccounts:
    """Return the accounts of `accounts_of` and those in Redis.

    Raises:
        SettingsError: There are none, nor have there ever been any in Redis.

    """
    from worker.accounts.served import joined  # noqa: PLC0415 - loads a cipher, which few commands need

    store, revision = AccountStore(client, settings.redis.keys), 0
    try:
        revision = await store.revision()
    except ResponseError as error:
        if not is_wrong_value(error):
            raise  # another type of key is what `ordersync doctor` is about
    if not revision:
        return joined(settings, accounts_of(settings), (), 0)
    try:
        own = accounts_of(settings)
    except SettingsError:
        if settings.has_accounts:
            raise
        own = ()
    return joined(settings, own, await store.all(), revision)


def sandbox_account(settings: Settings, local: LocalOrderMesh) -> Account:
    """Return the account of the sandbox, with the settings that concern no gateway."""
    chosen = settings.api.model_fields_set
    api = settings.api.model_copy(
        update={
            "requests_per_second": settings.api.requests_per_second
            if "requests_per_second" in chosen
            else SANDBOX_RATE,
            "base_url": local.url,
            "client_id": local.client_id,
            "client_secret": SecretStr(local.client_secret),
        }
    )
    intervals = settings.poll.chosen
    if not settings.poll.model_fields_set & {"intervals", "preset"}:
        intervals = dict.fromkeys(intervals, SANDBOX_INTERVAL)
    account = settings.account_at(SANDBOX_ACCOUNT, api, settings.poll)
    reconcile = settings.reconcile if settings.reconcile.model_fields_set else SANDBOX_RECONCILE
    return msgspec.structs.replace(account, intervals=intervals, reconcile=reconcile)
