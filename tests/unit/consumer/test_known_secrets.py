"""Secrets are found in a text, however many there are."""

from __future__ import annotations

import random

import pytest

from ordersync_consumer.known_secrets import FEW, KnownSecrets


@pytest.mark.parametrize("others", [0, FEW + 1])
def test_overlapping_secrets_leave_nothing(others: int) -> None:
    """The rest of a longer secret is not shown, nor that of one that begins within another."""
    known = KnownSecrets()
    for secret in ("abcdefgh", "abcdefghijkl", "klmnopqr", *(f"{n:06}-other" for n in range(others))):
        known.add(secret)
    assert known.hide("x abcdefghijkl y abcdefgh", "#") == "x # y #"
    assert known.hide("abcdefghijklmnopqr!", "#") == "#!"
    assert known.hide("abcdefghabcdefgh", "#") == "##"
    assert known.hide("nothing of them", "#") == "nothing of them"
    assert known.longest == 12
    known.remove("abcdefghijkl")
    assert known.hide("abcdefghijkl", "#") == "#ijkl"


def test_many_are_found_as_few_are() -> None:
    """Both ways to look find the same, whatever the text is."""
    chance = random.Random(7)
    secrets = {"".join(chance.choices("ab", k=chance.randint(6, 9))) for _ in range(40)}
    known = KnownSecrets()
    for secret in secrets:
        known.add(secret)
    for _ in range(200):
        text = "".join(chance.choices("abc", k=60))
        assert sorted(known._spans_of_few(text)) == sorted(known._spans_of_many(text))


def test_a_secret_stays_while_somebody_needs_it() -> None:
    """Two accounts may have the same one."""
    known = KnownSecrets()
    known.add("shared-secret")
    known.add("shared-secret")
    known.remove("shared-secret")
    assert known.hide("shared-secret", "#") == "#"
    known.remove("shared-secret")
    assert known.hide("shared-secret", "#") == "shared-secret"
    assert (len(known), known.longest) == (0, 0)
