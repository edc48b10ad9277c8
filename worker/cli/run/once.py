"""`ordersync run --once`: reads every resource completely, waits until deletions are confirmed, prints a summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from worker.capture.registry import CAPTURED
from worker.capture.state import refresh_queue as due
from worker.capture.state.refresh_queue import CONFIRMATIONS, RefreshQueue
from worker.capture.state.run import Outcome
from worker.capture.state.store import StateStore
from worker.cli.common.output import say, say_json
from worker.errors import DataError, OrdersyncError
from worker.telemetry.log import get_logger

if TYPE_CHECKING:
    from worker.capture.resources import Captured
    from worker.capture.state.cursor import Cursor
    from worker.capture.state.run import Run
    from worker.services import AccountServices, Services

PATIENCE = 60.0
"""Seconds to wait for Redis, for a worker that is reading, and for deletions after the time that they need."""
PATIENT_SCANS = 5
"""Full scans of a list that moves, if they take longer than that."""
_SHORTEST_WAIT = 0.05
_UNAVAILABLE = frozenset({"gateway_unreachable", "login_rejected", "redis_unavailable", "redis_full"})


class RunIncomplete(OrdersyncError):
    """`run --once` could not read everything, or could not publish what it means."""

    code = "incomplete"


class SourceUnavailable(RunIncomplete):
    """`run --once` could not reach what it needs."""

    exit_status = 3


@dataclass(slots=True)
class Reading:
    """What became of one resource of an account.

    `ended`: by the monotonic clock. `held_back`: records that were not found, if too many to be deleted.
    `unconfirmed`: deletions to be confirmed; `wait`: in how many seconds, None for by the next full scan.
    `undecided`: records with another content and an older time than were published, which another read has to confirm.
    """

    account: AccountServices
    resource: Captured
    run: Run
    ended: float
    held_back: int = 0
    unconfirmed: int = 0
    wait: float | None = None
    undecided: int = 0

    async def look(self) -> None:
        """Look up what is not published yet: deletions that are held back, or to be confirmed, and older states."""
        context, name = self.account.poller.context, self.resource.name
        store = StateStore(context.redis, context.keys, self.resource)
        cursor = await _cursor_after(self.run, store)
        if cursor is None:
            return
        self.held_back, self.undecided = cursor.held_back, cursor.stale
        absent = await store.all_absent()
        queue = RefreshQueue(context.redis, context.keys, name)
        waits = await queue.waits([due.record(identifier) for identifier in absent])
        self.unconfirmed, self.wait = 0 if self.held_back else len(absent), max(waits, default=None)

    @property
    def problem(self) -> RunIncomplete | None:
        """What keeps the resource from being up to date, if anything."""
        run = self.run
        if run.outcome is not Outcome.COMPLETE:
            kind = SourceUnavailable if run.error_code in _UNAVAILABLE else RunIncomplete
            return kind(f"{run.account}/{run.resource}: {run.error or run.outcome.value}")
        if self.held_back:
            return RunIncomplete(
                f"{run.account}/{run.resource}: {self._held_back}. First run: ordersync contract probe. If it shows "
                "what you expect of the gateway, look for some of them in OrderMesh. Only if they are gone, run: "
                f"ordersync resync {run.resource} --accept-deletes"
            )
        return None

    @property
    def _held_back(self) -> str:
        return f"deletions of {self.held_back} records are held back, since they are too many to be believed"

    @property
    def _to_be_confirmed(self) -> str:
        noun = "deletion" if self.unconfirmed == 1 else "deletions"
        when = "by the next full scan" if self.wait is None else f"in {max(0.0, self.wait):.0f} s"
        return f"{self.unconfirmed} {noun} to be confirmed {when}"

    @property
    def _to_be_decided(self) -> str:
        what = "1 record has" if self.undecided == 1 else f"{self.undecided} records have"
        return f"{what} changed without a later time, not published until another read confirms it"

    @property
    def line(self) -> str:
        """The summary in words."""
        run = self.run
        text = (
            f"{run.account}/{run.resource}: {run.outcome.value}: {run.records} records read, {run.published} "
            f"events published ({run.snapshot} snapshot, {run.created} created, {run.updated} updated, "
            f"{run.deleted} deleted, {run.recorded} recorded), "
            f"{run.unchanged} unchanged, {_silent(run)}{run.unreadable} unreadable, {run.usage.requests} requests in "
            f"{self.ended - run.began:.1f} s"
        )
        more = [self._held_back] if self.held_back else []
        more += [self._to_be_confirmed] if self.unconfirmed else []
        more += [self._to_be_decided] if self.undecided else []
        return "; ".join([text, *more])

    @property
    def fields(self) -> dict[str, Any]:
        """The summary as fields: those of the run record, and what is not published yet."""
        fields: dict[str, Any] = self.run.summary(self.ended)
        if self.held_back:
            fields["deletes_held_back"] = self.held_back
        if self.unconfirmed:
            fields["deletes_unconfirmed"] = self.unconfirmed
            if self.wait is not None:
                fields["confirmed_in_s"] = round(max(0.0, self.wait), 1)
        if self.undecided:
            fields["older_undecided"] = self.undecided
        return fields


async def read_once(services: Services, *, as_json: bool, wait: bool) -> None:
    """Read every resource of every account completely, and print what was found.

    Args:
        services: The services.
        as_json: Print JSON.
        wait: Wait until deletions are confirmed.

    Raises:
        RunIncomplete: A resource was not read completely, or deletions are held back. The summary is printed before.

    """
    readings = []
    for account in services.accounts.values():
        # Resources come before the audit logs that their follow-ups read.
        for name in sorted(account.account.intervals, key=list(CAPTURED).index):
            run = await _read_completely(services, account, CAPTURED[name])
            readings.append(Reading(account, CAPTURED[name], run, services.clock.monotonic()))
            await readings[-1].look()
    if wait:
        await _confirm(services, readings)
    if as_json:
        say_json([reading.fields for reading in readings])
    else:
        for reading in readings:
            say(reading.line)
    for reading in readings:
        if reading.problem is not None:
            raise reading.problem


async def _cursor_after(run: Run, store: StateStore) -> Cursor | None:
    """Return the cursor; None if it cannot be read, which the failed run has said: other resources are read."""
    try:
        return await store.load_cursor()
    except (DataError, ResponseError):
        if run.outcome is Outcome.FAILED:
            return None
        raise


async def _read_completely(services: Services, account: AccountServices, resource: Captured) -> Run:
    """Run one full scan that begins now, after waiting for the lease, which a daemon may hold at the moment."""
    deadline, resume, before = services.clock.monotonic() + PATIENCE, False, None
    failed = False  # the run `before` stopped at a page that failed, and the next goes on there
    store = StateStore(services.redis, account.poller.context.keys, resource)
    while True:
        run = await account.poller.poll(resource, complete=True, resume=resume, slice_seconds=float("inf"))
        if before is not None:
            run.add(before, is_part=failed)
        if services.clock.monotonic() >= deadline:
            return run
        cursor = await _cursor_after(run, store)
        if cursor is None:
            return run
        if run.outcome is Outcome.FAILED and not resume and cursor.scan.failed:
            # A page fails; if it fails once more it is read in parts, and the pages after it are read.
            resume, before, failed = True, run, True
            await services.clock.sleep(min(PATIENCE, max(0.0, cursor.due_at - services.clock.now())))
            continue
        if run.outcome not in {Outcome.HELD, Outcome.PARTIAL}:
            return run
        if run.outcome is Outcome.PARTIAL:
            # Its pages have moved in each pass, or it is no evidence yet that it has shown every record.
            if before is None or failed:
                took = services.clock.monotonic() - run.began
                deadline = max(deadline, run.began + PATIENT_SCANS * took)
            resume, before, failed = True, run, False
            continue
        get_logger(account=run.account).warning("waiting_for_lease", resource=run.resource, reason=run.error)
        await services.clock.sleep(1)


async def _confirm(services: Services, readings: list[Reading]) -> None:
    """Wait until each deletion has been confirmed or refuted, unless that takes too long."""
    longest = max(account.account.confirm_deletes for account in services.accounts.values())
    deadline = services.clock.monotonic() + longest + PATIENCE
    scans = dict.fromkeys(range(len(readings)), 1)
    said = False
    while True:
        pending = [
            (number, reading)
            for number, reading in enumerate(readings)
            if reading.unconfirmed
            and reading.run.outcome is Outcome.COMPLETE
            and (reading.wait is not None or scans[number] < CONFIRMATIONS)
        ]
        left = deadline - services.clock.monotonic()
        soonest = min((reading.wait or 0.0 for _, reading in pending), default=float("inf"))
        if soonest >= left:
            return
        if not said:
            said = True
            for _, reading in pending:
                get_logger(account=reading.run.account).info(
                    "waiting_for_confirmation",
                    resource=reading.resource.name,
                    deletes=reading.unconfirmed,
                    wait_s=round(max(0.0, reading.wait or 0.0), 1),
                )
        await services.clock.sleep(max(_SHORTEST_WAIT, soonest))
        for number, reading in pending:
            poller = reading.account.poller
            if reading.wait is None:
                scans[number] += 1
                run = await _read_completely(services, reading.account, reading.resource)
            else:
                run = await poller.poll(reading.resource, follow_ups_only=True)
            if run.outcome in {Outcome.FAILED, Outcome.PAUSED, Outcome.STOPPED, Outcome.SUSPICIOUS}:
                reading.run.end(run.outcome, run.error_code, run.error)
            elif run.outcome is Outcome.HELD:
                await services.clock.sleep(1)
            reading.run.add(run)
            reading.ended = services.clock.monotonic()
            await reading.look()


def _silent(run: Run) -> str:
    return f"{run.silent} of the past not published, " if run.silent else ""
