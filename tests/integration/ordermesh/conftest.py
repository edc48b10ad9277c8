"""A scripted gateway for the tests of the client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.scripted_server import Lab, http, lab

TOKEN = http(b'{"accessToken":"lab-token","expiresIn":3600}')


@pytest.fixture
async def served() -> AsyncIterator[Lab]:
    """A scripted gateway at which one can log in."""
    async with lab() as running:
        running.answers["/user/v1/clients/token"] = TOKEN
        yield running
