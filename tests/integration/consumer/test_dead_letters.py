"""Dead letters: read, counted, dropped, and tried again without anyone else seeing it."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from redis.asyncio import Redis

from ordersync_consumer import Delivery
from ordersync_consumer.dead import DeadLetter, DeadLetters, DeadLetterSummary, parse
from ordersync_consumer.groups import Groups
from ordersync_consumer.replay import ReplayRange, replay
from tests.support.consuming import Stage, ids
from tests.support.servers import Server
from tests.support.streams import KEYS
from tests.support.waiting import eventually
from tests.support.worker import Bench, BenchMaker
from worker.capture.state.parked import apply_retries, retry_parked
from worker.clock import parse_time
from worker.errors import DataError, NotReplayable
from worker.redis import scripts
from worker.redis.connections import answer

pytestmark = pytest.mark.anyio
STREAM, DEAD = KEYS.stream("orders"), KEYS.dead("orders")


async def die_of(stage: Stage, *subjects: str, group: str = "g") -> list[str]:
    """Events that a group cannot deal with. The ids of the entries."""
    entries = await stage.add(*subjects)

    async def handle(delivery: Delivery) -> None:
        await delivery.fail(f"cannot deal with {delivery.event.subject}", retry=False)

    async with stage.consumer(group=group) as consumer:
        await consumer.run(handle)
    return entries


async def test_list_and_show(stage: Stage) -> None:
    """All letters, oldest first, or those of a kind, a group, a subject; one by its id."""
    await die_of(stage, "a", "b")
    await die_of(stage, "a", group="h")
    letters = DeadLetters(stage.redis, KEYS)
    everything = await stage.letters()
    assert sorted((letter.group, letter.subject) for letter in everything) == [
        *(("g", "a"), ("g", "b"), ("h", "a"), ("h", "a"), ("h", "b")),
    ]
    assert [letter.letter_id for letter in everything] == sorted(letter.letter_id for letter in everything)
    assert [letter.subject async for letter in letters.each("orders", group="g", subject="b")] == ["b"]
    assert [letter async for letter in letters.each("orders", kind="record")] == []
    assert [letter async for letter in letters.each("shipments")] == []
    assert await letters.get("orders", everything[1].letter_id) == everything[1]
    with pytest.raises(NotReplayable, match=r"has no dead letter 1-1.*ordersync dead list orders"):
        await letters.get("orders", "1-1")


async def test_more_than_a_page(stage: Stage) -> None:
    """Any number of letters is listed, each once, and dropped."""
    await die_of(stage, *(f"s{number}" for number in range(230)))
    assert len({letter.subject for letter in await stage.letters()}) == 230
    letters = DeadLetters(stage.redis, KEYS)
    assert (await letters.summary("orders")).letters == 230
    assert await letters.drop_all("orders") == 230
    assert await letters.summary("orders") == DeadLetterSummary(0, 0.0)


async def test_summary(stage: Stage) -> None:
    """How many there are, and when the oldest was written."""
    await die_of(stage, "a", "b")
    first, _ = await stage.letters()
    told = await DeadLetters(stage.redis, KEYS).summary("orders")
    assert told.letters == 2
    assert told.oldest == pytest.approx(first.written_at, abs=2.0)


async def test_drop(stage: Stage) -> None:
    """A dropped letter is gone; one that is not there does not count."""
    await die_of(stage, "a", "b")
    first, second = await stage.letters()
    letters = DeadLetters(stage.redis, KEYS)
    assert await letters.drop("orders", [first.letter_id, "1-1"]) == 1
    assert await letters.drop("orders", []) == 0
    assert await stage.letters() == [second]


async def test_replay_of_a_delivery(stage: Stage) -> None:
    """The event comes to its group again, marked and with its attempts counted anew; the letter is gone."""
    entries = await die_of(stage, "a", "b")
    assert len(await stage.take(stage.consumer(group="other"))) == 2
    first, second = sorted(await stage.letters(), key=lambda letter: letter.subject)
    await DeadLetters(stage.redis, KEYS).replay(first)
    assert await stage.letters() == [second]
    (delivery,) = await stage.take(stage.consumer())
    assert (delivery.entry_id, delivery.attempt, delivery.replayed) == (entries[0], 1, True)
    assert await stage.take(stage.consumer(group="other")) == []
    assert await stage.redis.xlen(STREAM) == 2
    assert await stage.redis.exists(KEYS.replayed("orders", "g")) == 0


async def test_it_may_die_again(stage: Stage) -> None:
    """An event that fails again becomes a letter again."""
    await die_of(stage, "a")
    (letter,) = await stage.letters()
    await DeadLetters(stage.redis, KEYS).replay(letter)
    await die_of(stage)
    (again,) = await stage.letters()
    assert again.event == letter.event
    assert again.letter_id != letter.letter_id


async def test_an_event_that_is_not_kept(stage: Stage) -> None:
    """It is not published twice: the letter stays, and the message says what to do."""
    (entry,) = await die_of(stage, "a")
    await stage.redis.xdel(STREAM, entry)
    (letter,) = await stage.letters()
    with pytest.raises(NotReplayable, match=r"not kept.*ordersync resync orders --id a --force"):
        await DeadLetters(stage.redis, KEYS).replay(letter)
    assert await stage.letters() == [letter]
    assert await stage.pending() == {}


async def test_a_group_that_is_gone(stage: Stage) -> None:
    """Without a group nobody would get the event."""
    await die_of(stage, "a")
    (letter,) = await stage.letters()
    await stage.redis.xgroup_destroy(STREAM, "g")
    with pytest.raises(NotReplayable, match="group g does not read orders any more"):
        await DeadLetters(stage.redis, KEYS).replay(letter)
    await stage.group()
    with pytest.raises(NotReplayable, match="has not read entry"):
        await DeadLetters(stage.redis, KEYS).replay(letter)
    assert await stage.letters() == [letter]
    assert await stage.pending() == {}


async def test_two_at_once(stage: Stage) -> None:
    """A letter that somebody else has replayed is not replayed again."""
    await die_of(stage, "a")
    (letter,) = await stage.letters()
    letters = DeadLetters(stage.redis, KEYS)
    await letters.replay(letter)
    with pytest.raises(NotReplayable, match="it was replayed or dropped"):
        await letters.replay(letter)
    assert len(await stage.take(stage.consumer())) == 1


async def test_one_letter_for_an_entry(stage: Stage) -> None:
    """To bury is done once, however often it is asked for, and not for what somebody else works on."""
    (entry,) = await stage.add("a")
    await stage.group()
    await stage.read("c1", 1)
    async with stage.consumer("c2", wait=True):
        bury = scripts.load(stage.redis, "ordersync_consumer", "bury")
        keys = [STREAM, DEAD, KEYS.replayed("orders", "g")]
        words = ["0", "2", "kind", "delivery"]
        assert await bury(keys=keys, args=["g", "c2", entry, *words]) == b""
        assert await bury(keys=keys, args=["g", "c1", entry, *words])
        assert await bury(keys=keys, args=["g", "c1", entry, *words]) == b""
    assert await stage.redis.xlen(DEAD) == 1


async def test_compressed_data(stage: Stage) -> None:
    """An event that is stored compressed is kept as it is, and shown as it was served."""
    data = b'{"id":"a"}'
    packer = zlib.compressobj(wbits=31)
    (entry,) = await stage.add("a", data=packer.compress(data) + packer.flush())
    ((_, fields),) = await stage.redis.xrange(STREAM, entry, entry)
    await stage.redis.delete(STREAM)
    await stage.redis.xadd(STREAM, {**fields, b"dataencoding": b"gzip"})
    await die_of(stage)
    (letter,) = await stage.letters()
    assert letter.data == data
    assert letter.event is not None
    assert letter.event.data == data


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"protocol": 3}])
async def test_other_clients(stage: Stage, stage_server: Server, options: dict[str, Any]) -> None:
    """A client that decodes answers, or speaks RESP3, does as well, also where data is no text."""
    packed = zlib.compressobj(wbits=31)
    first, second = await stage.add("a", "b", data=packed.compress(b'{"id":"a"}') + packed.flush())
    for entry_id, fields in await stage.redis.xrange(STREAM):
        await stage.redis.xadd(KEYS.stream("notes"), {**fields, b"dataencoding": b"gzip"}, entry_id)

    async def handle(delivery: Delivery) -> None:
        await delivery.fail("no", retry=False)

    async with stage.consumer(resources=["notes"]) as consumer:
        await consumer.run(handle)
    client: Redis = Redis.from_url(stage_server.url, **options)
    letters = DeadLetters(client, KEYS)
    found = [letter async for letter in letters.each("notes", group="g")]
    assert [(letter.where, letter.data, letter.event and letter.event.subject) for letter in found] == [
        (first, b'{"id":"a"}', "a"),
        (second, b'{"id":"a"}', "b"),
    ]
    assert await letters.get("notes", found[1].letter_id) == found[1]
    await letters.replay(found[0])
    assert (await letters.summary("notes")).letters == 1
    assert await letters.drop_all("notes") == 1
    done = await replay(client, KEYS, "notes", "g", ReplayRange())
    assert (done.replayed, done.pending) == (1, 1)
    (group,) = (await Groups(client, KEYS).status("notes")).groups
    assert (group.name, group.pending, group.unread) == ("g", 2, 0)
    assert [each.name for each in await Groups(client, KEYS).consumers("notes", "g")] == ["c1"]
    await client.aclose()


@pytest.mark.parametrize("fields", [{"a": "b"}, {"kind": "record", "reason": "x"}])
async def test_foreign_letters(stage: Stage, fields: dict[str, str]) -> None:
    """What somebody else has written there is named as such."""
    await stage.redis.xadd(DEAD, dict(fields))  # type: ignore[arg-type] # invariant dict
    with pytest.raises(DataError, match="was not written by ordermesh-sync"):
        await stage.letters()


async def test_an_unknown_kind(redis_url: str) -> None:
    """A letter of a later version is left alone."""
    letter = parse("orders", "1-0", {
        name.encode(): b"x" for name in ("kind", "reason", "subject", "where", "time")
    })  # fmt: skip
    client: Redis = Redis.from_url(redis_url)
    with pytest.raises(NotReplayable, match="kind 'x'"):
        await DeadLetters(client, KEYS).replay(letter)
    await client.aclose()


# Records that could not be read


async def parked(b: Bench) -> DeadLetter:
    """The one letter of a record that was parked."""
    (letter,) = [letter async for letter in DeadLetters(b.redis, KEYS).each("orders")]
    assert letter.kind == "record"
    assert parse_time(letter.time)
    return letter


def letters_of(b: Bench) -> DeadLetters:
    """With what the capture does about a letter of its own."""

    async def again(letter: DeadLetter) -> None:
        await retry_parked(b.redis, KEYS, letter)
        await apply_retries(b.redis, KEYS)

    return DeadLetters(b.redis, KEYS, again)


@pytest.mark.parametrize("known", [True, False], ids=["published before", "never published"])
async def test_replay_of_a_record_with_an_id(bench: BenchMaker, *, known: bool) -> None:
    """The next read parks it anew if it still cannot be read, and publishes it as ever if it can."""
    async with bench() as b:
        store = b.sandbox.store
        if known:
            await b.poll()
        (subject,) = store.create(1)
        good = store.truth()[subject]
        if known:
            await b.poll()
        store.replace(subject, good[:-1] + b',"odd":"\xff"}')
        await b.poll()
        first = await parked(b)
        assert first.subject == subject
        await letters_of(b).replay(first)
        await b.poll()
        second = await parked(b)
        assert second.letter_id != first.letter_id
        await letters_of(b).replay(second)
        store.replace(subject, good.replace(b'"status"', b'"status2"'))
        await b.poll()
        assert [letter async for letter in letters_of(b).each("orders")] == []
        events = [event for event in await b.events() if event.subject == subject]
        assert [event.version for event in events] == ([1, 2] if known else [1])
        tracked = (await b.cursor()).tracked
        assert tracked == len(store.ids())


async def test_replay_of_a_record_without_an_id(bench: BenchMaker) -> None:
    """The same for one that is known by its bytes alone."""
    async with bench() as b:
        (subject,) = b.sandbox.store.create(1)
        b.sandbox.store.replace(subject, b'{"name":"no id"}')
        await b.poll()
        await b.poll()
        first = await parked(b)
        assert (first.subject, first.data) == ("", b'{"name":"no id"}')
        await letters_of(b).replay(first)
        await b.poll()
        assert (await parked(b)).letter_id != first.letter_id


async def test_nothing_is_known_of_the_record(redis_url: str) -> None:
    """Where no state is kept, there is no mark to drop."""
    client: Redis = Redis.from_url(redis_url)
    letter = DeadLetter("1-0", "orders", "record", "x", "a", "orders.search page 1", "", b"{}")
    assert not await retry_parked(client, KEYS, letter)
    await answer(client.hset(KEYS.cursor("orders"), "buckets", "64"))
    assert not await retry_parked(client, KEYS, letter)
    await answer(client.sadd(KEYS.retries, b"\xff", b"orders\0x", b"never\0" + b"x" * 12))
    assert await apply_retries(client, KEYS) == 3
    assert not await client.exists(KEYS.retries)
    await client.aclose()


async def test_letters_do_not_hold_up_others(stage: Stage) -> None:
    """A group that buries everything still reads on to the end."""
    entries = await die_of(stage, *(f"s{number}" for number in range(30)))
    assert len(await eventually(stage.letters)) == 30
    assert await stage.pending() == {}
    assert ids(await stage.take(stage.consumer(group="h"))) == entries
