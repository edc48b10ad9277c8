"""`ordersync contract`."""

from __future__ import annotations

from typing import ClassVar

import click

from worker.cli import LazyGroup


class Commands(LazyGroup):
    """What can be done with the contract; each stands in a module of its own."""

    table: ClassVar = {
        "show": (
            "worker.cli.contract.show",
            "Show the contract in force, and where each part of it comes from.",
        ),
        "import": (
            "worker.cli.contract.import_",
            "Match an OpenAPI document with it, and write what differs.",
        ),
        "probe": ("worker.cli.contract.probe:probe", "Ask OrderMesh what of it holds."),
    }


@click.group(
    name="contract",
    cls=Commands,
    epilog="\b\nExamples:\n  ordersync contract show --diff\n"
    "  ordersync contract import vendor.json --output contract.toml\n  ordersync contract probe",
)
def command() -> None:
    """Look at what is believed of the API, take over what the vendor's document says, and ask what holds."""
