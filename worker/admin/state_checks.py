"""What `ordersync doctor` checks of the keys of an account: layout, types, what Redis has lost. Nothing is written."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from ordersync_consumer.redaction import words_of
from worker.admin.accounts import foreign_names
from worker.admin.finding import Finding, Severity
from worker.capture.registry import CAPTURED
from worker.capture.state.cursor import Cursor
from worker.capture.state.layout import stored_layout
from worker.capture.state.source import check_source
from worker.errors import DataError
from worker.keys import Keys, KeySpace
from worker.redis.connections import answer
from worker.redis.stored import text_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from redis.asyncio import Redis

    from worker.config.sections import ApiSettings

_AT_ONCE = 1000
_MAX_SHOWN = 3
"""Keys of a wrong type that a finding names."""


async def check_state(redis: Redis, keys: Keys, api: ApiSettings) -> AsyncIterator[Finding]:
    """Yield findings about the keys of an account. `api`: where its records come from."""
    wrong = await _of_wrong_type(redis, {**KeySpace(keys.prefix).kinds, **keys.kinds})
    wrong |= await _of_wrong_type(redis, await _kinds_of_members(redis, keys, wrong))
    if wrong:
        yield _wrong_type(keys.account, "the account", wrong)
    shared = KeySpace(keys.prefix)
    if shared.accounts not in wrong and (names := await foreign_names(redis, shared)):
        text = f"{shared.accounts} contains a name that no account has: {names[0]!a}"
        yield Finding(
            "state", Severity.WARNING, text, f"remove it (SREM {shared.accounts} ...)", keys.account
        )
    if keys.layout in wrong:
        return
    try:
        await stored_layout(redis, keys)
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
            cursor = Cursor.parse(await answer(redis.hgetall(keys.cursor(name))), keys.cursor(name))
        except DataError as error:
            yield Finding("state", Severity.PROBLEM, f"{name}: {words_of(error)}", account=keys.account)
    if keys.stream(name) not in wrong:
        wrong |= await _of_wrong_type(redis, await _kinds_of_consumers(redis, keys, name))
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


async def _kinds_of_members(redis: Redis, keys: Keys, wrong: Mapping[str, str]) -> dict[str, str]:
    """Return the keys of the workers and resyncs that the lists of them name, and the type of each."""
    kinds: dict[str, str] = {}
    for index, kinds_of in ((keys.workers, keys.kinds_of_worker), (keys.resyncs, keys.kinds_of_resync)):
        if index not in wrong:
            for name in await answer(redis.zrange(index, 0, -1)):
                kinds |= kinds_of(text_of(name))
    return kinds


async def _kinds_of_consumers(redis: Redis, keys: Keys, resource: str) -> dict[str, str]:
    """Return the keys of the consumers of a resource, and the type of each."""
    stream, kinds = keys.stream(resource), dict[str, str]()
    with suppress(ResponseError):  # there is no stream, or it was deleted just now
        for group in await redis.xinfo_groups(stream):
            for consumer in await redis.xinfo_consumers(stream, group["name"]):
                kinds |= keys.kinds_of_consumer(resource, text_of(group["name"]), text_of(consumer["name"]))
    return kinds


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
