"""The health report of a worker: what its heartbeat says of the resources of its accounts."""

from __future__ import annotations

import functools
import os
import socket
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from redis.exceptions import RedisError, ResponseError

from ordersync_consumer.servers.cluster import servers_of
from ordersync_consumer.servers.topology import SlotUnavailable
from worker.capture.causes import Cause
from worker.capture.health import NOT_POLLED, Health, Verdict, judge
from worker.capture.registry import CAPTURED
from worker.capture.state import pauses
from worker.capture.state.cursor import Cursor
from worker.capture.state.layout import stored_layout
from worker.capture.state.source import check_source
from worker.capture.state.store import StateStore
from worker.errors import DataError, RedisUnavailable
from worker.queue.lateness import late_groups
from worker.redis.connections import answer
from worker.redis.facts import evicted, eviction_words, facts_of, run_of
from worker.redis.refusals import explain, is_full
from worker.service.heartbeat import Beat, ResourceBeat
from worker.service.presence import Presence, say_alive
from worker.telemetry.log import redaction

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from worker.services import AccountServices, Services

REPORTED = 8
"""Accounts that one report looks at."""
REST_EVERY = 5
"""Reports about an account of which one looks at what changes slowly."""
CURSOR_SECONDS = 15.0
"""Seconds after which a report reads a cursor again of which no poll is due; after a poll it does so at once."""


@functools.cache
def worker_id() -> str:
    """Tells this process from every other: host, process id, and chance, for containers that share both."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:4]}"


async def remember(services: Services) -> int:
    """Write down what was published so far, and by which run of Redis, for the next life of this worker.

    Returns:
        How many keys the servers have evicted.

    """
    found: list[Mapping[str, Any]] = []
    for server in await servers_of(services.redis):
        with suppress(SlotUnavailable):  # its run is unknown then, so more is doubted, and not less
            found.append(await facts_of(server))
    services.given_out.saw_servers([run_of(facts) for facts in found])
    services.given_out.save()
    return sum(map(evicted, found))


def clock_offset(services: Services) -> float:
    """Return by how many seconds the clock of this host is ahead of that of Redis."""
    return round(time.time() - services.clock.now(), 1)


def reporter(services: Services) -> Callable[[], Awaitable[list[ResourceBeat]]]:
    """What the heartbeat says of each resource. It goes to Redis too, where other hosts see it.

    However many accounts there are, a report looks at a few of them: those whose polls have just failed or recovered,
    and those whose turn it is. Of the others it repeats what was seen last.
    """
    began = services.clock.monotonic()
    known, looks = dict[str, list[ResourceBeat]](), Counter[str]()
    kept, cursors = dict[str, _Rest](), dict[str, _Cursors]()

    async def report() -> list[ResourceBeat]:
        full, since = False, services.clock.now() - (services.clock.monotonic() - began)
        nonlocal cursors
        touched = frozenset(services.touched)
        names = _whose_turn(services, looks)
        cursors = {name: cursors.get(name) or _Cursors() for name in names}
        try:
            # Again and again: a Redis that lost its data knows of no account.
            if names:
                with suppress(SlotUnavailable):
                    await answer(services.redis.sadd(services.keys.accounts, *names))
        except RedisError as error:
            if not is_full(error):
                raise
            full = True
        lost = await remember(services)
        with suppress(SlotUnavailable):
            await say_alive(services.redis, services.keys, worker_id(), services.clock.now())
        for name in names:
            account = services.account(name)
            if account is None:
                continue  # it was removed meanwhile
            looks[name] += 1
            try:
                if name not in kept or looks[name] % REST_EVERY == 0:
                    kept[name] = await _rest_of(services, account)
                seen = await cursors[name].look(services, account, again=name in touched)
                own = await _beats_of(
                    services, account, since, seen, full=full, evicted_keys=lost, rest=kept[name]
                )
                known[name] = own
                now = services.clock.now()
                sign = Beat(worker_id(), os.getpid(), now, since, own, clock_offset=clock_offset(services))
                await Presence(services.redis, account.keys).beat(sign)
            except SlotUnavailable as error:
                known[name] = own = _beats_away(account, known.get(name, ()), explain(error))
            services.unwell.discard(name)
            if any(beat.health not in {Health.OK, Health.WITHDRAWN} for beat in own):
                services.unwell.add(name)
        return [beat for name in services.configured for beat in known.get(name, ())]

    return report


def _whose_turn(services: Services, looks: Counter[str]) -> list[str]:
    """Return the accounts to look at: half of them those that were touched, the rest those that wait the longest."""
    accounts = services.configured
    touched = [name for name in services.touched if name in accounts][: REPORTED // 2]
    services.touched.difference_update(touched)
    names = dict.fromkeys(touched)
    for name in sorted(accounts, key=looks.__getitem__):
        if len(names) >= REPORTED:
            break
        names[name] = None
    return list(names)


def _beats_away(account: AccountServices, before: Iterable[ResourceBeat], words: str) -> list[ResourceBeat]:
    """Return the beats of an account whose node of the cluster does not answer: the last ones, as failing."""
    last = {beat.resource: beat for beat in before}
    return [
        msgspec.structs.replace(
            last.get(name) or ResourceBeat(account.account.name, name, Health.FAILING),
            health=Health.FAILING.value,
            cause=redaction.text(words),
            code=RedisUnavailable.code,
            unrecorded=True,
        )
        for name in account.account.intervals
    ]


@dataclass(frozen=True, slots=True)
class _Rest:
    """What the heartbeat says of an account and changes slowly.

    `late`: which consumer group of a resource is late, in words; `broken`: why its stream cannot be used, in words;
    `withdrawn`: the beats of resources that are no longer polled.
    """

    late: Mapping[str, str]
    broken: Mapping[str, str]
    withdrawn: Sequence[ResourceBeat]


class _Cursors:
    """The cursors of the resources of an account, as they were read last, and when (monotonic clock).

    Nearly nothing but a poll changes what a cursor says of the health, so it is read again when a poll is due.
    """

    def __init__(self) -> None:
        self._seen = dict[str, tuple[Cursor, float]]()

    async def look(
        self, services: Services, account: AccountServices, *, again: bool
    ) -> dict[str, Cursor | Exception]:
        """Return the cursor of each resource, or why it cannot be read. `again`: read all of them."""
        now, read_at = services.clock.now(), services.clock.monotonic()
        found = dict[str, Cursor | Exception]()
        for name in account.account.intervals:
            cursor, at = self._seen.pop(name, (Cursor(), -float("inf")))
            if again or cursor.due_at <= now or read_at - at >= CURSOR_SECONDS:
                try:
                    cursor = await StateStore(services.redis, account.keys, CAPTURED[name]).load_cursor()
                except (DataError, ResponseError) as error:
                    found[name] = error
                    continue
                at = read_at
            self._seen[name], found[name] = (cursor, at), cursor
        return found


async def _rest_of(services: Services, account: AccountServices) -> _Rest:
    late, broken = dict[str, str](), dict[str, str]()
    for name in account.account.intervals:
        try:
            late[name] = await _late(services, account, name)
        except (DataError, ResponseError) as error:
            broken[name] = explain(error)
    return _Rest(late, broken, await _withdrawn(services, account))


async def _beats_of(
    services: Services,
    account: AccountServices,
    since: float,
    seen: Mapping[str, Cursor | Exception],
    *,
    full: bool,
    evicted_keys: int,
    rest: _Rest,
) -> list[ResourceBeat]:
    """Return what the heartbeat says of the resources of one account."""
    paused, wrong = dict[str, pauses.Pause](), ""
    try:
        paused = await pauses.Pauses(services.redis, account.keys).all()
        await stored_layout(services.redis, account.keys)
        await check_source(services.redis, account.keys, account.account.api)
    except DataError as error:
        wrong = explain(error)
    beats = []
    for name, found in seen.items():
        cursor, unrecorded = Cursor(), account.poller.unrecorded.get(name)
        if isinstance(found, Exception):
            verdict = Verdict(Health.FAILING, explain(found), Cause.UNUSABLE_KEYS)
        else:
            cursor = found
            verdict = judge(
                cursor,
                services.clock.now(),
                since,
                full=full,
                pause=pauses.of(paused, name),
                unrecorded=unrecorded,
                late=rest.late.get(name, ""),
                withdrawn=account.capabilities.store.withdrawn(name),
            )
        if unusable := wrong or rest.broken.get(name, ""):
            cursor, verdict = Cursor(), Verdict(Health.FAILING, unusable, Cause.UNUSABLE_KEYS)
        is_unrecorded = unrecorded is not None
        if evicted_keys and verdict.health in {Health.OK, Health.STARTING}:
            verdict = Verdict(Health.DEGRADED, eviction_words(evicted_keys), Cause.EVICTED_KEYS)
            is_unrecorded = True
        beats.append(
            ResourceBeat(
                account=account.account.name,
                resource=name,
                health=verdict.health.value,
                cause=redaction.text(verdict.cause),
                code=verdict.code,
                fresh_as_of=cursor.fresh_as_of,
                last_success=cursor.last_success,
                unrecorded=is_unrecorded,
            )
        )
    return [*beats, *rest.withdrawn]


async def _late(services: Services, account: AccountServices, resource: str) -> str:
    """Return which consumer group of a resource is late, in words; "" for none."""
    status, now = await account.groups.status(resource, of_groups=True), services.clock.now()
    late = await late_groups(account.groups, resource, status, now, account.account.groups.late_after)
    return late[0].cause if late else ""


async def _withdrawn(services: Services, account: AccountServices) -> list[ResourceBeat]:
    """Return a beat for each resource that was polled once, and that this worker does not poll."""
    names = [name for name in CAPTURED if name not in account.account.intervals]
    async with services.redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hget(account.keys.cursor(name), "last_started")
        began = await pipe.execute(raise_on_error=False)
    return [
        ResourceBeat(account.account.name, name, Health.WITHDRAWN, NOT_POLLED, Cause.WITHDRAWN)
        for name, at in zip(names, began, strict=True)
        if at
    ]
