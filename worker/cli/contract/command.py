"""`ordersync contract`."""

from __future__ import annotations

from typing import ClassVar

import click

from worker.cli import LazyGroup


class Commands(LazyGroup):
    """The commands of `ordersync contract`, each in a module of its own."""

    table: ClassVar = {
        "show": (
            "worker.cli.contract.show",
            "Show the effective contract, and the source of each part.",
        ),
        "import": (
            "worker.cli.contract.import_",
            "Compare an OpenAPI document with it, and write the differences.",
        ),
        "probe": ("worker.cli.contract.probe:probe", "Test which parts of it OrderMesh honours."),
    }


@click.group(
    name="contract",
    cls=Commands,
    epilog="\b\nExamples:\n  ordersync contract show --diff\n"
    "  ordersync contract import vendor.json --output contract.toml\n  ordersync contract probe",
)
def command() -> None:
    """Show the contract of the API, import it from an OpenAPI document, and test it at the gateway."""
