"""What differs between two configurations, by the names of the settings. Values are never part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.config.sections import Section
from worker.config.sources import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.config.sections import Account
    from worker.config.settings import Settings

_FIXED = ("data_dir", "embedded", "metrics", "traces")
"""The settings that are in force from the start of a process to its end."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The names of accounts and settings that differ."""

    changed: tuple[str, ...]
    """Settings that differ and can be put in force."""
    fixed: tuple[str, ...]
    """Settings that differ and need a restart."""
    added: tuple[str, ...]
    """Accounts that only the new configuration has."""
    removed: tuple[str, ...]
    """Accounts that only the old configuration has."""


def difference(
    old: Settings, new: Settings, old_accounts: Sequence[Account], new_accounts: Sequence[Account]
) -> Difference:
    """Return the differences between two settings, and between the accounts that they name."""
    before = {account.name: account for account in old_accounts}
    after = {account.name: account for account in new_accounts}
    names = list(_changed_settings(old, new))
    if new.accounts_file is not None:
        names += [
            f"accounts.{name}.{path}"
            for name in after
            if name in before
            for path in _changed_parts(before[name], after[name])
        ]
    fixed = {name for name in names if _is_fixed(name, old, new)}
    return Difference(
        changed=tuple(name for name in names if name not in fixed),
        fixed=tuple(name for name in names if name in fixed),
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
    )


def with_fixed(old: Settings, new: Settings) -> Settings:
    """Return the new settings, with those that need a restart as they were."""
    kept: dict[str, Any] = {name: getattr(old, name) for name in _FIXED}
    if _is_fixed(f"{PREFIX}REDIS__URL", old, new):
        kept["redis"] = old.redis
    return new.model_copy(update=kept)


def _is_fixed(name: str, old: Settings, new: Settings) -> bool:
    """Return True for a setting that needs a restart, such as one between the embedded and another server."""
    if name.startswith(f"{PREFIX}REDIS__"):
        return (old.redis.url is None) != (new.redis.url is None)
    return name.removeprefix(PREFIX).lower().split("__")[0] in _FIXED


def _changed_settings(old: Settings, new: Settings) -> Iterator[str]:
    for name in type(old).model_fields:
        for path in _differences(name, getattr(old, name), getattr(new, name)):
            yield f"{PREFIX}{path.replace('.', '__')}".upper()


def _changed_parts(old: Account, new: Account) -> Iterator[str]:
    for name in old.__struct_fields__:
        yield from _differences(name, getattr(old, name), getattr(new, name))


def _differences(name: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, Section) and isinstance(new, Section):
        for inner in type(old).model_fields:
            if getattr(old, inner) != getattr(new, inner):
                yield f"{name}.{inner}"
    else:
        yield name
