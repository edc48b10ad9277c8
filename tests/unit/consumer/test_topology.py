"""What a client makes of the nodes of a cluster, without one: keys, masters, failovers and moves."""

from __future__ import annotations

from typing import Any

import pytest

from ordersync_consumer.servers.cluster import key_of, slot_of
from ordersync_consumer.servers.topology import Topology

HERE = ("h0", 1)


def reply(*owners: tuple[bytes, int, bytes]) -> list[Any]:
    """What CLUSTER SLOTS answers if each owner has an equal part."""
    part = 16384 // len(owners)
    return [[at * part, (at + 1) * part - 1, [*owner, []]] for at, owner in enumerate(owners)]


def topology(*replies: list[Any]) -> Topology:
    """One that has taken these answers."""
    made = Topology([HERE], {})
    for each in replies:
        made._take(each, HERE)
    return made


A, B, C = (b"h1", 1, b"a"), (b"h2", 2, b"b"), (b"h3", 3, b"c")


@pytest.mark.parametrize(
    ("replies", "failovers"),
    [
        ([reply(A, B)], (0, 0)),
        ([reply(A, B), reply(A, B)], (0, 0)),
        ([reply(A, B), reply(B, A)], (0, 0)),  # moved
        ([reply(A, B), reply(C, B)], (1, 0)),  # a is gone
        ([reply(A, B), reply(C, B), reply(A, B)], (2, 0)),
        ([reply(A, B), [], reply(C, B)], (1, 0)),  # for a while nobody had the slots
    ],
)
def test_which_master_was_replaced(replies: list[list[Any]], failovers: tuple[int, int]) -> None:
    """A slot that moves to another master has lost nothing."""
    made = topology(*replies)
    assert (made.failovers_of(0), made.failovers_of(9000)) == failovers


def test_nodes_without_an_address_of_their_own() -> None:
    """It is the one that was asked."""
    made = topology([[0, 16383, [None, 7, b"a", []]]])
    assert made._nodes[5] == ("h0", 7)
    assert topology([[0, 16383, [b"?", 7, b"a", []]]])._nodes[5] == ("h0", 7)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "a"), "a"),
        (("XINFO GROUPS", "a"), "a"),
        (("XINFO", "GROUPS", "a"), "a"),
        (("XGROUP CREATE", "a", "g", "0"), "a"),
        ((b"XREADGROUP", "GROUP", "g", "c", "COUNT", 1, "STREAMS", "a", ">"), "a"),
        (("EVALSHA", "0" * 40, 1, "a", "b"), "a"),
        (("FCALL", "f", 0, "b"), None),
        (("TIME",), None),
        (("SCRIPT EXISTS", "0"), None),
        (("WAIT", 1, 100), None),
    ],
)
def test_the_key_of_a_command(command: tuple[Any, ...], key: str | None) -> None:
    """The first one; commands without a key have none."""
    assert key_of(command) == key


def test_keys_of_an_account_have_one_slot() -> None:
    """That of the name in braces."""
    assert slot_of("ordersync:{north}:stream:orders") == slot_of("north") == 1043
