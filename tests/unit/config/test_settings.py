"""Settings: every source, every bad value named by its variable, and no secret shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.surroundings import load_with, refusal, without_settings
from worker.capture.registry import CAPTURED as READABLE
from worker.config import settings
from worker.config.accounts_file import AccountEntry
from worker.config.resources import RESOURCES
from worker.errors import SettingsError

SECRET = "hunter2-hunter2"
LOGIN = {"ORDERSYNC_API__CLIENT_ID": "client", "ORDERSYNC_API__CLIENT_SECRET": SECRET}

STANDARD = dict.fromkeys(("orders", "shipments", "order_audit", "shipment_audit"), 15.0)


@pytest.fixture(autouse=True)
def empty_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder without `.env`, and no variable of the worker set."""
    without_settings(monkeypatch, tmp_path)


def test_defaults() -> None:
    """Nothing set: the real gateway, an embedded server, orders, shipments and their audit logs, and no login."""
    loaded = settings.load()
    assert loaded.api.base_url == "https://api.ordermesh.io"
    assert (loaded.redis.url, loaded.redis.queue_url) == (None, None)
    assert loaded.poll.chosen == STANDARD
    assert (loaded.api.requests_per_second, loaded.api.max_concurrency, loaded.api.page_size) == (10, 4, 100)
    assert not loaded.api.has_login


def test_environment_nests_and_ignores_case_and_empty_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """`__` nests, down into a map; an empty variable counts as not set."""
    loaded = load_with(
        monkeypatch, api__page_size="50", poll__intervals__orders="5", account="", api__timeout=""
    )
    assert (loaded.api.page_size, loaded.poll.chosen, loaded.account) == (50, {"orders": 5.0}, "default")
    monkeypatch.setenv("ordersync_api__attempts", "2")
    assert settings.load().api.attempts == 2


def test_a_source_wins_over_those_behind_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Environment before `.env` before secret files, value by value; one part may come from all of them."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name, value in {"page_size": "1", "attempts": "1", "timeout": "1"}.items():
        (folder / f"ORDERSYNC_API__{name.upper()}").write_text(f"{value}\n")
    Path(".env").write_text("OTHER=1\nORDERSYNC_API__PAGE_SIZE=2\nORDERSYNC_API__ATTEMPTS=2\n")
    loaded = load_with(monkeypatch, secrets_dir=str(folder), api__page_size="3")
    assert (loaded.api.page_size, loaded.api.attempts, loaded.api.timeout) == (3, 2, 1)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_a_text_ends_before_its_line_break(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """In the environment and in an accounts file, of settings in a section and of others; other white space stays."""
    loaded = load_with(
        monkeypatch,
        account=f"shop{end}",
        api__username=f"ann {end}",
        api__password=f"secret{end}",
        redis__prefix=f"s:{end}",
    )
    assert (loaded.account, loaded.api.username, loaded.redis.prefix) == ("shop", "ann ", "s:")
    assert loaded.api.password is not None
    assert loaded.api.password.get_secret_value() == "secret"
    own = settings.account_of(
        "b", loaded, api={"client_id": f"b{end}", "client_secret": "s"}, poll={}, contract_file=None
    )
    assert own.api.client_id == "b"
    assert AccountEntry.model_validate({"contract_file": f"x.toml{end}"}).contract_file == "x.toml"


def test_secret_files_as_kubernetes_mounts_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each file is a link through `..data`; the line break at the end does not belong to the secret."""
    real = tmp_path / "secrets" / "..2026_01_01"
    real.mkdir(parents=True)
    (real / "ORDERSYNC_API__CLIENT_SECRET").write_text(f"{SECRET}\n")
    (real / "ordersync_api__client_id").write_text("client")
    (tmp_path / "secrets" / "..data").symlink_to(real.name)
    for file in real.iterdir():
        (tmp_path / "secrets" / file.name).symlink_to(f"..data/{file.name}")
    loaded = load_with(monkeypatch, secrets_dir=str(tmp_path / "secrets"))
    (account,) = loaded.accounts()
    assert account.api.client_id == "client"
    assert account.api.client_secret is not None
    assert account.api.client_secret.get_secret_value() == SECRET


@pytest.mark.parametrize("where", ["environment", ".env", "secret file"])
def test_an_unknown_name_is_refused_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    """A typo in a setting would otherwise be found out by a missing order."""
    if where == "environment":
        monkeypatch.setenv("ORDERSYNC_API__PAGESIZE", "5")
    elif where == ".env":
        Path(".env").write_text("ORDERSYNC_API__PAGESIZE=5\n")
    else:
        (tmp_path / "ORDERSYNC_API__PAGESIZE").write_text("5")
        monkeypatch.setenv("ORDERSYNC_SECRETS_DIR", str(tmp_path))
    assert refusal(monkeypatch) == (
        "ORDERSYNC_API__PAGESIZE is not a setting. Did you mean ORDERSYNC_API__PAGE_SIZE?"
    )


def test_a_name_like_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a name that is near, the list of all is named."""
    assert "ordersync config show --names" in refusal(monkeypatch, zzzzzzzz="1")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("API__BASE_URL", "api.ordermesh.io", "must be an address"),
        ("API__BASE_URL", "https://host:99999", "must be an address"),
        ("API__BASE_URL", f"https://me:{SECRET}@host", "must not contain a user, password"),
        ("API__BASE_URL", "https://host/?a=b", "must not contain a user, password, query"),
        ("API__BASE_URL", "http://a..b", "'a..b' is not a host name"),
        ("API__CLIENT_SECRET", "\udcff", "not valid UTF-8"),
        ("REDIS__URL", "redis://host/orders", "'orders' is not a database number"),
        ("REDIS__QUEUE_URL", "redis://" + "h" * 70, "is not a host name"),
        ("METRICS__HOST", "nohost..", "is not a host name"),
        ("API__PAGE_SIZE", "many", "valid integer"),
        ("API__PAGE_SIZE", "0", "greater than or equal to 1"),
        ("API__PAGE_SIZE", "1001", "less than or equal to 1000"),
        ("API__REQUESTS_PER_SECOND", "0", "greater than 0"),
        ("API__REQUESTS_PER_SECOND", "nan", "less than or equal"),
        ("API__MAX_CONCURRENCY", "65", "less than or equal to 64"),
        ("API__TIMEOUT", "-1", "greater than 0"),
        ("API__ATTEMPTS", "0", "greater than or equal to 1"),
        ("REDIS__URL", "localhost:6379", "must be an address"),
        ("REDIS__URL", f"redis://:{SECRET}@host:x/0", "must be an address"),
        ("REDIS__QUEUE_URL", f"http://:{SECRET}@host", "must be an address"),
        ("POLL__INTERVALS", "{orders: 5}", "Write maps as JSON"),
        ("POLL__INTERVALS", "[5]", "valid dictionary"),
        ("POLL__INTERVALS__ORDERS", "0.9", "greater than or equal to 1"),
        ("POLL__INTERVALS__ORDERS", "86401", "less than or equal to 86400"),
        ("POLL__INTERVALS__ORDERS", "nan", "86400"),
        ("POLL__INTERVALS__ORDER", "5", "Unknown resource 'order'. Did you mean orders?"),
        ("POLL__IGNORE_FIELDS__PARCELS", '["x"]', "Unknown resource 'parcels'"),
        ("POLL__IGNORE_FIELDS", "x", "Write maps as JSON"),
        ("LOG__FORMAT", "xml", "'auto', 'console' or 'json'"),
        ("LOG__LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("ACCOUNT", "a b", "1 to 64 letters"),
        ("ACCOUNT", "sandbox", "ordersync run --sandbox"),
        ("GRACE_SECONDS", "-1", "greater than or equal to 0"),
        ("SECRET_KEY", SECRET, "a key is too weak: it has 15 characters of at least 32"),
        ("SECRET_KEY", "0123456" * 10, "7 different characters of at least 8"),
        ("SECRET_KEY", f"{'0123456789abcdef' * 2} {SECRET}", "a key is too weak"),
        ("SECRETS_DIR", "/no/such/folder", "does not exist"),
        ("COMPILED", "maybe", "must be on or off"),
    ],
)
def test_a_bad_value_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    """The message begins with the variable, says what is allowed, and does not repeat a secret."""
    message = refusal(monkeypatch, **{name: value})
    assert message.startswith(f"ORDERSYNC_{name}: ")
    assert words in message
    assert SECRET not in message


def test_all_bad_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each, so that nobody has to try again and again."""
    message = refusal(monkeypatch, api__page_size="x", log__level="loud")
    assert [line.partition(":")[0] for line in message.splitlines()] == [
        "ORDERSYNC_API__PAGE_SIZE",
        "ORDERSYNC_LOG__LEVEL",
    ]


def test_the_reader_is_not_chosen_in_a_dotenv(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is chosen before `.env` is read, so a line there would have no effect."""
    Path(".env").write_text("ORDERSYNC_COMPILED=off\n")
    assert refusal(monkeypatch) == "ORDERSYNC_COMPILED is read from the environment alone, not from .env"


def test_a_dotenv_that_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.env` that cannot be read is a wrong setting, not a traceback, and none of its bytes is shown."""
    Path(".env").write_bytes(b"ORDERSYNC_ACCOUNT=\xff\n")
    assert refusal(monkeypatch).startswith(".env is not valid UTF-8")


def test_home_stands_for_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`~` in a path of `.env` is not a folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    Path(".env").write_text("ORDERSYNC_DATA_DIR=~/data\n")
    assert settings.load().data_dir == tmp_path / "data"


def test_no_login_names_the_settings_and_the_sandbox() -> None:
    """Whoever has no credentials learns both ways on: how to set them, and how to try without."""
    with pytest.raises(SettingsError) as caught:
        settings.load().accounts()
    for words in ("ORDERSYNC_API__CLIENT_ID", "ORDERSYNC_API__CLIENT_SECRET", "ordersync run --sandbox"):
        assert words in str(caught.value)


def test_half_a_login_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id without its secret is not taken for a login."""
    with pytest.raises(SettingsError, match="No login"):
        load_with(monkeypatch, api__client_id="client").accounts()


def test_no_secret_is_ever_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither repr nor str nor `shown()` holds a secret or the password of a URL."""
    loaded = load_with(
        monkeypatch,
        api__client_id="client",
        api__client_secret=SECRET,
        api__username="me",
        api__password=SECRET,
        redis__url=f"redis://user:{SECRET}@host:6379/0",
        redis__queue_url=f"rediss://host:6379/0?password={SECRET}&db=1",
    )
    (account,) = loaded.accounts()
    for text in (repr(loaded), str(loaded), repr(loaded.shown()), repr(account), loaded.model_dump_json()):
        assert SECRET not in text
    shown = loaded.shown()["redis"]
    assert (shown["url"], shown["queue_url"]) == (
        "redis://user:***@host:6379/0",
        "rediss://host:6379/0?password=***&db=1",
    )


def test_a_secret_file_that_is_no_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The folder is named, and nothing of the file."""
    (tmp_path / "ORDERSYNC_API__CLIENT_SECRET").write_bytes(b"\xff")
    monkeypatch.setenv("ORDERSYNC_SECRETS_DIR", str(tmp_path))
    assert refusal(monkeypatch).startswith(f"A secret file in {tmp_path} is not valid UTF-8")


def test_variable_names_are_all_names() -> None:
    """Each one has a meaning, and those of DESIGN section 9 are among them."""
    names = settings.variable_names()
    assert all(names.values())
    assert {
        "ORDERSYNC_API__BASE_URL", "ORDERSYNC_API__CLIENT_ID", "ORDERSYNC_API__CLIENT_SECRET",
        "ORDERSYNC_API__USERNAME", "ORDERSYNC_API__PASSWORD", "ORDERSYNC_API__REQUESTS_PER_SECOND",
        "ORDERSYNC_API__MAX_CONCURRENCY", "ORDERSYNC_API__PAGE_SIZE", "ORDERSYNC_ACCOUNT",
        "ORDERSYNC_ACCOUNTS_FILE", "ORDERSYNC_REDIS__URL", "ORDERSYNC_REDIS__QUEUE_URL",
        "ORDERSYNC_POLL__INTERVALS", "ORDERSYNC_DATA_DIR", "ORDERSYNC_LOG__FORMAT", "ORDERSYNC_LOG__LEVEL",
    } <= set(names)  # fmt: skip


def test_settings_and_jobs_know_the_same_resources() -> None:
    """Settings import nothing of ours, so the list stands there a second time."""
    assert set(RESOURCES) == set(READABLE)


def test_what_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mission names, or what another preset names; with intervals these and nothing else."""
    assert load_with(monkeypatch).poll.chosen == STANDARD
    assert load_with(monkeypatch, poll__preset="orders").poll.chosen == {"orders": 15.0}
    everything = load_with(monkeypatch, poll__preset="all").poll.chosen
    assert set(everything) == set(READABLE)
    records = load_with(monkeypatch, poll__preset="records").poll.chosen
    assert records == {name: seconds for name, seconds in everything.items() if not name.endswith("_audit")}
    assert load_with(monkeypatch, poll__intervals='{"notes": 5}').poll.chosen == {"notes": 5.0}
    assert "'standard', 'orders', 'records' or 'all'" in refusal(monkeypatch, poll__preset="some")


def test_interest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merchants, statuses as texts or numbers, and no final status where that is asked for."""
    monkeypatch.setenv("ORDERSYNC_INTEREST__MERCHANTS", '["m1"]')
    monkeypatch.setenv("ORDERSYNC_INTEREST__STATUSES", '{"shipments": [4], "orders": ["Open"]}')
    assert settings.load().interest.final_statuses == {"orders": ("Fulfilled", "Cancelled")}
    monkeypatch.setenv("ORDERSYNC_INTEREST__FINAL_STATUSES", '{"orders": []}')
    interest = settings.load().interest
    assert (interest.merchants, interest.final_statuses) == (("m1",), {"orders": ()})
    assert interest.statuses == {"shipments": (4,), "orders": ("Open",)}


def test_interest_in_a_status_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes have no status: it is said, and which resources have one."""
    monkeypatch.setenv("ORDERSYNC_INTEREST__STATUSES", '{"notes": ["Open"]}')
    with pytest.raises(SettingsError, match=r"notes have no status\. Resources with a status: orders"):
        settings.load()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_are_no_part_of_a_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str) -> None:
    """Not in the environment, in `.env`, or in a secret file; spaces, which a password may have, are kept."""
    (tmp_path / ".env").write_text("ORDERSYNC_API__CLIENT_ID='client\n'", encoding="utf-8")
    (tmp_path / "run-secrets").mkdir()
    key = "tU3kQ9vXz7LmN2pRs8Wy4BfGh6JcD1eA"
    (tmp_path / "run-secrets" / "ORDERSYNC_PRIVACY__KEY").write_text(f"{key}{end}", encoding="utf-8")
    loaded = load_with(
        monkeypatch,
        api__client_secret=f" {SECRET} {end}",
        account=f"acme{end}",
        redis__url=f"redis://h/0{end}",
    )
    assert loaded.api.client_secret is not None
    assert loaded.privacy.key is not None
    assert loaded.redis.url is not None
    assert loaded.api.client_secret.get_secret_value() == f" {SECRET} "
    assert loaded.privacy.key.get_secret_value() == key
    assert (loaded.api.client_id, loaded.account) == ("client", "acme")
    assert loaded.redis.url.get_secret_value() == "redis://h/0"
