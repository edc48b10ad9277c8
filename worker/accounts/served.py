"""Which accounts a worker serves: those of the settings, and those in Redis that are not disabled and can be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.accounts.rows import RowError
from worker.accounts.sealing import opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from worker.accounts.rows import Disabled
    from worker.accounts.store import StoredRow
    from worker.config.sections import Account
    from worker.config.settings import Settings


@dataclass(frozen=True, slots=True)
class ServedAccounts:
    """What a worker serves, and what it does not serve.

    Attributes:
        accounts: The accounts by name.
        disabled: The accounts in Redis that a person has disabled.
        problems: Why an account in Redis cannot be used.
        revision: The changes of the accounts in Redis when they were read.

    """

    accounts: Mapping[str, Account]
    disabled: Mapping[str, Disabled] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0


def joined(
    settings: Settings, own: Sequence[Account], stored: Iterable[StoredRow], revision: int
) -> ServedAccounts:
    """Return the accounts of the settings, and of the rows those that can be used. One bad row loses only itself."""
    accounts = {account.name: account for account in own}
    disabled: dict[str, Disabled] = {}
    problems: dict[str, str] = {}
    for each in stored:
        if each.row is None:
            problems[each.name] = each.problem
        elif each.name in accounts:
            problems[each.name] = "the settings have an account of this name, which is served instead"
        elif each.row.disabled is not None:
            disabled[each.name] = each.row.disabled
        else:
            try:
                accounts[each.name] = opened(each.name, each.row, settings)
            except RowError as error:
                problems[each.name] = str(error)
    return ServedAccounts(accounts, disabled, problems, revision)
