"""A worker whose passes may begin at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.reconciling import ORDERS_ALONE, SOON
from tests.support.worker import BenchMaker


@pytest.fixture
def few(bench: BenchMaker) -> Any:
    """A worker on 50 orders whose passes may prove everything up to now, and may begin at once."""

    def make(**options: Any) -> Any:
        return bench(**{"reconcile": SOON, "intervals": ORDERS_ALONE, **options})

    return make
