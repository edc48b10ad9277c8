"""Takes up changes of the accounts while the daemon runs: of the accounts file, and of the accounts in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from redis.exceptions import RedisError, ResponseError

from ordersync_consumer.redaction import words_of
from worker.accounts.served import joined
from worker.accounts.store import AccountStore
from worker.admin.operator_log import DONE, OperatorLog
from worker.app import announce, leave
from worker.errors import SettingsError
from worker.redis.refusals import is_wrong_value
from worker.services import OpenAccounts
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from worker.accounts.served import ServedAccounts
    from worker.config.sections import Account
    from worker.config.settings import Settings
    from worker.services import AccountChanges, Services

FEW_ACCOUNTS = 20
"""Up to so many accounts, each one is looked at in each turn; of more of them, so many in a turn."""
_LOGGED = 20
"""Names of accounts in a line of the log."""

SETTLED_SECONDS = 5.0
"""Seconds without a change after which the accounts file is read: whoever writes it may not have finished."""

Signature = tuple[int, int, int]


class AccountWatch:
    """Looks from time to time whether the accounts have changed, and serves those that there are.

    Args:
        settings: The settings in force.
        own: The accounts of the settings.
        services: The services whose accounts are changed.
        read: Reads the accounts of the settings again. Raises `SettingsError` if they cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        own: Sequence[Account],
        services: Services,
        read: Callable[[], Sequence[Account]],
    ) -> None:
        self._settings, self._own, self._services, self._read = settings, list(own), services, read
        self._store = AccountStore(services.redis, settings.redis.keys)
        self._revision = 0
        self._signature = self._seen = _signature(settings.accounts_file)
        self._seen_at, self._moved = 0.0, False
        self._problems: dict[str, str] = {}
        self._is_wrong = False
        self._log = get_logger()

    @property
    def revision(self) -> int:
        """How often the accounts in Redis had changed when they were read last; 0 if there never was one."""
        return self._revision

    async def look(self, *, quiet: bool = False) -> AccountChanges | None:
        """Serve the accounts that there are now; None if nothing has changed.

        `quiet`: the services are not in force yet, so nothing is said of it.

        Raises:
            RedisError, OSError: Redis cannot be reached.

        """
        self._moved = self._has_moved() or self._moved  # until it is served: Redis may be away
        revision = await self._changes()
        if not self._moved and revision == self._revision:
            return None
        by = "the accounts file" if self._moved else ""
        changes = await self._serve(revision, by=by, quiet=quiet)
        self._moved = False
        return changes

    async def _changes(self) -> int:
        """Return the changes of the accounts in Redis; 0 if another program has taken their key."""
        try:
            return await self._store.revision()
        except ResponseError as error:
            if not is_wrong_value(error):
                raise
            if not self._is_wrong:
                self._log.error(
                    "accounts_not_read", error=str(error),
                    advice=f"Another program has written {self._services.keys.account_rows}. Run `ordersync doctor`.",
                )  # fmt: skip
            self._is_wrong = True
            return 0

    def _has_moved(self) -> bool:
        """Return True if the accounts file has other accounts than before. One that cannot be used changes nothing."""
        signature, now = _signature(self._settings.accounts_file), self._services.clock.monotonic()
        if signature != self._seen:
            self._seen, self._seen_at = signature, now
        if signature == self._signature or now - self._seen_at < SETTLED_SECONDS:
            return False
        self._signature = signature
        try:
            own = [
                msgspec.structs.replace(account, keys=self._settings.redis.keys) for account in self._read()
            ]
        except SettingsError as error:
            self._log.error(
                "accounts_not_read", error=str(error),
                advice="The accounts that were read last stay in force. Correct the file; it is read again when it "
                "changes.",
            )  # fmt: skip
            return False
        if own == self._own:
            return False
        self._own = own
        return True

    async def _serve(self, revision: int, *, by: str, quiet: bool) -> AccountChanges | None:
        accounts = self._services.accounts
        if not isinstance(accounts, OpenAccounts):
            return None
        served = joined(self._settings, self._own, await self._store.all() if revision else [], revision)
        gone = [name for name in accounts if name not in served.accounts]
        changes = accounts.configure(served.accounts.values())
        self._revision = revision
        if quiet:
            return changes
        await leave(self._services, gone)
        await self._tell_problems(served)
        if changes:
            self._log.info(
                "accounts_changed", served=len(accounts), added=changes.added[:_LOGGED],
                removed=changes.removed[:_LOGGED], changed=changes.changed[:_LOGGED],
            )  # fmt: skip
            await announce(self._services)
            if by:
                await self._record(changes, by)
        return changes

    async def _tell_problems(self, served: ServedAccounts) -> None:
        """Log what keeps accounts in Redis from being served, once, and write it down for commands."""
        for name, problem in served.problems.items():
            if self._problems.get(name) != problem:
                get_logger(account=name).error(
                    "account_not_served", error=problem,
                    advice="The other accounts are served. Run `ordersync accounts list`.",
                )  # fmt: skip
        self._problems = dict(served.problems)
        await self._store.note_problems(served.problems)

    async def _record(self, changes: AccountChanges, by: str) -> None:
        """Write into the operator log of each account what a change of the accounts file means for it."""
        for word in ("added", "removed", "changed"):
            for name in getattr(changes, word):
                try:
                    log = OperatorLog(self._services.redis, self._services.keys.of(name))
                    await log.add(("accounts", word, name), DONE, by=by)
                except (RedisError, OSError) as error:
                    get_logger(account=name).warning("operator_log_not_written", error=words_of(error))


def _signature(file: Path | None) -> Signature | None:
    """Return what tells whether a file was written or replaced; None if there is none."""
    try:
        found = file.stat() if file is not None else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size) if found is not None else None
