"""`ordersync sandbox`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from worker.cli.common.output import say_json, say_lines
from worker.cli.common.params import Integer, Number
from worker.cli.run.sandbox_process import SandboxFailed
from worker.errors import OrdersyncError, SettingsError

CONTRACT_KEYS = (
    "wrapper_key",
    "page_base",
    "default_page_size",
    "max_page_size",
    "refuse_large",
    "lenient_pages",
    "result_cap",
    "refuse_deep",
    "index_lag",
    "choices_honoured",
    "ignore_page",
    "total",
    "total_extra",
    "paging",
    "descending",
    "since_honoured",
    "sort_honoured",
    "prefixless",
    "login_case",
    "audit_shape",
    "audit_page_size",
    "latency",
    "gzip",
)
"""The keys of `--contract`, listed here so that the sandbox, an optional extra, need not be imported."""


class SandboxUnavailable(OrdersyncError):
    """The sandbox cannot listen on its port."""

    code = "sandbox_unavailable"
    exit_status = 3


@click.command(
    epilog="\b\nExamples:\n  ordersync sandbox --port 8080\n"
    "  ordersync sandbox --orders 100000 --changes-per-second 50\n"
    "  ordersync sandbox --contract wrapper_key=none --contract page_base=0 --deny shipment:get"
)
@click.option(
    "--port",
    type=Integer(0, 65535),
    default=8099,
    show_default=True,
    help="Port on 127.0.0.1; 0 selects a free one.",
)
@click.option(
    "--orders",
    type=Integer(0, 10_000_000),
    default=2000,
    show_default=True,
    help="Number of orders at the start.",
)
@click.option(
    "--changes-per-second",
    type=Number(0, 100_000),
    default=2.0,
    show_default=True,
    help="Changes per second; 0 for none.",
)
@click.option(
    "--faults",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML or JSON file with scripted faults.",
)
@click.option(
    "--contract",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="Different layout of the API, such as max_page_size=20; can be repeated. KEY is one of "
    f"{', '.join(CONTRACT_KEYS)}, or moved.OPERATION.",
)
@click.option(
    "--deny",
    "denied",
    multiple=True,
    metavar="RESOURCE:VERB",
    help="Permission that tokens lack, such as order:create; can be repeated.",
)
@click.option(
    "--token-lifetime",
    type=Number(0, min_open=True),
    metavar="SECONDS",
    help="Lifetime of access tokens.  [default: 24 h for clients, 15 min for users]",
)
@click.option(
    "--seed",
    default=1,
    show_default=True,
    help="Seed of the random orders; the same seed gives the same orders.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the address as one line of JSON.")
def command(
    *,
    port: int,
    orders: int,
    changes_per_second: float,
    faults: Path | None,
    pairs: tuple[str, ...],
    denied: tuple[str, ...],
    token_lifetime: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Run a local OrderMesh: all operations over HTTP on generated records, on loopback only."""
    try:
        from worker import sandbox  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise SandboxFailed(f"{error.name} is missing") from None

    def announce(ready: sandbox.SandboxReady) -> None:
        if as_json:
            say_json(asdict(ready))
            return
        say_lines(
            [
                f"OrderMesh sandbox at {ready.url} with {ready.orders} orders. In another terminal:",
                f"  export ORDERSYNC_API__BASE_URL={ready.url}",
                f"  export ORDERSYNC_API__CLIENT_ID={ready.client_id}",
                f"  export ORDERSYNC_API__CLIENT_SECRET={ready.client_secret}",
                "  ordersync run",
                f"Statistics: curl {ready.url}/_sandbox/stats    API: {ready.url}/openapi.json",
                "Press Ctrl-C to stop.",
            ]
        )

    try:
        options = sandbox.SandboxOptions(
            port=port,
            orders=orders,
            changes_per_second=changes_per_second,
            seed=seed,
            faults=sandbox.load_faults(faults) if faults else (),
            contract=sandbox.parse_contract(pairs),
            permissions=sandbox.Permissions().without(*denied),
            lifetimes=sandbox.Lifetimes.of_access(token_lifetime),
        )
    except sandbox.FaultRuleError as error:
        raise SettingsError(f"--faults: {error}") from None
    except sandbox.ContractError as error:
        raise SettingsError(f"--contract: {error}") from None
    except sandbox.PermissionsError as error:
        raise SettingsError(f"--deny: {error}") from None
    try:
        sandbox.serve(options, announce)
    except sandbox.SandboxError as error:
        raise SandboxUnavailable(str(error)) from None
