"""Contract files, and what becomes of them."""

from __future__ import annotations

from pathlib import Path

from worker.ordermesh.contract.file import load
from worker.ordermesh.contract.layers import Contract
from worker.ordermesh.contract.operations import OPERATIONS

SEARCH = OPERATIONS["orders.search"]
VENDOR = {
    "openapi": "3.0.3",
    "paths": {
        "/v2/orders": {"get": {"summary": SEARCH.title, "parameters": [{"name": "limit", "in": "query"}]}},
        "/v2/notes": {"get": {"summary": OPERATIONS["notes.search"].title}},
    },
}


def written(folder: Path, text: str, name: str = "contract.toml") -> Contract:
    """The contract of a file with this text."""
    (folder / name).write_text(text, encoding="utf-8")
    return load(folder / name)
