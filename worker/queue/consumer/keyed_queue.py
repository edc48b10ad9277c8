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
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from worker.queue.consumer.delivery import Delivery

Key: TypeAlias = tuple[str, str]


class _Blocked(NamedTuple):
    """A delivery that waits for another one of its key, or for the monotonic time `due`."""

    delivery: Delivery
    due: float


class _KeyState:
    """What the queue knows of a key while deliveries of it are out or blocked.

    Attributes:
        out: How many are handed out.
        blocked: Those that wait, in the order of the stream.
        serial: True after one of them was requeued: only one at a time is handed out until all are answered.

    """

    __slots__ = ("blocked", "out", "serial")

    def __init__(self) -> None:
        self.out = 0
        self.blocked: deque[_Blocked] = deque()
        self.serial = False


class KeyedQueue:
    """Deliveries that wait to be handed out.

    Times are of a monotonic clock, in seconds.

    Attributes:
        exclusive: True if at most one delivery of a key may be out. May be set at any time.
        blocked: How many wait for another one of their key.
        out: How many are handed out and not answered.

    """

    def __init__(self, *, exclusive: bool = False) -> None:
        self.exclusive, self.blocked, self.out = exclusive, 0, 0
        self._queue: deque[Delivery] = deque()
        self._unblocked: deque[Delivery] = deque()
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
                if _key(other) == _key(delivery) and other.position > delivery.position:
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
            key = (delivery.resource, delivery.event.subject)
            state = self._keys.get(key)
            if state is None:
                state = self._keys[key] = _KeyState()
            elif state.blocked or (state.out and (self.exclusive or state.serial)):
                self._block(state, delivery)
                continue
            state.out += 1
            self.out += 1
            return delivery
        return None

    def done(self, delivery: Delivery, now: float) -> None:
        """Remove a delivery that was handed out and is answered for good."""
        key = (delivery.resource, delivery.event.subject)
        state = self._keys[key]
        state.out -= 1
        self.out -= 1
        if state.blocked:
            self._release(key, state, now)
        elif not state.out:
            del self._keys[key]

    def requeue(self, delivery: Delivery, now: float, due: float = 0.0) -> None:
        """Hand out a delivery again that was handed out before, not before the time `due`."""
        key = _key(delivery)
        state = self._keys[key]
        state.out -= 1
        self.out -= 1
        state.serial = True
        self._block(state, delivery, due)
        self._release(key, state, now)

    def next_due(self) -> float | None:
        """Return the time at which to call `wake`; None if no delivery waits for a time."""
        return self._due[0][0] if self._due else None

    def wake(self, now: float) -> None:
        """Let the deliveries be handed out that are due by now."""
        while self._due and self._due[0][0] <= now:
            _, _, key = heapq.heappop(self._due)
            state = self._keys.get(key)
            if state is not None:
                self._release(key, state, now)

    def discard(self, delivery: Delivery, now: float) -> None:
        """Remove a delivery that is not handed out, if it is in the queue."""
        key = _key(delivery)
        if delivery in self._queue:
            self._queue.remove(delivery)
        elif delivery in self._unblocked:
            self._unblocked.remove(delivery)
            self.out += 1
            self.done(delivery, now)
        elif (state := self._keys.get(key)) is not None:
            kept = [item for item in state.blocked if item.delivery is not delivery]
            if len(kept) < len(state.blocked):
                state.blocked = deque(kept)
                self.blocked -= 1
                if state.blocked:
                    self._release(key, state, now)
                elif not state.out:
                    del self._keys[key]

    def drain(self) -> list[Delivery]:
        """Remove and return every delivery that is not handed out. Those that are can still be answered."""
        drained = [*self._unblocked, *self._queue]
        for key, state in list(self._keys.items()):
            drained += (item.delivery for item in state.blocked)
            state.blocked.clear()
            state.out -= sum(1 for item in self._unblocked if _key(item) == key)
            if not state.out:
                del self._keys[key]
        self._unblocked.clear()
        self._queue.clear()
        self._due.clear()
        self.blocked = 0
        return drained

    def _block(self, state: _KeyState, delivery: Delivery, due: float = 0.0) -> None:
        item = _Blocked(delivery, due)
        if not state.blocked or _position(state.blocked[-1]) < delivery.position:
            state.blocked.append(item)
        else:
            insort(state.blocked, item, key=_position)
        self.blocked += 1

    def _release(self, key: Key, state: _KeyState, now: float) -> None:
        """Unblock the oldest delivery of a key if none of them is out and it is due."""
        if state.out or not state.blocked:
            return
        delivery, due = state.blocked[0]
        if due > now:
            self._number += 1
            heapq.heappush(self._due, (due, self._number, key))
            return
        state.blocked.popleft()
        self.blocked -= 1
        state.out += 1
        self._unblocked.append(delivery)


def _key(delivery: Delivery) -> Key:
    return delivery.resource, delivery.event.subject


def _position(item: _Blocked) -> tuple[int, int]:
    return item.delivery.position
