"""The accounts file: a login of its own for each account, and every mistake named by file, account and setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.surroundings import load_with, without_settings
from worker.config.sections import Account
from worker.errors import SettingsError

SECRET = "hunter2-hunter2"
STANDARD = dict.fromkeys(("orders", "shipments", "order_audit", "shipment_audit"), 15.0)


@pytest.fixture(autouse=True)
def empty_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder without `.env`, and no variable of the worker set."""
    without_settings(monkeypatch, tmp_path)


def accounts_of(monkeypatch: pytest.MonkeyPatch, text: str, **more: str) -> tuple[Account, ...]:
    Path("accounts.toml").write_text(text)
    return load_with(monkeypatch, accounts_file="accounts.toml", **more).accounts()


def test_an_account_has_a_preset_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever intervals the environment sets for the others."""
    text = """
[accounts.one.api]
client_id = "a"
client_secret = "b"
[accounts.two.api]
client_id = "c"
client_secret = "d"
[accounts.two.poll]
preset = "records"
"""
    one, two = accounts_of(monkeypatch, text, poll__intervals='{"notes": 5}')
    assert one.intervals == {"notes": 5.0}
    assert "shipments" in two.intervals


def test_an_accounts_file_with_many_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own login; what it leaves out comes from the environment, but never a login."""
    Path("eu.secret").write_text(f"{SECRET}\n")
    eu, us = accounts_of(
        monkeypatch,
        """
        [accounts.eu.api]
        client_id = "eu-client"
        client_secret_file = "eu.secret"
        page_size = 7
        [accounts.eu.poll]
        intervals = { orders = 60 }
        [accounts.us.api]
        username = "me"
        password = "us-password"
        """,
        api__page_size="20",
        api__client_secret="somebody else's",
    )
    assert (eu.name, eu.api.page_size, eu.intervals) == ("eu", 7, {"orders": 60.0})
    assert eu.api.client_secret is not None
    assert eu.api.client_secret.get_secret_value() == SECRET
    assert (us.name, us.api.page_size, us.api.client_secret) == ("us", 20, None)
    assert us.intervals == STANDARD


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accounts = [", "is not valid TOML"),
        ("", "must contain tables [accounts.NAME.api]"),
        ("[account.eu.api]\nclient_id='x'", "must contain tables [accounts.NAME.api]"),
        ("[accounts]\neu = 5", "accounts.eu: "),
        (
            "[accounts.eu.api]\nclient_id='x'",
            "accounts.eu: the login is missing. Set client_id and client_secret",
        ),
        ("[accounts.eu.api]\nclient_id='x'\nclient_secret=''", "accounts.eu: the login is missing"),
        ("[accounts.eu.api]\nclient='x'", "accounts.eu: client is not a setting. Did you mean client_id?"),
        ("[accounts.eu.spi]\nclient='x'", "accounts.eu: spi is not a setting. Did you mean api?"),
        ("[accounts.'a b'.api]\nclient_id='x'", "accounts.a b: must be 1 to 64 letters"),
        ("[accounts.eu.api]\nclient_secret_file='none'", "client_secret_file: none cannot be read"),
        ("[accounts.eu.api]\npage_size=0", "accounts.eu: page_size: "),
        ("[accounts.eu.poll]\nintervals={parcels=5}", "Unknown resource 'parcels'"),
        ("[accounts.eu.poll]\nintervals={orders=0}", "accounts.eu: intervals__orders: "),
    ],
)
def test_a_bad_accounts_file(monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
    """The message names the file, the account and what is wrong."""
    with pytest.raises(SettingsError) as caught:
        accounts_of(monkeypatch, text)
    assert words in str(caught.value)
    assert "accounts.toml" in str(caught.value)


def test_an_accounts_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with the system's reason."""
    with pytest.raises(SettingsError, match=r"ORDERSYNC_ACCOUNTS_FILE: gone.toml cannot be read: No such"):
        load_with(monkeypatch, accounts_file="gone.toml").accounts()


def test_a_secret_in_a_bad_accounts_file_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of the wrong type does not get into the message."""
    with pytest.raises(SettingsError) as caught:
        accounts_of(monkeypatch, "[accounts.eu.api]\nclient_id='x'\nclient_secret=[\"hunter2-hunter2\"]")
    assert SECRET not in str(caught.value)
