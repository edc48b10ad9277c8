"""The surroundings in which settings are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.config import settings, sources
from worker.errors import SettingsError


def without_settings(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Work in a folder without `.env`, with no variable of the worker set; secret files are those of `run-secrets`."""
    for name in os.environ:
        if name.upper().startswith("ORDERSYNC_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sources, "DEFAULT_SECRETS_DIR", str(folder / "run-secrets"))


def load_with(monkeypatch: pytest.MonkeyPatch, **values: str) -> settings.Settings:
    """Load the settings with these values in the environment."""
    for name, value in values.items():
        monkeypatch.setenv(f"ORDERSYNC_{name}".upper(), value)
    return settings.load()


def refusal(monkeypatch: pytest.MonkeyPatch, **values: str) -> str:
    """Return the message with which these values are refused."""
    with pytest.raises(SettingsError) as caught:
        load_with(monkeypatch, **values)
    assert caught.value.exit_status == 2
    return str(caught.value)
