"""Other programs import the consumer kit: their type checkers see its types."""

from __future__ import annotations

from importlib.resources import files

import pytest

import jobs
import ordersync_consumer
import worker


@pytest.mark.parametrize("package", [worker, jobs, ordersync_consumer])
def test_types_are_for_everybody(package: object) -> None:
    """Without the marker (PEP 561) mypy takes everything that is imported from an installed package for `Any`."""
    assert files(package.__name__).joinpath("py.typed").is_file()  # type: ignore[attr-defined]
