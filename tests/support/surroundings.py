"""The surroundings in which settings are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.config import sources


def without_settings(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Work in a folder without `.env`, with no variable of the worker set; secret files are those of `run-secrets`."""
    for name in os.environ:
        if name.upper().startswith("ORDERSYNC_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sources, "DEFAULT_SECRETS_DIR", str(folder / "run-secrets"))
