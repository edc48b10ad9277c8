"""`python -m worker.sandbox`: the sandbox as a separate program.

As soon as it answers requests, it prints one line of JSON on standard output: url, client_id, client_secret, orders.
All other output goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

from worker.sandbox.auth import Lifetimes
from worker.sandbox.contract import ContractError
from worker.sandbox.contract_options import parse_contract
from worker.sandbox.faults import FaultRule, FaultRuleError, load_faults
from worker.sandbox.permissions import Permissions, PermissionsError
from worker.sandbox.server.server import NotLoopbackError, SandboxError, SandboxOptions, SandboxReady, serve

_DONE, _WRONG_USE, _CANNOT_REACH = 0, 2, 3


def main(argv: list[str] | None = None) -> int:
    """Run the program until SIGINT or SIGTERM.

    Returns:
        Exit code: 0 done, 2 wrong usage, 3 the port cannot be used.
    """
    arguments = _parser().parse_args(argv)
    try:
        rules: tuple[FaultRule, ...] = load_faults(arguments.faults) if arguments.faults else ()
        options = SandboxOptions(
            host=arguments.host,
            port=arguments.port,
            orders=arguments.orders,
            changes_per_second=arguments.changes_per_second,
            seed=arguments.seed,
            record_bytes=arguments.record_bytes,
            contract=parse_contract(arguments.contract),
            permissions=Permissions().without(*arguments.deny),
            lifetimes=Lifetimes.of_access(arguments.token_lifetime),
            faults=rules,
        )
    except (ContractError, FaultRuleError, NotLoopbackError, PermissionsError) as error:
        return _fail(error, _WRONG_USE)

    try:
        serve(options, _announce, watch_stdin=arguments.watch_stdin)
    except SandboxError as error:
        return _fail(error, _CANNOT_REACH)
    return _DONE


def _announce(ready: SandboxReady) -> None:
    sys.stdout.write(json.dumps(asdict(ready)) + "\n")
    sys.stdout.flush()


def _fail(error: Exception, code: int) -> int:
    sys.stderr.write(f"error: {error}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worker.sandbox",
        description="A local OrderMesh on loopback.",
        epilog="example: python -m worker.sandbox --port 8099 --orders 500 --faults faults.toml",
    )
    parser.add_argument("--host", default="127.0.0.1", help="loopback address (default %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=0, help="TCP port, 0 for a free one (default %(default)s)"
    )
    parser.add_argument(
        "--orders", type=_count, default=2_000, help="orders at the start (default %(default)s)"
    )
    parser.add_argument(
        "--changes-per-second",
        type=_rate,
        default=2.0,
        help="new and changed orders per second, 0 for none (default %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of data, changes and faults (default %(default)s)"
    )
    parser.add_argument(
        "--record-bytes",
        type=_count,
        default=2_500,
        help="approximate size of an order (default %(default)s)",
    )
    parser.add_argument("--faults", type=Path, metavar="FILE", help="fault rules, TOML or JSON")
    parser.add_argument(
        "--contract",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="different layout of the API, for example max_page_size=20; can be repeated",
    )
    parser.add_argument(
        "--deny",
        action="append",
        default=[],
        metavar="RESOURCE:VERB",
        help="permission that tokens lack, for example order:create; can be repeated",
    )
    parser.add_argument(
        "--token-lifetime",
        type=_lifetime,
        metavar="SECONDS",
        help="lifetime of access tokens (default 24 h for clients, 15 min for users)",
    )
    parser.add_argument("--watch-stdin", action="store_true", help="stop at the end of standard input")
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: allowed 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: a whole number from 0")
    return int(text)


def _lifetime(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: a number of seconds above 0")
    return seconds


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: a number from 0 to 100000")
    return rate


if __name__ == "__main__":
    sys.exit(main())
