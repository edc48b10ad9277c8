"""The file with which commands find a running sandbox: only a living one, and never instead of settings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from worker.cli.common.sandbox import (
    SANDBOX_INTERVAL,
    SANDBOX_RATE,
    SANDBOX_RECONCILE,
    LocalOrderMesh,
    accounts_of,
    find,
    leave,
    remove,
    sandbox_account,
)
from worker.config.sections import ReconcileSettings
from worker.config.settings import Settings, load
from worker.errors import SettingsError
from worker.redis.embedded.processes import Process, look


@pytest.fixture
def local() -> LocalOrderMesh:
    """A sandbox whose process is this one."""
    return LocalOrderMesh("http://127.0.0.1:8099", "id", "made-up-secret", 5, look(os.getpid()))


def settings(folder: Path, monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    """Settings of the environment alone."""
    monkeypatch.chdir(folder)
    for name, value in {"data_dir": str(folder), **values}.items():
        monkeypatch.setenv(f"ORDERSYNC_{name.upper()}", value)
    return load()


def test_it_is_found_while_it_lives(
    local: LocalOrderMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its account has its address; once it is gone there is none."""
    leave(tmp_path, local)
    (account,) = accounts_of(settings(tmp_path, monkeypatch))
    assert (account.name, account.api.base_url) == ("sandbox", local.url)
    remove(tmp_path)
    with pytest.raises(SettingsError, match="No login for OrderMesh"):
        accounts_of(settings(tmp_path, monkeypatch))


@pytest.mark.parametrize("change", ["ended", "other process", "elsewhere", "cut", "link", "all may write"])
def test_what_is_not_believed(local: LocalOrderMesh, tmp_path: Path, change: str) -> None:
    """A file that outlived its sandbox, leads elsewhere, or may have been written by others."""
    process = local.process
    assert process is not None
    changes: dict[str, dict[str, Any]] = {
        "ended": {"process": Process(2**22 - 1, "1", "/nowhere")},
        "other process": {"process": Process(process.pid, "1", process.program)},
        "elsewhere": {"url": "http://192.0.2.1:80"},
    }
    leave(tmp_path, msgspec.structs.replace(local, **changes.get(change, {})))
    file = tmp_path / "sandbox.json"
    if change == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif change == "link":
        file.rename(tmp_path / "other.json")
        file.symlink_to(tmp_path / "other.json")
    elif change == "all may write":
        file.chmod(0o666)
    assert find(tmp_path) is None


@pytest.mark.parametrize("setting", ["api__base_url", "api__client_id", "api__username", "accounts_file"])
def test_settings_come_first(
    local: LocalOrderMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """Who has set a gateway, even in part, never gets the sandbox instead."""
    leave(tmp_path, local)
    value = "https://api.example.com" if setting == "api__base_url" else str(tmp_path / "nothing")
    with pytest.raises(SettingsError):
        accounts_of(settings(tmp_path, monkeypatch, **{setting: value}))


def test_its_account_has_all_other_settings(
    local: LocalOrderMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the gateway, and with it the contract file, is another one; reconciliation is quicker."""
    chosen = settings(
        tmp_path,
        monkeypatch,
        poll__complete_every="60",
        redis__wait_replicas="1",
        secret_key="tU3kQ9vXz7LmN2pRs8Wy4BfGh6JcD1eA",
        contract_file="of-the-real-gateway.toml",
    )
    account = sandbox_account(chosen, local)
    assert (account.complete_every, account.replicas.count, len(account.secret_keys)) == (60, 1, 1)
    assert account.contract_file is None
    assert account.reconcile == SANDBOX_RECONCILE


def test_a_setting_of_a_section_sets_no_other(
    local: LocalOrderMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page size is no gateway, and how often a full scan runs is no interval: the sandbox is found, and as quick."""
    leave(tmp_path, local)
    (account,) = accounts_of(
        settings(
            tmp_path, monkeypatch, api__page_size="20", poll__complete_every="60", reconcile__every="900"
        )
    )
    assert (account.name, account.api.page_size, account.complete_every) == ("sandbox", 20, 60)
    assert account.api.requests_per_second == SANDBOX_RATE
    assert set(account.intervals.values()) == {SANDBOX_INTERVAL}
    assert (account.reconcile.every, account.reconcile.share) == (900, ReconcileSettings().share)
