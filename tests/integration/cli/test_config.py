"""`ordersync config show`: every setting in force, and secrets hidden."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.commands import ordersync
from worker.config.settings import variable_names


def test_config_show(tmp_path: Path) -> None:
    """Every setting in force, as a variable or as JSON, secrets hidden."""
    values = {
        "api__client_id": "client",
        "api__client_secret": "hunter2-hunter2",
        "redis__url": "redis://:hunter2-hunter2@host:6379/0",
        "poll__intervals": '{"orders": 5}',
    }
    text = ordersync("config", "show", cwd=tmp_path, **values)
    assert text.returncode == 0
    assert "ORDERSYNC_API__CLIENT_ID=client\n" in text.stdout
    assert "ORDERSYNC_REDIS__URL=redis://:***@host:6379/0\n" in text.stdout
    assert 'ORDERSYNC_POLL__INTERVALS={"orders": 5.0}\n' in text.stdout
    shown = {line.partition("=")[0] for line in text.stdout.splitlines()}
    assert shown == set(variable_names()) - {"ORDERSYNC_SECRETS_DIR", "ORDERSYNC_COMPILED"}
    as_json = ordersync("config", "show", "--json", cwd=tmp_path, **values)
    assert json.loads(as_json.stdout)["api"]["client_id"] == "client"
    assert "hunter2" not in text.stdout + text.stderr + as_json.stdout + as_json.stderr


def test_config_names(tmp_path: Path) -> None:
    """What can be set, and what it means; needs no good settings."""
    done = ordersync("config", "show", "--names", "--json", cwd=tmp_path, api__page_size="x")
    assert json.loads(done.stdout) == variable_names()
    text = ordersync("config", "show", "--names", cwd=tmp_path).stdout
    assert len(text.splitlines()) == len(variable_names())


def test_config_show_with_many_accounts(tmp_path: Path) -> None:
    (tmp_path / "accounts.toml").write_text(
        "[accounts.eu.api]\nclient_id = 'x'\nclient_secret = 'hunter2-hunter2'\n"
    )
    done = ordersync("config", "show", "--json", cwd=tmp_path, accounts_file="accounts.toml")
    assert json.loads(done.stdout)["accounts"]["eu"]["api"]["client_id"] == "x"
    assert "hunter2" not in done.stdout
