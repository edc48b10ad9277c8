"""The order in which events are handed out. No I/O.

An entity, a subject of a resource, is a lane. Events of different lanes come in the order in which they were
taken. Within a lane they come in the order of the stream:

- One that is tried again holds up the later ones of its lane until it is answered for good.
- With `strict`, an event is handed out only when the one before it is answered, so that whoever works on
  several events at once never has two of one entity. Without it, order is the order of handing out.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from worker.queue.consumer.delivery import Delivery

Name: TypeAlias = tuple[str, str]


class _Key:
    """An entity with events that are handed out, or that wait for one that is.

    `parked` is in order. Once something in it has failed or was put back it is `held_up`: one at a time is out,
    until all that has come meanwhile is answered.
    """

    __slots__ = ("held_up", "out", "parked")

    def __init__(self) -> None:
        self.out = 0
        self.parked: deque[Delivery] = deque()
        self.held_up = False


class KeyedQueue:
    """Deliveries that wait to be handed out. `parked`: how many of them wait for another one of their entity."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict, self.parked, self.out = strict, 0, 0
        self._queue: deque[Delivery] = deque()
        self._cleared: deque[Delivery] = deque()
        self._lanes: dict[Name, _Key] = {}
        self._due: list[tuple[float, int, Name]] = []
        self._number = 0

    @property
    def waiting(self) -> int:
        """How many have not been handed out."""
        return len(self._queue) + len(self._cleared) + self.parked

    def add(self, delivery: Delivery, *, late: bool = False) -> None:
        """One that was taken. `late`: it may be older than others that wait already."""
        if late:
            for at, other in enumerate(self._queue):
                if _name(other) == _name(delivery) and other.place > delivery.place:
                    self._queue.insert(at, delivery)
                    return
        self._queue.append(delivery)

    def pop(self) -> Delivery | None:
        """The next one to be worked on, if there is any."""
        if self._cleared:
            self.out += 1
            return self._cleared.popleft()
        while self._queue:
            delivery = self._queue.popleft()
            name = (delivery.resource, delivery.event.subject)
            lane = self._lanes.get(name)
            if lane is None:
                lane = self._lanes[name] = _Key()
            elif lane.parked or (lane.out and (self.strict or lane.held_up)):
                self._park(lane, delivery)
                continue
            lane.out += 1
            self.out += 1
            return delivery
        return None

    def done(self, delivery: Delivery, now: float) -> None:
        """One that was handed out is answered for good."""
        name = _name(delivery)
        lane = self._lanes[name]
        lane.out -= 1
        self.out -= 1
        if lane.parked:
            self._release(name, lane, now)
        elif not lane.out:
            del self._lanes[name]

    def requeue(self, delivery: Delivery, now: float) -> None:
        """One that was handed out is to be handed out again, from `delivery.due` on."""
        name = _name(delivery)
        lane = self._lanes[name]
        lane.out -= 1
        self.out -= 1
        lane.held_up = True
        self._park(lane, delivery)
        self._release(name, lane, now)

    def next_due(self) -> float | None:
        """When `wake` may have something to do."""
        return self._due[0][0] if self._due else None

    def wake(self, now: float) -> None:
        """Some time has passed: what is due may be handed out."""
        while self._due and self._due[0][0] <= now:
            _, _, name = heapq.heappop(self._due)
            lane = self._lanes.get(name)
            if lane is not None:
                self._release(name, lane, now)

    def discard(self, delivery: Delivery, now: float) -> None:
        """Forget one that was not handed out, if it waits here."""
        name = _name(delivery)
        if delivery in self._queue:
            self._queue.remove(delivery)
        elif delivery in self._cleared:
            self._cleared.remove(delivery)
            self.out += 1
            self.done(delivery, now)
        elif (lane := self._lanes.get(name)) is not None and delivery in lane.parked:
            lane.parked.remove(delivery)
            self.parked -= 1
            if lane.parked:
                self._release(name, lane, now)
            elif not lane.out:
                del self._lanes[name]

    def drain(self) -> list[Delivery]:
        """All that have not been handed out; they are forgotten."""
        result = [*self._cleared, *self._queue]
        for name, lane in list(self._lanes.items()):
            result += lane.parked
            lane.parked.clear()
            lane.out -= sum(1 for item in self._cleared if _name(item) == name)
            if not lane.out:
                del self._lanes[name]
        self._cleared.clear()
        self._queue.clear()
        self._due.clear()
        self.parked = 0
        return result

    def _park(self, lane: _Key, delivery: Delivery) -> None:
        if not lane.parked or lane.parked[-1].place < delivery.place:
            lane.parked.append(delivery)
        else:
            insort(lane.parked, delivery, key=_place)
        self.parked += 1

    def _release(self, name: Name, lane: _Key, now: float) -> None:
        """Hand out the head of a lane if nothing stands in its way."""
        if lane.out or not lane.parked:
            return
        head = lane.parked[0]
        if head.due > now:
            self._number += 1
            heapq.heappush(self._due, (head.due, self._number, name))
            return
        lane.parked.popleft()
        self.parked -= 1
        lane.out += 1
        self._cleared.append(head)


def _name(delivery: Delivery) -> Name:
    return delivery.resource, delivery.event.subject


def _place(delivery: Delivery) -> tuple[int, int]:
    return delivery.place
