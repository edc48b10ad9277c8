"""`ordersync consume --stay`: a command that stays and answers for each event."""

from __future__ import annotations

import re

import pytest

from tests.support.consume_command import Shop
from tests.support.streams import KEYS

pytestmark = pytest.mark.anyio

STAYING = """
print(os.getpid(), file=open("lives", "a"))
for line in sys.stdin:
    event = json.loads(line)
    print(event["subject"], event["version"], event["attempt"], file=open("given", "a"))
    """


async def test_it_stays(shop: Shop) -> None:
    """One process gets all events, each entity's in order, and answers with a line each."""
    await shop.stage.add(*"abc" * 40)
    done = shop.once(
        "--stay", "--batch", "7", "--", "sh", "-c", shop.script(STAYING + 'print("ok", event["entry"])')
    )
    assert (done.returncode, len(shop.read("lives"))) == (0, 1)
    given = [line.split() for line in shop.read("given")]
    assert len(given) == 120
    for entity in "abc":
        assert [version for subject, version, _ in given if subject == entity] == [*map(str, range(1, 41))]
    assert await shop.stage.pending() == {}


async def test_answers_in_any_order(shop: Shop) -> None:
    """It may take several events at a time and answer them as it likes."""
    await shop.stage.add(*"abcdef")
    command = shop.script("""
waiting = []
for line in sys.stdin:
    waiting.append(json.loads(line)["entry"])
    if len(waiting) == 3:
        print("".join(f"ok {entry}\\r\\n" for entry in reversed(waiting)), end="\\n\\n")
        waiting.clear()
""")
    assert shop.once("--stay", "--batch", "3", "--", "sh", "-c", command).returncode == 0
    assert await shop.stage.pending() == {}


async def test_it_refuses(shop: Shop) -> None:
    """What it fails is tried again, before later events of the entity, and becomes a dead letter with its reason."""
    await shop.stage.add("a", "bad", "bad", "b")
    answer = """if event["subject"] == "bad" and event["version"] == "1":
        print("fail", event["entry"], "out of  stock")
    else:
        print("ok", event["entry"])"""
    done = shop.once("--stay", "--max-deliveries", "2", "--", "sh", "-c", shop.script(STAYING + answer))
    assert (done.returncode, len(shop.read("lives"))) == (0, 1)
    assert shop.read("given") == ["a 1 1", "bad 1 1", "b 1 1", "bad 1 2", "bad 2 1"]
    (letter,) = await shop.stage.letters()
    assert (letter.reason, letter.attempts) == ("out of stock", 2)


@pytest.mark.parametrize(
    ("last_act", "reason"),
    [
        ('sys.exit("out of luck")', r"sh|python.* ended with exit code 1: out of luck"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        (
            'print("thank you"); time.sleep(60)',
            r"wrote a line of 9 characters that is not an answer; expected `ok ENTRY`",
        ),
        ('print("ok", event["entry"], "fine"); time.sleep(60)', "that is not an answer"),
        (
            'print("ok 1-1"); time.sleep(60)',
            "answered entry '1-1', which is not an unanswered event; expected",
        ),
        ('print("x" * 100_000, end=""); time.sleep(60)', "wrote a line of more than 65536 bytes"),
        ("os.close(1); time.sleep(60)", "closed its standard output"),
    ],
)
async def test_it_ends(shop: Shop, last_act: str, reason: str) -> None:
    """It is started again; of what it had not answered the bad event is found, and the others get through."""
    await shop.stage.add("a", "b", "bad", "c", "bad", "d")
    answer = f"""if event["subject"] == "bad" and event["version"] == "1":
        {last_act}
    elif event["attempt"] < 2 and event["subject"] > "b" and len(open("lives").readlines()) == 1:
        pass
    else:
        print("ok", event["entry"])"""
    command = "exec " + shop.script(STAYING + answer)
    done = shop.once("--stay", "--max-deliveries", "1", "--", "sh", "-c", command)
    assert done.returncode == 0
    (letter,) = await shop.stage.letters()
    assert (letter.subject, letter.event and letter.event.version) == ("bad", 1)
    assert re.search(reason, letter.reason)
    assert await shop.stage.pending() == {}
    assert len(shop.read("lives")) == 3
    assert [line for line in shop.read("given") if line.endswith(" 2")] == []


async def test_the_same_entry_id_in_two_resources(shop: Shop) -> None:
    """An answer is that to one event: the second one is handed over when the first is answered."""
    for resource in ("orders", "shipments"):
        (entry,) = await shop.stage.add("x", resource=resource)
        stream = KEYS.stream(resource)
        ((_, fields),) = await shop.stage.redis.xrange(stream, entry, entry)
        await shop.stage.redis.delete(stream)
        await shop.stage.redis.xadd(stream, fields, id="1772448067513-0")
    answer = 'print("ok" if event["resource"] == "orders" else "fail", event["entry"], flush=True)'
    words = ("--stay", "--max-deliveries", "1", "orders", "shipments")
    assert shop.once(*words, "--", "sh", "-c", shop.script(STAYING + answer)).returncode == 0
    assert await shop.stage.letters() == []
    (letter,) = await shop.stage.letters("shipments")
    assert letter.reason == "no reason given"
