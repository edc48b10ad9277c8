"""Files that other users can write decide nothing; files that they can read are named."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.support.surroundings import without_settings
from worker.admin import checks
from worker.config import file_trust, secret_files, settings
from worker.config.sections import ApiSettings
from worker.errors import SettingsError
from worker.ordermesh.contract import file as contract_file
from worker.redis import connections

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An own working directory, and no secret files but those that a test makes."""
    without_settings(monkeypatch, tmp_path)
    place = tmp_path / "place"
    place.mkdir(mode=0o755)
    monkeypatch.chdir(place)
    return place


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_an_own_dotenv_is_read(folder: Path) -> None:
    """With any usual mode, also in a folder like /tmp, where nobody removes the files of others."""
    dotenv = write(folder / ".env", "ORDERSYNC_ACCOUNT=mine\n")
    for mode, place in ((0o600, 0o755), (0o644, 0o755), (0o664, 0o775), (0o600, 0o1777)):
        dotenv.chmod(mode)
        folder.chmod(place)
        assert settings.load().account == "mine"


@pytest.mark.parametrize(
    ("mode", "place", "reason"),
    [(0o666, 0o755, "every user may write it"), (0o600, 0o777, "every user may write its folder")],
)
def test_a_dotenv_that_others_can_write_is_refused(folder: Path, mode: int, place: int, reason: str) -> None:
    """Somebody else could send the login to an address of their own."""
    write(folder / ".env", "ORDERSYNC_API__BASE_URL=https://stranger.example\n", mode)
    folder.chmod(place)
    with pytest.raises(SettingsError, match=reason) as caught:
        settings.load()
    assert "stranger.example" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="gives a file away, which root alone may")
def test_a_dotenv_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In /tmp everybody can put a `.env`. That of the user who calls sudo is read."""
    os.chown(write(folder / ".env", "ORDERSYNC_ACCOUNT=theirs\n"), 65534, 65534)
    folder.chmod(0o1777)
    with pytest.raises(SettingsError, match="belongs to another user"):
        settings.load()
    monkeypatch.setenv("SUDO_UID", "65534")
    assert settings.load().account == "theirs"


def test_a_parent_folder_counts(folder: Path) -> None:
    """Whoever can rename a folder on the way puts another one in its place."""
    file = write(folder / "inner" / "accounts.toml", "")
    assert not file_trust.why_foreign(file)
    folder.chmod(0o777)
    assert str(folder) in file_trust.why_foreign(file)
    link = folder.parent / "link.toml"
    link.symlink_to(file)
    assert file_trust.why_foreign(link)
    assert not file_trust.why_foreign(folder / "missing")


def test_every_file_of_the_settings_is_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secret files, the accounts file, the secrets that it names, and the contract file."""
    accounts = write(
        folder / "accounts.toml",
        '[accounts.a.api]\nclient_id = "a"\nclient_secret_file = "secret"\n',
    )
    secret = write(folder / "secret", "words")
    contract = write(folder / "contract.toml", 'login_case = "snake"\n')
    file = write(folder / "secrets" / "ORDERSYNC_ACCOUNTS_FILE", str(accounts))
    monkeypatch.setenv("ORDERSYNC_SECRETS_DIR", str(file.parent))
    assert [account.name for account in settings.load().accounts()] == ["a"]
    assert secret_files.settings_files(settings.load()) == [file, accounts]
    for each in (file, accounts, secret):
        each.chmod(0o646)
        with pytest.raises(SettingsError, match="every user may write it"):
            settings.load().accounts()
        each.chmod(0o600)
    contract_file.load(contract)
    contract.chmod(0o666)
    with pytest.raises(SettingsError, match="ORDERSYNC_CONTRACT_FILE"):
        contract_file.load(contract)


@pytest.mark.parametrize("section", ["API", "REDIS"])
@pytest.mark.parametrize("kind", ["CA", "CLIENT_CERT", "CLIENT_KEY"])
def test_certificates_and_keys_are_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, section: str, kind: str
) -> None:
    """Whoever can replace the authorities poses as the gateway or as Redis."""
    for name in {"CLIENT_CERT", kind}:
        monkeypatch.setenv(f"ORDERSYNC_{section}__{name}_FILE", str(write(folder / name, "words")))
    monkeypatch.setenv("ORDERSYNC_REDIS__URL", "rediss://redis.example:6379/0")
    settings.load()
    (folder / kind).chmod(0o646)
    with pytest.raises(SettingsError, match=f"{section}__{kind}_FILE: .* every user may write it"):
        settings.load()


def test_files_in_the_address_of_redis_are_checked(folder: Path) -> None:
    """As those of the settings are."""
    file = write(folder / "ca.pem", "words", 0o666)
    with pytest.raises(SettingsError, match="every user may write it"):
        connections.pool(f"rediss://redis.example:6379/0?ssl_ca_certs={file}")


def test_a_key_that_all_can_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `doctor`; a certificate beside a key of its own is no secret."""
    monkeypatch.setattr(secret_files, "is_readable_by_all", lambda file: file.stat().st_mode & 0o004)
    for name in ("CLIENT_CERT", "CLIENT_KEY"):
        monkeypatch.setenv(f"ORDERSYNC_API__{name}_FILE", str(write(folder / name, "words", 0o644)))
    monkeypatch.setenv("ORDERSYNC_API__CLIENT_ID", "a")
    monkeypatch.setenv("ORDERSYNC_API__CLIENT_SECRET", "b")
    found = settings.load()
    warned = [each.text for each in checks.check_settings(found, found.accounts()) if "can read" in each.text]
    assert warned == [f"every user of this machine can read {folder / 'CLIENT_KEY'}"]


def test_who_can_read_a_file() -> None:
    """Its own mode, and the way to it: a closed folder hides a file of mode 0444."""
    assert file_trust.is_readable_by_all(Path("/etc/passwd"))
    assert not file_trust.is_readable_by_all(Path("/no/such/file"))


def test_a_closed_folder_hides_its_files(folder: Path) -> None:
    """As deploy/make-secrets makes them."""
    file = write(folder / "secrets" / "word", "x", 0o444)
    file.parent.chmod(0o700)
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    assert not file_trust.is_readable_by_all(file)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "[::1]", "localhost"])
def test_http_to_this_machine_needs_no_permission(host: str) -> None:
    """Nobody listens on the way."""
    assert ApiSettings(base_url=f"http://{host}:8080").base_url


@pytest.mark.parametrize("host", ["gateway.example", "10.0.0.1", "127.0.0.1.example", "localhost.example"])
def test_http_to_another_host_needs_one(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The login would go over the network in clear; who must do that says so."""
    monkeypatch.setenv("ORDERSYNC_API__BASE_URL", f"http://{host}")
    with pytest.raises(SettingsError, match="ORDERSYNC_API__ALLOW_HTTP"):
        settings.load()
    monkeypatch.setenv("ORDERSYNC_API__ALLOW_HTTP", "true")
    assert settings.load().api.allow_http
