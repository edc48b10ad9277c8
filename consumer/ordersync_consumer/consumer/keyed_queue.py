"""The order in which deliveries are handed out: parallel across entities, in order within an entity. No I/O.

The key of a delivery is its entity, that is, its resource and subject. Deliveries of different keys come out in the
order in which they were added, those of one key in the order of the stream:

- A delivery that is tried again blocks the later ones of its key until it is answered for good.
- In exclusive mode, a delivery comes out only after the one before it was answered, so that several workers never
  have two deliveries of one key at the same time. Otherwise only the order in which they come out is kept.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from ordersync_consumer.consumer.delivery import Delivery, Key


class _Blocked(NamedTuple):
    """A delivery that waits for another one of its key, or for the monotonic time `due`."""

    delivery: Delivery
    due: float


class _KeyState:
    """What the queue knows of a key of which a delivery is blocked or was requeued, until all are answered.

    Attributes:
        blocked: Those that wait, in the order of the stream.
        serial: True after one of them was requeued: only one at a time is handed out until all are answered.

    """

    __slots__ = ("blocked", "serial")

    def __init__(self) -> None:
        self.blocked: deque[_Blocked] = deque()
        self.serial = False


class KeyedQueue:
    """Deliveries that wait to be handed out.

    Args:
        now: Returns the time of a monotonic clock, in seconds.
        exclusive: True if at most one delivery of a key may be out.

    Attributes:
        exclusive: True if at most one delivery of a key may be out. May be set at any time.
        blocked: How many wait for another one of their key.
        out: How many are handed out and not answered.

    """

    def __init__(self, now: Callable[[], float], *, exclusive: bool = False) -> None:
        self._now = now
        self.exclusive, self.blocked, self.out = exclusive, 0, 0
        self._queue: deque[Delivery] = deque()
        self._unblocked: deque[Delivery] = deque()
        # Most keys have one delivery, which is answered before the next one comes: a number has to do for them.
        self._out: dict[Key, int] = {}
        self._keys: dict[Key, _KeyState] = {}
        self._due: list[tuple[float, int, Key]] = []
        self._number = 0

    @property
    def waiting(self) -> int:
        """How many are not handed out."""
        return len(self._queue) + len(self._unblocked) + self.blocked

    def add(self, delivery: Delivery, *, late: bool = False) -> None:
        """Add a delivery. `late`: it may be older than deliveries that were added before it."""
        if late:
            for index, other in enumerate(self._queue):
                if other.key == delivery.key and other.position > delivery.position:
                    self._queue.insert(index, delivery)
                    return
        self._queue.append(delivery)

    def pop(self) -> Delivery | None:
        """Hand out the next delivery; None if none may be handed out now."""
        if self._unblocked:
            self.out += 1
            return self._unblocked.popleft()
        while self._queue:
            delivery = self._queue.popleft()
            key = delivery.key
            out, state = self._out.get(key, 0), self._keys.get(key)
            if (out and self.exclusive) or (state is not None and (state.blocked or (out and state.serial))):
                self._block(key, delivery)
                continue
            self._out[key] = out + 1
            self.out += 1
            return delivery
        return None

    def done(self, delivery: Delivery) -> bool:
        """Remove a delivery that was handed out and is answered for good. True if others of its key wait."""
        key = delivery.key
        self.out -= 1
        self._less_out(key)
        if key not in self._keys:
            return False
        self._release(key)
        return True

    def requeue(self, delivery: Delivery, due: float = 0.0) -> None:
        """Hand out a delivery again that was handed out before, not before the time `due`."""
        self.out -= 1
        self._less_out(delivery.key)
        self._block(delivery.key, delivery, due).serial = True
        self._release(delivery.key)

    def next_due(self) -> float | None:
        """Return the time at which to call `wake`; None if no delivery waits for a time."""
        return self._due[0][0] if self._due else None

    def wake(self) -> None:
        """Let the deliveries be handed out that are due by now."""
        now = self._now()
        while self._due and self._due[0][0] <= now:
            _, _, key = heapq.heappop(self._due)
            self._release(key)

    def discard(self, delivery: Delivery) -> None:
        """Remove a delivery that is not handed out, if it is in the queue."""
        if delivery in self._queue:
            self._queue.remove(delivery)
        elif delivery in self._unblocked:
            self._unblocked.remove(delivery)
            self.out += 1
            self.done(delivery)
        elif (state := self._keys.get(delivery.key)) is not None:
            kept = deque(item for item in state.blocked if item.delivery is not delivery)
            self.blocked -= len(state.blocked) - len(kept)
            state.blocked = kept
            self._release(delivery.key)

    def drain(self) -> list[Delivery]:
        """Remove and return every delivery that is not handed out. Those that are can still be answered."""
        drained = [*self._unblocked, *self._queue]
        for delivery in self._unblocked:
            self._less_out(delivery.key)
        for key, state in list(self._keys.items()):
            drained += (item.delivery for item in state.blocked)
            state.blocked.clear()
            self._release(key)
        self._unblocked.clear()
        self._queue.clear()
        self._due.clear()
        self.blocked = 0
        return drained

    def _less_out(self, key: Key) -> None:
        if out := self._out[key] - 1:
            self._out[key] = out
        else:
            del self._out[key]

    def _block(self, key: Key, delivery: Delivery, due: float = 0.0) -> _KeyState:
        state = self._keys.setdefault(key, _KeyState())
        item = _Blocked(delivery, due)
        if not state.blocked or _position(state.blocked[-1]) < delivery.position:
            state.blocked.append(item)
        else:
            insort(state.blocked, item, key=_position)
        self.blocked += 1
        return state

    def _release(self, key: Key) -> None:
        """If no delivery of a key is out, unblock the oldest one once it is due, or forget a key that has none."""
        state = self._keys.get(key)
        if state is None or key in self._out:
            return
        if not state.blocked:
            del self._keys[key]
            return
        delivery, due = state.blocked[0]
        if due > self._now():
            self._number += 1
            heapq.heappush(self._due, (due, self._number, key))
            return
        state.blocked.popleft()
        self.blocked -= 1
        self._out[key] = 1
        self._unblocked.append(delivery)


def _position(item: _Blocked) -> tuple[int, int]:
    return item.delivery.position
