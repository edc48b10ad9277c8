"""`ordersync health`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click
import msgspec
from dotenv import dotenv_values

from worker.service import heartbeat

_NOTED = {"paused", "withdrawn", "degraded"}


@click.command(epilog='\b\nExample, in a Dockerfile:\n  HEALTHCHECK CMD ["ordersync", "health"]')
@click.option("--json", "as_json", is_flag=True, help="Print the latest heartbeat as JSON.")
def command(as_json: bool) -> None:
    """Exit with 0 while a worker is alive and its data is fresh, otherwise with 1 and the reason.

    A paused or degraded resource counts as healthy and is listed with the reason.

    Needs only the data folder (ORDERSYNC_DATA_DIR), neither Redis nor the gateway.
    """
    # Read without the settings module: settings may be invalid or missing here, and it takes time to import.
    data_dir = os.environ.get("ORDERSYNC_DATA_DIR") or dotenv_values(".env").get("ORDERSYNC_DATA_DIR")
    if not data_dir:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        data_dir = str(Path(base) / "ordersync")
    beat = heartbeat.newest(Path(data_dir).expanduser())
    problems = heartbeat.diagnose(beat)
    if as_json:
        result = msgspec.to_builtins(beat) if beat else None
        click.echo(json.dumps({"healthy": not problems, "problems": problems, "heartbeat": result}))
    else:
        notes = (
            [f"{r.account}/{r.resource}: {r.cause}" for r in beat.resources if r.health in _NOTED]
            if beat
            else []
        )
        click.echo("\n".join([*(problems or ["healthy"]), *notes]))
    sys.exit(1 if problems else 0)
