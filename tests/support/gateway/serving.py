"""How the gateway serves its lists, and what it does wrong: a test may change all of it at any time."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, TypeAlias

from tests.support.gateway.history import OWN, Chooser

Action: TypeAlias = Literal["status", "hang", "truncate", "reset", "garbage", "empty", "slow"]


@dataclass(slots=True, kw_only=True)
class Serving:
    """The contract of the gateway, and its lies.

    Attributes:
        first_page: The number of the first page.
        largest_page: Most records in a page.
        wrapper: The key of the list; None for that of the kind, "" for a bare list, `data.orders` for one inside.
        total: The field with the number of records; None if there is none.
        told_total: What the total is made of.
        past_end: What is served behind the last page: `empty`, `no content` (204), `last`, `first`, or a status.
        order: By which the list is sorted: `created` or `modified`, with `-` newest first.
        filters: `updatedFrom` and the like are honoured.
        sorts: `sortBy` and `sortDirection` are honoured.
        stale_since: Requests that filter or sort see the records as of that moment.
        lag: Lists show the records as they were so many seconds ago; a record by its id is never late.
        frozen_at: Lists show the records as they were at that moment, in seconds since 1970; None for now.
        tenant: Whose records are served.
        hidden: Records that no list shows.
        away: Records that nothing shows, neither a list nor a read by id, as of a part of the database that is away.
        nothing: Every list is empty.
        audit_page: Entries in a page of an audit log; None for the whole log.
        audit_total: The field with the number of entries; None if there is none.
        gone: The status for a record that does not exist.
        dates: Answers say what time it is by the gateway's clock, in their `Date`.
        before_page: Called with the kind and the number of the page, counted from 0, before a page is made.

    """

    first_page: int = 1
    largest_page: int = 100
    wrapper: str | None = None
    total: str | None = "totalCount"
    told_total: Callable[[int], int] = int
    past_end: str | int = "empty"
    order: Literal["created", "-created", "modified", "-modified"] = "created"
    filters: bool = False
    sorts: bool = False
    stale_since: float | None = None
    lag: float = 0.0
    frozen_at: float | None = None
    tenant: str = OWN
    hidden: Chooser | None = None
    away: Chooser | None = None
    nothing: bool = False
    audit_page: int | None = None
    audit_total: str | None = "totalCount"
    gone: int = 404
    dates: bool = True
    before_page: Callable[[str, int], Any] | None = None


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong with some answers, until `end()`.

    Attributes:
        action: What happens: a `status`; `hang` (no answer, until the client goes away); `truncate` (half of the body);
            `reset` (the connection is reset without an answer); `garbage` (no JSON); `empty` (a list of nothing);
            `slow` (the answer waits for `seconds`).
        code: The status.
        path: Only requests whose path matches this pattern.
        page: Only this page of a list, counted from 0.
        size: Only pages of this size or larger.
        holds: Only pages of a list that contain the record with this id.
        probability: The share of the requests.
        times: How many answers at most; None for any number.
        seconds: How long a slow answer waits.
        headers: Lines that are added to the head of the answer.
        body: The body of the answer; made up if None.
        until: The moment at which it ends by itself, on the monotonic clock.
        count: How many answers were spoiled.

    """

    action: Action
    code: int = 503
    path: str = ""
    page: int | None = None
    size: int = 0
    holds: str = ""
    probability: float = 1.0
    times: int | None = None
    seconds: float = 1.0
    headers: tuple[str, ...] = ()
    body: bytes | None = None
    until: float | None = None
    count: int = 0
    ended: float | None = None

    def end(self) -> None:
        """Let it be over."""
        self.ended = time.monotonic()

    def concerns(self, path: str, page: int | None, size: int, body: bytes, rng: Random) -> bool:
        """Whether the answer to a request is to be spoiled."""
        now = time.monotonic()
        if self.ended is not None or (self.times is not None and self.count >= self.times):
            return False
        if self.until is not None and now >= self.until:
            self.end()
            return False
        if not re.search(self.path, path) or (self.page is not None and page != self.page):
            return False
        if self.holds and (page is None or self.holds.encode() not in body):
            return False
        return size >= self.size and rng.random() < self.probability


@dataclass(slots=True)
class Faults:
    """The faults of a gateway; the first one that concerns a request happens to it."""

    seed: int = 1
    all: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _rng: Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = Random(self.seed)

    def add(self, action: Action, *, last: float | None = None, **fields: Any) -> Fault:
        """Let something go wrong, for `last` seconds if given."""
        fault = Fault(action, until=None if last is None else time.monotonic() + last, **fields)
        with self._lock:
            self.all.append(fault)
        return fault

    def end(self) -> None:
        """Let all of them be over."""
        with self._lock:
            for fault in self.all:
                fault.end()

    def one_for(self, path: str, page: int | None, size: int, body: bytes) -> Fault | None:
        """The fault that happens to a request whose answer would have this body."""
        with self._lock:
            for fault in self.all:
                if fault.concerns(path, page, size, body, self._rng):
                    fault.count += 1
                    return fault
        return None
