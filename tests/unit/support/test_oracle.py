"""What the oracle of the model wants an update to name."""

from __future__ import annotations

import json

import pytest

from tests.support.oracle import named

ALIKE = 44, 423
"""Two numbers with the same fingerprint of 16 bits."""
ZERO = 97482
"""A number whose fingerprint is that of a field that is not there."""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"at": 1, "status": "Open"}, {"at": 2, "status": "Open"}, {"at"}),
        ({"at": 1, "status": "Open"}, {"at": 1}, {"status"}),
        ({"at": ALIKE[0], "status": "Open"}, {"at": ALIKE[1], "status": "Closed"}, {"status"}),
        ({"at": ALIKE[0], "status": "Open"}, {"at": ALIKE[1], "status": "Open"}, {"at", "status"}),
        ({"status": "Open"}, {"at": ZERO, "status": "Closed"}, {"status"}),
    ],
)
def test_a_field_with_an_equal_fingerprint_is_not_named(
    before: dict[str, object], after: dict[str, object], expected: set[str]
) -> None:
    """An update that names fewer fields than have changed is right in these cases alone."""
    assert named(json.dumps(before), json.dumps(after)) == expected
