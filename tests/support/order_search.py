"""The search for orders, on which the client is tested: its path, and how it fails."""

from __future__ import annotations

from typing import Any

from worker.sandbox import FaultRule, SandboxServer

SEARCH = "orders.search"
SEARCH_PATH = "/order/v1/orders"


def fault(sandbox: SandboxServer, **rule: Any) -> None:
    sandbox.faults.add(FaultRule(**{"operation": SEARCH, "action": "status", **rule}))
