"""Whether a page that shows no known record belongs to the account.

A gateway may answer with the list of another account for a moment. In a shop that is at work such a page is rare:
many new records at once, or a list of new records alone. So it is published if one of its records can be read by its
id, and a known record can as well. Where that does not tell, the page is withheld until the next read agrees: until
it shows records again that this one has withheld.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from worker.capture.by_id import read_record
from worker.capture.scan import withheld
from worker.capture.state.record_states import some_of
from worker.errors import ApiError, NotFound, RateLimited, UnreadableAnswer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.capture.scan.pages import FetchedPage
    from worker.capture.session import PollSession

MAX_ASKED = 3
"""Known records that are asked for by their id: one that is there is enough, and some may have been deleted."""


class Evidence(Enum):
    """What reads by id say of a page without a known record."""

    OURS = auto()
    NOT_OURS = auto()
    UNKNOWN = auto()
    """No record can be read by its id, or the read is refused."""


def shows_no_known(page: FetchedPage) -> bool:
    """Return True if a page shows records, and none of them is known."""
    if page.known or not page.observed or len(page.decoded) < len(page.observed):
        return False
    return all(not record.before and record.observed.identifier for record in page.decoded)


class Strangers:
    """Judges the pages of one poll that show no known record.

    `met`: a page has shown a known record. `are_refuted`: reads by id speak against a page.
    """

    def __init__(self, session: PollSession) -> None:
        self._session = session
        self.met = self.are_refuted = False

    async def judge(self, page: FetchedPage) -> Evidence:
        """Return whether a page is of the account.

        Raises:
            OrderMeshError: The gateway is not available.

        """
        session, cursor = self._session, self._session.cursor
        if not cursor.baseline or not cursor.tracked:
            return Evidence.OURS
        if not shows_no_known(page):
            self.met = self.met or page.count > 0
            return Evidence.OURS
        if await session.store.deletes_accepted():
            return Evidence.OURS  # a person knows better
        await session.check_states()
        # Where states are gone, the records may be known ones: they alone have to answer.
        lost = bool(session.cursor.lost_before)
        # The last read has withheld one of its records, and all else spoke for that one.
        otherwise = (
            Evidence.OURS if withheld.is_among(cursor.withheld_ids, page.identities) else Evidence.UNKNOWN
        )
        if not session.options.single:
            return Evidence.OURS if lost else otherwise
        result = await self._ask([page.observed[0].identifier, page.observed[-1].identifier])
        if result is Evidence.OURS and not lost:
            known = await self._ask_known()
            result = result if self.met and known is Evidence.UNKNOWN else known
        self.are_refuted = self.are_refuted or result is Evidence.NOT_OURS
        return otherwise if result is Evidence.UNKNOWN else result

    async def _ask_known(self) -> Evidence:
        """Ask for some known records. After each such page: the list may be that of another account from there on."""
        session = self._session
        context, name = session.context, session.source.name
        states, chance = context.keys.states(name), session.clock.uniform
        known = await some_of(context.redis, states, session.buckets, MAX_ASKED, chance)
        return await self._ask(known)

    async def _ask(self, identifiers: Sequence[str]) -> Evidence:
        """Return whether one of these records is there."""
        result = Evidence.UNKNOWN
        for identifier in dict.fromkeys(identifiers):
            try:
                await read_record(self._session, self._session.options.resource.single or "", identifier)
            except NotFound:
                result = Evidence.NOT_OURS
            except RateLimited:
                raise
            except (ApiError, UnreadableAnswer):
                continue
            else:
                return Evidence.OURS
        return result
