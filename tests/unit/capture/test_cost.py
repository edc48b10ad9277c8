"""What a record costs the worker, as a multiple of what decoding the same page costs: a guard without a quiet machine.

The time of the thread on the processor is taken, of the best of many repetitions, in one process with the decoder that
it is divided by. So neither the speed of the machine nor its other programs decide.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import msgspec

from tests.bench.source import Book
from worker.capture.records import compiled, decoding, raw_records
from worker.capture.records.fields import FieldIndex
from worker.capture.records.fingerprint import bucket_of
from worker.capture.records.new_records import decide_all, decode_new
from worker.capture.records.payload import AS_SERVED
from worker.capture.records.scope import EVERYTHING
from worker.capture.registry import ORDERS
from worker.capture.state.commit import Commit
from worker.capture.state.packing import CommitPacker
from worker.ordermesh.http.pages import split

PAGES = 3
ROUNDS, REPETITIONS = 12, 8
MARGIN = 1.2
"""A cost may be so many times what it was when it was written down here."""
RESOURCE = msgspec.structs.replace(ORDERS, follow_ups=())


class Page:
    """A page of 100 orders of 2.5 kB, and what a full scan computes for it between HTTP and Redis."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._decoder = msgspec.json.Decoder(dict[str, object]).decode
        self._packer = CommitPacker("order", AS_SERVED, ())
        (first, *_) = self._observed()
        content = decoding.decode(RESOURCE, first, b"", frozenset()).content
        assert content
        self._fields = FieldIndex(content.names)

    def _observed(self, *, contents: bool = False) -> list[raw_records.RawRecord]:
        records = split("", self._body, ("orders",), page=0).records
        return raw_records.observe(RESOURCE, records, contents=contents)

    def decode(self) -> None:
        """What the cost is a multiple of."""
        self._decoder(self._body)

    def unchanged(self) -> None:
        """Split the page, and find the ids and fingerprints."""
        for record in self._observed():
            bucket_of(record.key, 2048)

    def new(self) -> None:
        """Decode the records as well, decide, and pack what a commit writes of them."""
        decoded = decode_new(RESOURCE, self._observed(contents=True), frozenset(), None, EVERYTHING)
        changes = decide_all(decoded, self._fields, baseline=False)
        self._packer.pack(Commit(fence=0, buckets=2048, reason="poll", observed_at=1.0, changes=changes), {})


def cost_of(*steps: Callable[[Page], None]) -> list[float]:
    """Return the cost of each step, as a multiple of `Page.decode`."""
    book = Book(100 * PAGES, 2_500)
    query = "page={}&pageSize=100"
    pages = [Page(book.page(query.format(at))[1].partition(b"\r\n\r\n")[2]) for at in range(1, PAGES + 1)]
    best = dict.fromkeys((Page.decode, *steps), float("inf"))
    gc.collect()
    gc.freeze()
    try:
        for _ in range(ROUNDS):  # in turns, so that a busy moment falls on all of them
            for step in best:
                for page in pages * REPETITIONS:
                    began = time.thread_time()
                    step(page)
                    best[step] = min(best[step], time.thread_time() - began)
    finally:
        gc.unfreeze()
    return [best[step] / best[Page.decode] for step in steps]


COSTS = {"unchanged": 0.50, "new": 1.28, "new, in Python": 3.75}
"""As measured on 2026-12-01 (x86-64, Python 3.11, msgspec 0.22), with loads of 3 to 5. Lower a
number when its cost has become lower."""


def test_what_a_record_costs() -> None:
    """Not more than 20 % above what it cost when the numbers were written down; unchanged, 0.55 at most."""
    unchanged, new = cost_of(Page.unchanged, Page.new)
    expected = COSTS["new, in Python" if compiled.missing else "new"]
    assert unchanged <= 0.55, f"an unchanged record costs {unchanged:.2f}"
    assert new <= expected * MARGIN, f"a new record costs {new:.2f}, {expected} is known"
