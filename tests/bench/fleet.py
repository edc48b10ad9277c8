"""Accounts of a simulation, the sandbox that serves them, the daemons that poll it, and what these complain of."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from tests.bench import engine
from tests.bench.harness import ROOT, end

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

RESOURCES = ("orders", "shipments", "order_audit", "shipment_audit")
INTERVAL = 60.0
SECRET_KEY = secrets.token_hex(32)
COUNTED_LEVELS = {"warning", "error", "critical"}


@dataclass(frozen=True, slots=True)
class Setup:
    """What is simulated.

    Attributes:
        accounts: How many.
        orders: Orders of each account.
        processes: How many daemons.
        minutes: How long the polls are watched.
        settle: Seconds between the first success of every resource and that time.
        reconcile: Seconds between two passes of the reconciliation of an account; 0: none.

    """

    accounts: int = 100
    orders: int = 30
    processes: int = 1
    minutes: float = 2.0
    settle: float = 60.0
    reconcile: float = 300.0


def account_names(number: int) -> list[str]:
    """The names of so many accounts."""
    return [f"a{at:05d}" for at in range(number)]


def write_accounts(
    file: Path, names: Sequence[str], *, every: float, client_id: str, client_secret: str
) -> None:
    """Write the accounts file. The accounts have the same login: the sandbox has one only.

    Args:
        file: The accounts file, which only its owner may read.
        names: The accounts.
        every: Seconds between two polls of each resource.
        client_id: The login.
        client_secret: Its secret.

    """
    intervals = ", ".join(f"{name} = {every:.0f}" for name in RESOURCES)
    file.write_text(
        "".join(
            f'[accounts.{name}.api]\nclient_id = "{client_id}"\nclient_secret = "{client_secret}"\n'
            f"requests_per_second = 50\n[accounts.{name}.poll]\nintervals = {{ {intervals} }}\n"
            for name in names
        )
    )
    file.chmod(0o600)


@contextlib.contextmanager
def gateway(setup: Setup, *options: str) -> Iterator[dict[str, str]]:
    """A sandbox in a process of its own, with further options; yields the line that it prints."""
    command = [engine.executable() or "ordersync", "sandbox", "--port", "0", "--json"]
    command += ["--orders", str(setup.orders), "--changes-per-second", "0", *options]
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        end(process)


def environment(url: str, gateway: dict[str, str], data: Path, **more: str) -> dict[str, str]:
    """The settings of a daemon or command."""
    return {
        **os.environ,
        "ORDERSYNC_API__BASE_URL": gateway["url"],
        "ORDERSYNC_REDIS__URL": url,
        "ORDERSYNC_DATA_DIR": str(data),
        "ORDERSYNC_LOG__FORMAT": "json",
        "ORDERSYNC_SECRET_KEY": SECRET_KEY,
        **more,
    }


@contextlib.contextmanager
def workers(setup: Setup, url: str, gateway: dict[str, str], folder: Path) -> Iterator[list[psutil.Process]]:
    """`ordersync run`, so many times. What they log is in `folder`."""
    listed = folder / "accounts.toml"
    login = {name: gateway[name] for name in ("client_id", "client_secret")}
    write_accounts(listed, account_names(setup.accounts), every=INTERVAL, **login)
    with contextlib.ExitStack() as stack:
        found = []
        for number in range(setup.processes):
            data = folder / f"worker-{number}"
            data.mkdir()
            settings = environment(url, gateway, data, ORDERSYNC_ACCOUNTS_FILE=str(listed)) | {
                "ORDERSYNC_RECONCILE__EVERY": str(setup.reconcile)
            }
            log = stack.enter_context((folder / f"worker-{number}.log").open("w"))
            process = subprocess.Popen(
                [engine.executable() or "ordersync", "run"],
                cwd=data, env=settings, stdout=subprocess.DEVNULL, stderr=log, text=True,
            )  # fmt: skip
            stack.callback(end, process)
            found.append(psutil.Process(process.pid))
        yield found


def complaints(lines: Iterable[str]) -> Iterator[str]:
    """The events of warnings and errors among the lines of a log, those of libraries with their words."""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            yield f"not JSON: {line}"
            continue
        if entry.get("level") in COUNTED_LEVELS:
            words = entry.get("message", "") if entry["event"] == "library" else ""
            yield f"{entry['event']} {words}".strip()
