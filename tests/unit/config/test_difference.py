"""What differs between two configurations: names, never values, and what needs a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from worker.config.difference import Difference, difference, with_fixed
from worker.config.sections import Account, ApiSettings, PollSettings, RedisSettings, TraceSettings
from worker.config.settings import Settings


def settings(**values: Any) -> Settings:
    return Settings.model_construct(**{**Settings.model_construct().__dict__, **values})


def account(name: str, **api: Any) -> Account:
    return Account(name, ApiSettings(**api), {"orders": 1.0}, {})


def test_names_without_values() -> None:
    """A changed setting is named as its variable, a secret as well; equal ones are not."""
    old = settings(api=ApiSettings(client_secret=SecretStr("old-secret"), page_size=10), data_dir=Path("/d"))
    new = settings(api=ApiSettings(client_secret=SecretStr("new-secret"), page_size=10), data_dir=Path("/d"))
    found = difference(old, new, [], [])
    assert found == Difference(("ORDERSYNC_API__CLIENT_SECRET",), (), (), ())
    assert "secret'" not in repr(found)
    assert difference(old, old, [account("a")], [account("a")]) == Difference((), (), (), ())


def test_accounts_of_a_file() -> None:
    """Added, removed, and the settings of those that stay."""
    one = settings(accounts_file=Path("accounts.toml"))
    found = difference(
        one, one, [account("a", page_size=1), account("b")], [account("a", page_size=2), account("c")]
    )
    assert found == Difference(("accounts.a.api.page_size",), (), ("c",), ("b",))


def test_what_needs_a_restart_stays_as_it_is() -> None:
    """The folder, monitoring, and the change between the embedded server and another one, with its whole section."""
    old = settings(data_dir=Path("/a"), traces=TraceSettings(), redis=RedisSettings())
    new = settings(
        data_dir=Path("/b"),
        traces=TraceSettings(share=0.5),
        redis=RedisSettings(url=SecretStr("redis://h/0"), prefix="shop:"),
        poll=PollSettings(preset="all"),
    )
    found = difference(old, new, [], [])
    assert found.changed == ("ORDERSYNC_POLL__PRESET",)
    assert set(found.fixed) == {
        "ORDERSYNC_DATA_DIR", "ORDERSYNC_TRACES__SHARE", "ORDERSYNC_REDIS__URL", "ORDERSYNC_REDIS__PREFIX",
    }  # fmt: skip
    force = with_fixed(old, new)
    assert (force.data_dir, force.traces, force.redis) == (old.data_dir, old.traces, old.redis)
    assert force.poll == new.poll
    moved = settings(redis=RedisSettings(url=SecretStr("redis://other/0")))
    assert with_fixed(new, moved).redis == moved.redis
