"""`ordersync health`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import msgspec
from dotenv import dotenv_values

from worker.cli.common.output import say_json, say_lines
from worker.config.file_trust import refuse_foreign
from worker.service import heartbeat

_NOTED = {"paused", "withdrawn", "degraded"}


@click.command(epilog='\b\nExample, in a Dockerfile:\n  HEALTHCHECK CMD ["ordersync", "health", "--live"]')
@click.option("--json", "as_json", is_flag=True, help="Print the latest heartbeat as JSON.")
@click.option(
    "--live", is_flag=True, help="Ask only whether the worker is alive, for a supervisor that restarts it."
)
def command(as_json: bool, live: bool) -> None:
    """Exit with 0 while a worker is alive and its data is fresh, otherwise with 1 and the reason.

    A paused or degraded resource counts as healthy and is listed with the reason, as is a clock that is off. With
    --live, a failing one counts as healthy too, and so does a worker that waits for Redis: a restart would not help.

    Needs only the data folder (ORDERSYNC_DATA_DIR), neither Redis nor the gateway.
    """
    # Read without the settings module: settings may be invalid or missing here, and it takes time to import.
    data_dir = os.environ.get("ORDERSYNC_DATA_DIR")
    if not data_dir:
        refuse_foreign(Path(".env"), ".env", own=True)  # or it could name a folder with a made-up heartbeat
        data_dir = dotenv_values(".env").get("ORDERSYNC_DATA_DIR")
    if not data_dir:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        data_dir = str(Path(base) / "ordersync")
    try:
        beat = heartbeat.newest(Path(data_dir).expanduser())
        problems = heartbeat.diagnose(beat, live=live)
    except OSError as error:
        beat, problems = None, [f"the heartbeat in {error.filename} is not read: {error.strerror}"]
    if as_json:
        result = msgspec.to_builtins(beat) if beat else None
        say_json({"healthy": not problems, "problems": problems, "heartbeat": result})
    else:
        notes = (
            [f"{r.account}/{r.resource}: {r.cause}" for r in beat.resources if r.health in _NOTED]
            if beat
            else []
        )
        if beat and (clock := heartbeat.clock_words(beat.worker, beat.clock_offset)):
            notes.append(clock)
        say_lines([*(problems or ["healthy"]), *notes])
    sys.exit(1 if problems else 0)
