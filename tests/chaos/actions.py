"""What may happen in a soak: to the records, to the gateway, to the network, to the workers, by hand."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

from tests.support.gateway import OTHER, Gateway, Serving
from tests.support.host_clock import HostClock
from tests.support.programs import Program
from tests.support.proxy import Proxy

KINDS = ("orders", "shipments", "notes")


@dataclass(slots=True)
class Scene:
    """All that an action may do something to.

    Attributes:
        gateway: The gateway.
        proxy: The network between the workers and Redis.
        chance: What decides.
        daemons: The workers; the first one is never killed, so that its memory tells something.
        restart: Kills the second worker and starts another one.
        clock: The clock of the host of the second worker; None where it cannot be changed.
        resync: Asks for a resync with these words.
        usual: The serving to which `calm` goes back.

    """

    gateway: Gateway
    proxy: Proxy
    chance: Random
    daemons: list[Program]
    restart: Callable[[], None]
    resync: Callable[..., None]
    clock: HostClock | None
    usual: Serving = field(default_factory=Serving)

    def some(self, kind: str, most: int) -> list[str]:
        """Up to so many records of a kind."""
        ids = self.gateway.history.ids(kind)
        return self.chance.sample(ids, min(len(ids), self.chance.randint(1, most)))

    def kind(self) -> str:
        """A kind; mostly orders."""
        return self.chance.choices(KINDS, (6, 2, 1))[0]

    def calm(self) -> None:
        """End all that is wrong, but not what has happened to records."""
        gateway = self.gateway
        gateway.faults.end()
        fresh, serving = Serving(), gateway.serving
        for name in (
            "told_total",
            "stale_since",
            "lag",
            "tenant",
            "hidden",
            "away",
            "nothing",
            "before_page",
        ):
            setattr(serving, name, getattr(fresh, name))
        self.proxy.latency, self.proxy.hole, self.proxy.refuse = 0.0, False, False
        self.proxy.calm()
        for each in self.daemons:
            if each.process.poll() is None:
                os.kill(each.process.pid, signal.SIGCONT)


Action: TypeAlias = Callable[[Scene], Any]

# Records


def change(scene: Scene) -> None:
    """Records change."""
    kind = scene.kind()
    scene.gateway.history.change(kind, scene.some(kind, 20))


def create(scene: Scene) -> None:
    """Records come."""
    scene.gateway.history.create(scene.kind(), scene.chance.randint(1, 8))


def delete(scene: Scene) -> None:
    """Records go; a few at a time, and only while there are enough."""
    kind = scene.kind()
    if len(scene.gateway.history.ids(kind)) > 60:
        scene.gateway.history.delete(kind, scene.some(kind, 2))


def change_silently(scene: Scene) -> None:
    """Records change, and their times do not."""
    scene.gateway.history.change("orders", scene.some("orders", 5), silently=True)


def time_goes_back(scene: Scene) -> None:
    """Records change, and show an older time than before."""
    back = scene.chance.choice((1.5, 50.0, 3600.0))
    scene.gateway.history.change("orders", scene.some("orders", 10), at=time.time() - back)


def restore(scene: Scene) -> None:
    """Records are what they were at first."""
    scene.gateway.history.restore("orders", scene.some("orders", 5))


def step_clock(scene: Scene) -> None:
    """The clock of the gateway is put on or back."""
    scene.gateway.history.step_clock(scene.chance.choice((-3600.0, -5.0, 5.0, 3600.0)))


def long_log(scene: Scene) -> None:
    """An audit log becomes longer than a page, and its record changes."""
    (one,) = scene.chance.sample(scene.gateway.history.ids("orders"), 1)
    scene.gateway.history.add_entries("orders", one, 60)
    scene.gateway.history.change("orders", [one])


# The gateway


def storm(scene: Scene) -> None:
    """Many answers are spoiled."""
    kinds: tuple[tuple[Any, int], ...] = (
        ("status", 503),
        ("status", 500),
        ("status", 401),
        ("truncate", 0),
        ("reset", 0),
        ("garbage", 0),
        ("hang", 0),
    )
    action, code = scene.chance.choice(kinds)
    share, last = scene.chance.choice((0.2, 0.7, 1.0)), scene.chance.uniform(0.5, 4)
    scene.gateway.faults.add(action, code=code, probability=share, last=last)


def no_content(scene: Scene) -> None:
    """Some pages are answered with 204."""
    scene.gateway.faults.add("status", code=204, body=b"", path="/orders$", probability=0.3, last=2.0)


def empty_lists(scene: Scene) -> None:
    """All lists are empty."""
    scene.gateway.serving.nothing = True


def other_tenant(scene: Scene) -> None:
    """The records of another tenant are served."""
    scene.gateway.serving.tenant = OTHER


def part_away(scene: Scene) -> None:
    """A part of the records is away, also by their ids."""
    share = scene.chance.choice((3, 50))
    scene.gateway.serving.away = lambda record: record["revision"] % share == 0


def part_hidden(scene: Scene) -> None:
    """A part of the records is in no list."""
    scene.gateway.serving.hidden = lambda record: record["revision"] % 50 == 0


def total_lies(scene: Scene) -> None:
    """The total is another number."""
    more = scene.chance.choice((4000, -30, 1))
    scene.gateway.serving.told_total = lambda real: real + more


def late_lists(scene: Scene) -> None:
    """Lists show what was so two seconds ago."""
    scene.gateway.serving.lag = 2.0


def stale_filters(scene: Scene) -> None:
    """Filters and sorts show what was so just now, and nothing newer."""
    scene.gateway.serving.stale_since = time.time()


def page_fails(scene: Scene) -> None:
    """Pages with a certain record fail."""
    (one,) = scene.chance.sample(scene.gateway.history.ids("orders"), 1)
    scene.gateway.faults.add("status", code=500, holds=one)


def move(scene: Scene) -> None:
    """Records come with each page, and a few go; more deletions at once would be held back, which is no loss."""
    left = dict.fromkeys(KINDS, 2)

    def happen(kind: str, _page: int) -> None:
        history = scene.gateway.history
        history.create(kind)
        if left.get(kind) and len(history.ids(kind)) > 60:
            left[kind] -= 1
            history.delete(kind, history.ids(kind)[:1])

    scene.gateway.serving.before_page = happen


def switch(scene: Scene) -> None:
    """A deployment changes the contract, for good."""
    name, values = scene.chance.choice(
        (
            ("wrapper", (None, "data")),
            ("largest_page", (100, 40)),
            ("past_end", ("empty", "no content", "first")),
            ("order", ("created", "-modified")),
            ("filters", (True, False)),
            ("sorts", (True, False)),
            ("total", ("totalCount", None)),
            ("audit_page", (None, 50)),
        )
    )
    setattr(scene.gateway.serving, name, scene.chance.choice(values))


def revoke(scene: Scene) -> None:
    """All tokens are withdrawn."""
    scene.gateway.revoke()


# The network and the workers


def slow_network(scene: Scene) -> None:
    """Redis answers late."""
    scene.proxy.latency = 0.05


def black_hole(scene: Scene) -> None:
    """Nothing of Redis comes through."""
    scene.proxy.hole = True


def cut(scene: Scene) -> None:
    """All connections to Redis are reset."""
    scene.proxy.reset_all()


def reset_at_a_byte(scene: Scene) -> None:
    """A connection to Redis is reset in the middle of an answer."""
    scene.proxy.reset_after(scene.chance.randrange(1, 5000))


def answer_lost(scene: Scene) -> None:
    """A script was executed, and nobody hears of it."""
    scene.proxy.drop_answer(b"EVALSHA", skip=scene.chance.randrange(10))


def kill(scene: Scene) -> None:
    """The second worker is killed, and another one starts."""
    scene.restart()


def freeze(scene: Scene) -> None:
    """A worker is frozen."""
    os.kill(scene.chance.choice(scene.daemons).process.pid, signal.SIGSTOP)


def host_clock(scene: Scene) -> None:
    """The clock of the second worker's host jumps."""
    if scene.clock is not None:
        scene.clock.set(scene.chance.choice((-3600.0, -60.0, 0.0, 60.0, 3600.0)))


def resync(scene: Scene) -> None:
    """Somebody asks for a resync."""
    if scene.chance.random() < 0.5:
        scene.resync("orders", "--all", *scene.chance.choice(((), ("--force",))))
    else:
        scene.resync("orders", "--id", *scene.some("orders", 1))


ACTIONS: dict[Action, int] = {
    change: 30,
    create: 12,
    delete: 6,
    change_silently: 3,
    time_goes_back: 4,
    restore: 3,
    step_clock: 2,
    long_log: 2,
    storm: 8,
    no_content: 2,
    empty_lists: 2,
    other_tenant: 2,
    part_away: 3,
    part_hidden: 2,
    total_lies: 3,
    late_lists: 2,
    stale_filters: 2,
    page_fails: 2,
    move: 3,
    switch: 4,
    revoke: 2,
    slow_network: 2,
    black_hole: 2,
    cut: 3,
    reset_at_a_byte: 3,
    answer_lost: 4,
    kill: 4,
    freeze: 2,
    host_clock: 2,
    resync: 2,
}
"""Every action, and how often it happens in comparison with the others."""
