"""A stream and a receiver, between which `ordersync forward` works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.consuming import Stage
from tests.support.forward_command import Shop
from tests.support.webhooks import WebhookReceiver, webhook_receiver
from worker.redis.connections import connect


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    """A receiver that takes everything."""
    with webhook_receiver() as running:
        yield running


@pytest.fixture
async def shop(redis_url: str, tmp_path: Path, receiver: WebhookReceiver) -> AsyncIterator[Shop]:
    client = connect(redis_url)
    yield Shop(Stage(client), receiver, redis_url, tmp_path)
    await client.aclose()
