"""What Redis has lost, by what it contains and what was given out."""

from __future__ import annotations

import pytest

from worker.capture.state.cursor import Cursor
from worker.capture.state.given_out import GivenOut
from worker.capture.state.loss import Found, Loss, LossKind, find_loss
from worker.keys import Keys

G = 1_795_963_108_980
"""A generation."""


@pytest.mark.parametrize(
    ("found", "known", "expected"),
    [
        (Found(Cursor()), 0, None),
        (Found(Cursor(), has_stream=False, has_fields=False), 0, None),
        (Found(Cursor(sequence=7)), 7, None),
        (Found(Cursor(sequence=9)), 7, None),
        (Found(Cursor(sequence=7)), 0, None),
        (Found(Cursor(sequence=6)), 7, Loss(LossKind.WENT_BACK, 7, 6)),
        (Found(Cursor(sequence=7)), G + 7, Loss(LossKind.WENT_BACK, G + 7, 7)),
        (Found(Cursor(), has_stream=False, has_fields=False), 7, Loss(LossKind.LOST_ITS_DATA, 7, 0)),
        (Found(Cursor(), has_fields=False), 7, Loss(LossKind.LOST_ITS_DATA, 7, 0)),
        (Found(Cursor(), last=7), 0, Loss(LossKind.LOST_CURSOR, 7, 0)),
        (Found(Cursor(), last=7), 9, Loss(LossKind.LOST_CURSOR, 9, 0)),
        (Found(Cursor(sequence=7), has_stream=False), 7, Loss(LossKind.LOST_STREAM, 7, 7, anew=True)),
        (Found(Cursor(sequence=7), has_fields=False), 7, Loss(LossKind.LOST_FIELDS, 7, 7, anew=True)),
        (Found(Cursor(sequence=6), has_stream=False), 7, Loss(LossKind.WENT_BACK, 7, 6, anew=True)),
        # Nothing was published since the loss before, so there is no stream yet.
        (Found(Cursor(sequence=G, generation=G), has_stream=False, has_fields=False), G, None),
    ],
)
def test_what_is_lost(found: Found, known: int, expected: Loss | None) -> None:
    """A lower sequence, or a key that must exist."""
    assert find_loss(found, known) == expected


def test_a_failover() -> None:
    """Another server may lack what another worker has committed, even if nothing of this worker is missing."""
    assert find_loss(Found(Cursor(sequence=7)), 7, failed_over=True) == Loss(LossKind.FAILED_OVER, 7, 7)
    assert find_loss(Found(Cursor(sequence=6)), 7, failed_over=True) == Loss(LossKind.WENT_BACK, 7, 6)
    assert find_loss(Found(Cursor()), 0, failed_over=True) is None


def test_one_worker_begins_anew_after_a_failover() -> None:
    """The others see its generation, and go on; after the next failover one of them does so again."""
    numbers = GivenOut().of(Keys("default"), "orders")
    assert not numbers.saw(0, 0)
    assert numbers.is_replaced(1, 0)
    assert numbers.saw(1, 0)
    assert not numbers.is_replaced(1, 0)
    assert not numbers.saw(1, G)
    assert not numbers.saw(2, G + 1)
    assert numbers.saw(3, G + 1)


def test_in_doubt() -> None:
    """A doubt counts where nothing else is known."""
    assert find_loss(Found(Cursor(sequence=7)), 7, in_doubt=True) == Loss(LossKind.IN_DOUBT, 7, 7)
    assert find_loss(Found(Cursor(sequence=6)), 7, in_doubt=True) == Loss(LossKind.WENT_BACK, 7, 6)


@pytest.mark.parametrize(
    ("loss", "events", "words"),
    [
        (Loss(LossKind.WENT_BACK, 7, 6), 1, "Redis went back to an earlier state and lost 1 event at least"),
        (Loss(LossKind.LOST_ITS_DATA, 7, 0), 7, "Redis lost its data, 7 events at least"),
        (
            Loss(LossKind.WENT_BACK, G + 7, 7),
            0,
            "Redis went back to an earlier state and lost 1 event at least",
        ),
    ],
)
def test_how_much(loss: Loss, events: int, words: str) -> None:
    """The numbers of two generations say nothing about how many events there were."""
    assert (loss.events, loss.words) == (events, words)
