"""The order in which events are handed out, for any order of taking, answering and waiting."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ordersync_consumer.consumer.delivery import Delivery, DeliveryState, Reject, explain
from ordersync_consumer.consumer.keyed_queue import KeyedQueue
from ordersync_consumer.envelope import parse
from tests.support.streams import fields_of


def delivery(number: int, subject: str) -> Delivery:
    """The event of entry `number`."""
    flat = fields_of(number) | {"subject": subject}
    fields = {
        name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in flat.items()
    }
    event = parse(f"{number}-0".encode(), fields)
    return Delivery(cast("Any", None), "orders", event, event.entry_id, ("orders", subject))


def numbers(some: list[Delivery]) -> list[int]:
    """Their places."""
    return [each.position[0] for each in some]


def take_all(queue: KeyedQueue) -> list[Delivery]:
    """All that may be handed out now."""
    found = []
    while (one := queue.pop()) is not None:
        found.append(one)
    return found


def test_without_exclusive_the_order_is_that_of_taking() -> None:
    """Several events of an entity may be out at once; all come in the order in which they were taken."""
    queue = KeyedQueue(float)
    for number, subject in enumerate("aabab"):
        queue.add(delivery(number, subject))
    assert numbers(take_all(queue)) == [0, 1, 2, 3, 4]
    assert (queue.out, queue.waiting) == (5, 0)


def test_exclusive_hands_out_one_of_each_entity() -> None:
    """The next one of an entity follows when the one before is answered, and before later ones of others."""
    queue = KeyedQueue(float, exclusive=True)
    some = [delivery(number, subject) for number, subject in enumerate("aababc")]
    for one in some:
        queue.add(one)
    assert numbers(take_all(queue)) == [0, 2, 5]
    queue.done(some[0])
    queue.done(some[2])
    assert numbers(take_all(queue)) == [1, 4]
    queue.done(some[1])
    assert numbers(take_all(queue)) == [3]
    assert (queue.out, queue.blocked) == (3, 0)


@pytest.mark.parametrize("exclusive", [True, False])
def test_what_failed_holds_up_its_entity(*, exclusive: bool) -> None:
    """Until it is due, and until it is answered for good, nothing else of its entity is handed out."""
    now = 0.0
    queue = KeyedQueue(lambda: now, exclusive=exclusive)
    some = [delivery(number, "a") for number in range(3)]
    queue.add(some[0])
    assert queue.pop() is some[0]
    queue.add(some[1])
    queue.requeue(some[0], due=10.0)
    queue.add(some[2])
    assert queue.pop() is None
    assert queue.next_due() == 10.0
    now = 9.0
    queue.wake()
    assert queue.pop() is None
    now = 10.0
    queue.wake()
    assert queue.pop() is some[0]
    assert queue.pop() is None
    queue.done(some[0])
    assert queue.pop() is some[1]
    assert queue.pop() is None
    queue.done(some[1])
    assert queue.pop() is some[2]


def test_an_older_one_that_comes_late() -> None:
    """An event that another consumer left goes before the later ones of its entity."""
    queue = KeyedQueue(float)
    for number in (5, 6):
        queue.add(delivery(number, "a"))
    queue.add(delivery(7, "b"))
    queue.add(delivery(3, "a"), late=True)
    queue.add(delivery(9, "a"), late=True)
    assert numbers(take_all(queue)) == [3, 5, 6, 7, 9]


class AnyOrder(RuleBasedStateMachine):
    """Takes, answers and waits in any order, and holds what comes out against the rules."""

    exclusive = True

    def __init__(self) -> None:
        super().__init__()
        self.now, self.number = 0.0, 0
        self.queue = KeyedQueue(lambda: self.now, exclusive=self.exclusive)
        self.out: list[Delivery] = []
        self.failing: list[Delivery] = []
        self.alive: dict[int, Delivery] = {}
        self.due: dict[Delivery, float] = {}

    @rule(subject=st.sampled_from("abc"))
    def add(self, subject: str) -> None:
        """A new event is taken."""
        self.number += 1
        self.alive[self.number] = delivery(self.number, subject)
        self.queue.add(self.alive[self.number])

    @rule()
    def take(self) -> None:
        """One is handed out, if one may be."""
        one = self.queue.pop()
        if one is None:
            return
        subject = one.event.subject
        older = [
            each
            for each in self.alive.values()
            if each.event.subject == subject and each.position < one.position and each not in self.out
        ]
        assert older == []
        assert self.due.get(one, 0.0) <= self.now
        mine = [each for each in self.out if each.event.subject == subject]
        assert one not in mine
        failing = [each for each in self.failing if each.event.subject == subject]
        if self.exclusive or failing:
            assert mine == []
        if failing:
            assert one is min(failing, key=lambda each: each.position)
        self.out.append(one)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        """One is answered for good."""
        one = data.draw(st.sampled_from(self.out))
        self.out.remove(one)
        self._forget(one)
        self.queue.done(one)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), pause=st.sampled_from([0.0, 1.0, 3.0]))
    def again(self, data: st.DataObject, pause: float) -> None:
        """One fails, or is put back."""
        one = data.draw(st.sampled_from(self.out))
        self.out.remove(one)
        self.due[one] = self.now + pause
        if one not in self.failing:
            self.failing.append(one)
        self.queue.requeue(one, self.due[one])

    @rule(seconds=st.sampled_from([0.5, 2.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.queue.wake()

    @precondition(lambda self: len(self.alive) > len(self.out))
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        """One that waits goes to somebody else."""
        one = data.draw(st.sampled_from([each for each in self.alive.values() if each not in self.out]))
        self._forget(one)
        self.queue.discard(one)

    def _forget(self, one: Delivery) -> None:
        del self.alive[one.position[0]]
        if one in self.failing:
            self.failing.remove(one)

    @invariant()
    def counts_are_right(self) -> None:
        """What is out and what waits is all there is."""
        assert self.queue.out == len(self.out)
        assert self.queue.waiting == len(self.alive) - len(self.out)

    def teardown(self) -> None:
        """In the end everything comes out, in order, and nothing is left behind."""
        done: dict[str, list[int]] = {}
        for _ in range(len(self.alive) * 3 + 10):
            for one in [*self.out]:
                self.out.remove(one)
                self.queue.done(one)
            self.now += 10
            self.queue.wake()
            while (one := self.queue.pop()) is not None:  # type: ignore[assignment]
                self.out.append(one)
                done.setdefault(one.event.subject, []).append(one.position[0])
        assert self.queue.waiting == self.queue.out == 0
        assert not self.queue._keys
        assert not self.queue._out
        for places in done.values():
            assert places == sorted(places)


class AnyOrderLoosely(AnyOrder):
    """The same for whoever may have several of one entity out."""

    exclusive = False


TestExclusive = AnyOrder.TestCase
TestNotExclusive = AnyOrderLoosely.TestCase
TestExclusive.settings = TestNotExclusive.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None
)


def test_drain_forgets_what_waits() -> None:
    """What was not handed out comes back, and what is out can still be answered."""
    queue = KeyedQueue(float, exclusive=True)
    some = [delivery(number, subject) for number, subject in enumerate("aabbc")]
    for one in some:
        queue.add(one)
    assert queue.pop() is some[0]
    assert queue.pop() is some[2]
    queue.done(some[0])
    assert sorted(numbers(queue.drain())) == [1, 3, 4]
    assert (queue.waiting, queue.out) == (0, 1)
    queue.done(some[2])
    assert queue.pop() is None


def test_reasons() -> None:
    """A reason is one line that names the error; a rejection speaks for itself."""
    assert explain("in words") == ("in words", "")
    assert explain(ValueError("x"))[0] == "ValueError: x"
    assert explain(ValueError())[0] == "ValueError"
    assert explain(Reject("no such shop"))[0] == "no such shop"
    assert explain(Reject())[0] == "rejected"


def test_begun() -> None:
    """An attempt counts from the moment at which it is handed out."""
    one = delivery(1, "a")
    one.attempt = 3
    assert one.attempts_begun == 2
    one.state = DeliveryState.BEGINNING
    assert one.attempts_begun == 2
    one.state = DeliveryState.OPEN
    assert one.attempts_begun == 3
