"""The contract that the settings name. What reads a contract file is imported only if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.ordermesh.contract.layers import BUILT_IN, Contract

if TYPE_CHECKING:
    from pathlib import Path


def contract_of(file: Path | None) -> Contract:
    """Return the contract of a file on top of the built-in table; without a file, the built-in contract.

    Raises:
        SettingsError: The file cannot be used. The message contains the file, every problem and what to do.

    """
    if file is None:
        return BUILT_IN
    from worker.ordermesh.contract.file import load  # noqa: PLC0415 - see the top

    return load(file)
