"""What `ordersync doctor` checks of the keys of an account: layout, types, what Redis has lost. Nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.admin.finding import Finding, Severity
from worker.capture.registry import CAPTURED
from worker.capture.state.cursor import Cursor
from worker.capture.state.source import check_source
from worker.capture.state.store import check_layout
from worker.errors import DataError
from worker.keys import Keys, KeySpace
from worker.redis.connections import answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from redis.asyncio import Redis

    from worker.config.sections import ApiSettings

_AT_ONCE = 1000
_MAX_SHOWN = 3
"""Keys of a wrong type that a finding names."""


async def check_state(redis: Redis, keys: Keys, api: ApiSettings) -> AsyncIterator[Finding]:
    """Yield findings about the keys of an account. `api`: where its records come from."""
    if wrong := await _of_wrong_type(redis, {KeySpace(keys.prefix).accounts: "set", **keys.kinds}):
        yield _wrong_type(keys.account, "the account", wrong)
    if keys.layout in wrong:
        return
    try:
        await check_layout(redis, keys)
        if keys.source not in wrong:
            await check_source(redis, keys, api)
    except DataError as error:
        text, _, advice = str(error).partition(". Nothing was changed. ")
        status = error.exit_status
        yield Finding(
            "state", Severity.PROBLEM, text, advice.removesuffix("."), keys.account, exit_status=status
        )
        return
    sound = not wrong
    for name in CAPTURED:
        async for finding in _check_resource(redis, keys, name):
            sound = False
            yield finding
    if sound:
        yield Finding("state", Severity.OK, "the keys of the account are sound", account=keys.account)


async def _check_resource(redis: Redis, keys: Keys, name: str) -> AsyncIterator[Finding]:
    wrong = await _of_wrong_type(redis, keys.kinds_of(name))
    cursor = Cursor()
    if keys.cursor(name) not in wrong:
        try:
            cursor = Cursor.parse(await answer(redis.hgetall(keys.cursor(name))))
        except DataError as error:
            yield Finding("state", Severity.PROBLEM, f"{name}: {error}", account=keys.account)
    for prefix in keys.bucket_prefixes(name):
        wrong |= await _of_wrong_type(
            redis, {f"{prefix}:{bucket}": "hash" for bucket in range(cursor.buckets)}
        )
    if wrong:
        yield _wrong_type(keys.account, name, wrong)
    if cursor.lost_at:
        yield Finding(
            "state", Severity.WARNING, f"{name}: {cursor.loss}",
            "wait until a full scan has ended: it publishes what differs. Then find out why Redis has lost data",
            keys.account,
        )  # fmt: skip


async def _of_wrong_type(redis: Redis, kinds: Mapping[str, str]) -> dict[str, str]:
    """Return the keys that exist and are not of their type, with the type that they have."""
    wrong: dict[str, str] = {}
    names = list(kinds)
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        async with redis.pipeline(transaction=False) as pipe:
            for name in some:
                pipe.type(name)
            result: Iterable[Any] = await pipe.execute()
        found = zip(some, (kind.decode() for kind in result), strict=True)
        wrong |= {name: kind for name, kind in found if kind not in {"none", kinds[name]}}
    return wrong


def _wrong_type(account: str, what: str, wrong: Mapping[str, str]) -> Finding:
    shown = ", ".join(f"{name} is a {kind}" for name, kind in list(wrong.items())[:_MAX_SHOWN])
    more = f" and {len(wrong) - _MAX_SHOWN} more" if len(wrong) > _MAX_SHOWN else ""
    return Finding(
        "state", Severity.PROBLEM, f"{what}: this program did not write some keys: {shown}{more}",
        "restore the old value, or delete the key: the worker then goes on without it, or begins again", account,
    )  # fmt: skip
