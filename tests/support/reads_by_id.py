"""Reads by id that are answered otherwise, and what a probe has found of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.support.worker import Bench
from worker.ordermesh.contract.findings import Capabilities
from worker.ordermesh.http.reply import Reply
from worker.redis.connections import answer


async def believe(b: Bench, name: str, **known: Any) -> None:
    """Let the probe have found that."""
    raw = await answer(b.redis.hget(b.account.keys.contract, name))
    found = msgspec.structs.replace(msgspec.json.decode(raw or b"", type=Capabilities), **known)
    await answer(b.redis.hset(b.account.keys.contract, name, msgspec.json.encode(found).decode()))


def answered(
    b: Bench,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    identifier: str,
    instead: Callable[[Reply], Reply],
) -> None:
    """One read by id is answered otherwise from then on."""
    call = b.account.client.call

    async def other(key: str, **options: Any) -> Any:
        reply = await call(key, **options)
        return instead(reply) if key == operation and identifier in options["path"].values() else reply

    monkeypatch.setattr(b.account.client, "call", other)
