"""How `ordersync consume` ends: by signals, after a kill, and after wrong use."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.commands import ordersync
from tests.support.consume_command import Shop, subjects
from tests.support.servers import free_port
from tests.support.streams import STREAM
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


# --- the end ----------------------------------------------------------------------------------------------


def is_gone(pid: int) -> bool:
    """Whether a process has ended; whoever inherited it may not have noticed yet."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def began(shop: Shop, lines: int = 1) -> None:
    """Wait until a command has begun."""
    await eventually(lambda: len(shop.read("began")) >= lines)


async def test_a_signal_lets_the_batch_finish(shop: Shop) -> None:
    """What the command has in hand is acknowledged; the rest is given back, and comes to others at once, uncounted."""
    await shop.stage.add(*"abcd")
    command = "cat >> taken; echo >> began; sleep 0.5; echo done >> began"
    with shop.program("--batch", "2", "--", "sh", "-c", command) as program:
        await began(shop)
        program.process.send_signal(signal.SIGTERM)
        assert await program.ended() == 0
        assert shop.read("began")[-1] == "done"
        assert subjects(shop.read("taken")) == ["a", "b"]
    assert {count for _, count in (await shop.stage.pending()).values()} <= {0}
    lines = shop.once("--", "cat", name="c2").stdout.splitlines()
    assert [(json.loads(line)["subject"], json.loads(line)["attempt"]) for line in lines] == [
        ("c", 1),
        ("d", 1),
    ]


async def test_a_signal_while_it_waits(shop: Shop) -> None:
    """With nothing to do it ends at once."""
    with shop.program("--", "cat") as program:
        await program.logged("consumer_started")
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() == 0


async def test_a_signal_closes_the_input(shop: Shop) -> None:
    """A command that stays finds the end of its input, and may answer what it has."""
    await shop.stage.add(*"abc")
    command = shop.script("""
entries = []
for line in sys.stdin:
    entries.append(json.loads(line)["entry"])
    print(file=open("began", "a"))
print("\\n".join(f"ok {entry}" for entry in entries[:2]), end="")
""")
    with shop.program("--stay", "--", "sh", "-c", command) as program:
        await began(shop, 3)
        program.process.send_signal(signal.SIGTERM)
        assert await program.ended() == 0
    pending = await shop.stage.pending()
    assert [(owner, count) for owner, count in pending.values()] == [("ordersync-returned", 0)]


@pytest.mark.parametrize("stay", [(), ("--stay",)], ids=["batch", "stay"])
async def test_grace_has_an_end(shop: Shop, stay: tuple[str, ...]) -> None:
    """A command that does not finish is ended with all it has started; its event is given back, and counted."""
    await shop.stage.add("a")
    command = "read -r line; echo >> began; sleep 60 & echo $! > left; wait"
    with shop.program(*stay, "--grace", "0.2", "--", "sh", "-c", command) as program:
        await eventually(lambda: shop.read("left"))
        program.process.send_signal(signal.SIGTERM)
        assert await program.ended() == 0
    assert is_gone(int(shop.read("left")[0]))
    assert list((await shop.stage.pending()).values()) == [("ordersync-returned", 1)]


async def test_a_second_signal(shop: Shop) -> None:
    """It ends the command at once."""
    await shop.stage.add("a")
    with shop.program(
        "--grace", "60", "--", "sh", "-c", "cat >/dev/null; echo >> began; sleep 60"
    ) as program:
        await began(shop)
        program.process.send_signal(signal.SIGINT)
        await program.logged("consume_ending")
        program.process.send_signal(signal.SIGINT)
        assert await program.ended() == 0


async def test_after_a_kill(shop: Shop) -> None:
    """What a killed process had comes first when it starts again under its name, and counts as begun."""
    await shop.stage.add("a", "b")
    with shop.program("--batch", "1", "--", "sh", "-c", "echo >> began; sleep 60"):
        await began(shop)
    lines = shop.once("--", "cat").stdout.splitlines()
    assert subjects(lines) == ["a", "b"]
    assert json.loads(lines[0])["attempt"] == 2


# --- wrong use and exit codes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-g", "g"), "The command is missing. Write it after --"),
        (("-g", "g", "--"), "The command is missing. Write it after --"),
        (("--", "cat"), "--group"),
        (("-g", "g", "parcels", "--", "cat"), "Unknown resource 'parcels'. Known resources: orders"),
        (("-g", "a b", "--", "cat"), "Invalid group of a consumer: 'a b'"),
        (("-g", "g", "--name", "ordersync-x", "--", "cat"), "The prefix ordersync- is reserved"),
        (("-g", "g", "--from", "5", "--", "cat"), "--from"),
        (("-g", "g", "--batch", "0", "--", "cat"), "--batch"),
        (
            ("-g", "g", "--", "no-such-program"),
            "'no-such-program' cannot be started: the program was not found",
        ),
        (("-g", "g", "--", "./data"), "'./data' cannot be started: it is not executable"),
        (("-g", "g", "--", "./script"), "'./script' cannot be started: its first line names /no/such/thing"),
        (
            ("-g", "g", "--stay", "--", "./text"),
            "'./text' cannot be started: its first line names no interpreter",
        ),
    ],
)
async def test_wrong_use(shop: Shop, words: tuple[str, ...], told: str) -> None:
    """Exit 2 and a sentence, before anything is taken or a group is made."""
    await shop.stage.add("a")
    (shop.folder / "data").write_text("no program")
    for name, text in (("script", "#!/no/such/thing\n"), ("text", "cat\n")):
        (shop.folder / name).write_text(text)
        (shop.folder / name).chmod(0o755)
    done = ordersync("consume", *words, cwd=shop.folder, redis__url=shop.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert await shop.stage.redis.xinfo_groups(STREAM) == []


async def test_a_command_that_the_system_refuses(shop: Shop) -> None:
    """What can only be found by starting it ends with 2 as well, and the event was not tried."""
    await shop.stage.add("a")
    broken = shop.folder / "broken"
    broken.write_bytes(b"\x7fELF" + bytes(100))
    broken.chmod(0o755)
    done = shop.once("--", "./broken")
    assert done.returncode == 2
    assert "'./broken' cannot be started" in done.stderr
    assert list((await shop.stage.pending()).values()) == [("ordersync-returned", 0)]


async def test_a_name_that_is_taken(shop: Shop) -> None:
    """The older process of two with one name ends with 2 and says what to do, and takes nothing from the newer one."""
    await shop.stage.add("a")
    with shop.program("--", "sh", "-c", "cat >/dev/null; echo >> began; exit 1") as older:
        await began(shop)
        await shop.stage.die()
        assert await older.ended() == 2
        assert "Another process consumes for group g as 'c1'. Give each process its own --name" in older.err


async def test_redis_is_not_there(tmp_path: Path) -> None:
    """Exit 3, and what to do."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    done = ordersync("consume", "-g", "g", "--", "cat", cwd=tmp_path, redis__url=url)
    assert (done.returncode, done.stdout) == (3, "")
    assert "cannot be reached" in done.stderr
    done = ordersync("consume", "-g", "g", "--", "cat", cwd=tmp_path, data_dir=str(tmp_path))
    assert (done.returncode, done.stdout) == (3, "")
    assert "ordersync run" in done.stderr


async def test_a_group_that_is_dropped(shop: Shop) -> None:
    """Exit 1 and what happened."""
    await shop.stage.add("a")
    with shop.program("--", "sh", "-c", "cat >/dev/null; echo >> began") as program:
        await began(shop)
        await shop.stage.redis.xgroup_destroy(STREAM, "g")
        assert await program.ended() == 1
        assert "group g" in program.err
