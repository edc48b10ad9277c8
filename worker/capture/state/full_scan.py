"""How far the full scan of a resource has come that is under way, as its cursor stores it. No I/O."""

from __future__ import annotations

import msgspec


class FullScanProgress(msgspec.Struct, frozen=True, rename=lambda name: f"sweep_{name}"):
    """How far the full scan has come that is under way, and what the last one took. Times in seconds since 1970.

    In Redis each name begins with `sweep_`.

    Attributes:
        page: The first page that has not been committed.
        started: When the scan began; 0 when none is under way.
        size: Records requested per page.
        width: Records on its fullest page: `size`, or fewer where the server caps it.
        total: The last total that the server gave; 0 for none.
        seen: Records read so far.
        changed: Those among them that had changed.
        unreadable: Records before `page` that cannot be read.
        withheld: Records that were not published, since their pages show no known record.
        withheld_ids: A sample of them (`scan/withheld.py`).
        began: When the list was first requested, or earlier, by the clock that stamps its records (milliseconds since
            1970); 0 before the first page.
        listed, known, found, moved: As in `Discovery` (`scan/discovery.py`).
        drift: Records that it missed, and that are there, as reads by id have shown at its end.
        after: The continuation with which `page` is requested, where pages have no numbers; else "".
        watch: What was seen of the continuations, to notice that they lead in a circle.
        unread: Places in the list before `page` at which no record can be read, as JSON (`scan/unreadable_pages.py`).
        failed: The number, from 1, of the page at which the last run failed, also in the scan before; 0 for none.
        again: The pages moved during the scan, and it reads them for the second time.
        since: How far a keyset scan has come (milliseconds since 1970).
        statuses: The statuses of the records so far, each after a line break; empty where they are not collected.
        plan: A hash of the contract and the settings that it is read with (`scan/resumption.py`).
        spent: Seconds for which it was read; it waited for the rest of the time since it began.
        restarted: It was restarted instead of an interrupted one.
        pages: Pages with records that the last scan found.
        seconds: How long the last scan took.
        short: The page before which the last scan ended and failed, since the total said that there are more; else 0.

    """

    page: int = 0
    started: float = 0.0
    size: int = 0
    width: int = 0
    total: int = 0
    seen: int = 0
    changed: int = 0
    unreadable: int = 0
    drift: int = 0
    began: int = 0
    listed: int = 0
    known: int = 0
    found: int = 0
    moved: int = 0
    unread: str = ""
    failed: int = 0
    withheld: int = 0
    withheld_ids: str = ""
    again: bool = False
    since: int = 0
    statuses: str = ""
    plan: str = ""
    spent: float = 0.0
    restarted: bool = False
    pages: int = 0
    seconds: float = 0.0
    short: int = 0
    after: str = ""
    watch: str = ""
