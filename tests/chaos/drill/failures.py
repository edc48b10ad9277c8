"""The twelve failures of the drill: what happens, and the words by which each surface names the cause."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import redis

from tests.chaos.drill.scene import Scene
from tests.support.gateway import Serving
from tests.support.gateway.server import LOGIN
from tests.support.small_disk import fill

AIM = 60.0
"""Seconds within which each surface has to name the cause."""
LATE_AFTER = 20.0
"""Seconds after which a group counts as late in the drill; ten minutes by default."""
FULL_SCANS = 20.0
"""Seconds between two full scans in the drill; an hour by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failure.

    Attributes:
        name: What it is called.
        happen: Lets it happen.
        words: A pattern of the words that name the cause; `others` has those of surfaces that use others.
        alert: A pattern of the name of the alert and the names of its cause.
        before: Lets something happen before the worker is well.
        settings: Settings of the daemon.
        serving: How the gateway serves its lists.
        own_disk: The daemon runs its own Valkey, on a small disk.
        on_a_clock: The clock of the host of the daemon can be moved.
        late: Seconds that may pass beyond the aim, since the failure is none before.
        silent: Surfaces that cannot name the cause, with the reason.

    """

    name: str
    happen: Callable[[Scene], object]
    words: str
    alert: str
    others: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    before: Callable[[Scene], object] | None = None
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    serving: Callable[[], Serving] = Serving
    own_disk: bool = False
    on_a_clock: bool = False
    late: float = 0.0
    silent: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def pattern(self, surface: str) -> str:
        """Return the words by which a surface names the cause."""
        return self.others.get(surface, self.alert if surface == "alert" else self.words)


def _refuse_logins(scene: Scene) -> None:
    """The secret of the login is another one from now on, and no token is valid."""
    scene.gateway.faults.add("status", code=401, path=LOGIN, body=b'{"message":"invalid client"}')
    scene.gateway.revoke()


def _fill_redis(scene: Scene) -> None:
    """Redis has reached its maxmemory."""
    assert scene.server is not None
    with redis.Redis(port=scene.server.port) as client:
        client.config_set("maxmemory", 1)


def _stop_redis(scene: Scene) -> None:
    assert scene.server is not None
    scene.server.stop()


def _read_once(scene: Scene) -> None:
    """A consumer reads and acknowledges all that there is, and goes."""
    assert scene.server is not None
    with redis.Redis(port=scene.server.port) as client:
        key = "ordersync:{default}:stream:orders"
        client.xgroup_create(key, "warehouse", id="0", mkstream=True)
        entries = client.xreadgroup("warehouse", "one", {key: ">"})
        for _, read in entries:
            client.xack(key, "warehouse", *(entry for entry, _ in read))


def _leave(scene: Scene) -> None:
    """Nobody reads any more; it is noticed once an event waits."""
    scene.live()


def _poison(scene: Scene) -> None:
    """An order is served that has no id."""
    scene.gateway.history.create("orders", 1, id=None)


def _freeze(scene: Scene) -> None:
    os.kill(scene.daemon.process.pid, signal.SIGSTOP)


def _lie(scene: Scene) -> None:
    """The filter and the sort show nothing newer than what there is now."""
    scene.gateway.serving.stale_since = time.time()


def _move_clock(scene: Scene) -> None:
    assert scene.clock is not None
    scene.clock.set(3600.0)


_FAILED = r"OrdersyncNeedsAction \S*#{0}$|OrdersyncFailing \S*#{0}$"

FAILURES = (
    Failure(
        name="gateway dead",
        happen=lambda scene: scene.end_gateway(),
        words=r"cannot be reached|ConnectError|refused the connection",
        alert=_FAILED.format("gateway_unreachable"),
    ),
    Failure(
        name="429 for minutes",
        happen=lambda scene: scene.gateway.faults.add("status", code=429, headers=("Retry-After: 120",)),
        words=r"status 429|\b429\b",
        alert=_FAILED.format("rate_limited"),
    ),
    Failure(
        name="403 on one resource",
        happen=lambda scene: scene.gateway.faults.add("status", code=403, path="^/shipment/"),
        words=r"shipments.*\b403\b",
        alert=_FAILED.format("forbidden"),
    ),
    Failure(
        name="wrong secret",
        happen=_refuse_logins,
        words=r"refused the login",
        alert=_FAILED.format("login_rejected"),
    ),
    Failure(
        name="Redis stopped",
        happen=_stop_redis,
        words=r"[Rr]edis\b.*(does not answer|cannot be (reached|used|read))",
        alert=r"OrdersyncRedisDown|#redis_unavailable$",
        others={"log": r'"redis_unavailable"|"queue_lost".*refused'},
    ),
    Failure(
        name="Redis full",
        happen=_fill_redis,
        words=r"Redis is full",
        alert=_FAILED.format("redis_full"),
    ),
    Failure(
        name="disk full",
        happen=lambda scene: fill(scene.data),
        words=r"cannot write to its disk|No space left|disk is full",
        alert=r"#redis_unavailable$|OrdersyncRedisDown",
        own_disk=True,
    ),
    Failure(
        name="consumer gone",
        before=_read_once,
        happen=_leave,
        words=r"group .*warehouse.* (has not read|does not read|is late)",
        alert=r"OrdersyncGroupLate",
        others={"log": r'"group_late".*warehouse|warehouse.*"group_late"'},
        settings={"groups__late_after": str(LATE_AFTER)},
        late=LATE_AFTER,
    ),
    Failure(
        name="poisoned record",
        happen=_poison,
        words=r"record cannot be read",
        alert=r"OrdersyncDeadLetters|#unreadable_records$",
        others={"log": r'"record_unreadable"'},
    ),
    Failure(
        name="filter that lies",
        happen=_lie,
        words=r"no longer honours its (filter|sort)",
        alert=r"OrdersyncCapabilityWithdrawn",
        others={"log": r'"capability_withdrawn"'},
        serving=lambda: Serving(filters=True, sorts=True),
        settings={"poll__complete_every": str(FULL_SCANS), "api__page_size": "20"},
        late=FULL_SCANS,
    ),
    Failure(
        name="worker frozen",
        happen=_freeze,
        words=r"[Nn]o worker is alive|hangs or was killed",
        alert=r"OrdersyncNoWorker",
        others={"page": r"no answer"},
        silent={"log": "a frozen process writes nothing"},
    ),
    Failure(
        name="clock off by an hour",
        happen=_move_clock,
        words=r"clock (of|is) .*(ahead of|behind)",
        alert=r"OrdersyncClockOff",
        on_a_clock=True,
    ),
)
