"""One poll of one resource: lease, cursor, plan, and what is noted when it fails."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import redis.exceptions

from worker.capture.lease import Lease, Renewed, hold
from worker.capture.reader import Reading, SweepReader
from worker.capture.run import Outcome, Run
from worker.capture.store import Cursor, Store
from worker.errors import (
    ApiError,
    DataError,
    LeaseHeld,
    LeaseLost,
    LoginRejected,
    OrderMeshError,
    RedisUnavailable,
)
from worker.logs import Repeats, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.capture.resources import Resource
    from worker.clock import Clock
    from worker.keys import Keys
    from worker.ordermesh.client import OrderMeshClient
    from worker.ordermesh.profile import ContractProfile

FIRST_BACKOFF, LONGEST_BACKOFF = 5.0, 60.0
"""Seconds between two tries of a resource whose polls fail. A refused login waits for the longest at once."""
LONGEST_ASKED_PAUSE = 900.0
"""Seconds. However long a pause the server asks for, a resource is not left alone for longer."""
SLICE_SECONDS = 45.0
"""A poll that takes longer is a chain of slices, so that no job of arq's is a long one."""


class Poller:
    """Polls the resources of one account. Stateless between polls: all that matters is in Redis."""

    def __init__(
        self,
        *,
        redis_client: Redis,
        keys: Keys,
        client: OrderMeshClient,
        profile: ContractProfile,
        page_size: int,
        max_concurrency: int,
        intervals: Mapping[str, float],
        ignore_fields: Mapping[str, Sequence[str]],
        worker_id: str,
        clock: Clock,
    ) -> None:
        self._redis, self._keys, self._client, self._profile = redis_client, keys, client, profile
        self._page_size, self._window = page_size, max_concurrency
        self._intervals, self._ignore_fields = intervals, ignore_fields
        self._worker_id, self._clock = worker_id, clock
        self._repeats = Repeats()
        self._log = get_logger(account=keys.account)

    async def poll(
        self,
        resource: Resource,
        *,
        reason: str = "poll",
        stop: Callable[[], bool] = lambda: False,
        slice_seconds: float = SLICE_SECONDS,
        on_renew: Renewed | None = None,
    ) -> Run:
        """Read one resource and commit what changed; writes the summary line.

        Ends early, behind the page in hand, when `stop()` is true or after `slice_seconds`: the outcome is
        then `stopped` or `partial`, and the next poll carries on there. A failure is noted in the cursor
        and told by the outcome; nothing is raised but cancellation.
        """
        began, started_at = self._clock.monotonic(), self._clock.now()
        run = Run(
            uuid.uuid4().hex[:16], self._keys.account, resource.name, "sweep", reason, began, started_at
        )
        deadline = began + slice_seconds
        reading = Reading(
            resource=resource,
            page_size=self._page_size,
            window=self._window,
            interval=self._intervals.get(resource.name, 0.0),
            ignored=frozenset(self._ignore_fields.get(resource.name, ())),
            stop=lambda: stop() or self._clock.monotonic() >= deadline,
        )
        store = Store(self._redis, self._keys, resource)
        try:
            async with hold(
                self._redis,
                self._keys.lease(resource.name),
                resource=resource.name,
                owner=f"{self._worker_id}/{run.run_id}",
                clock=self._clock,
                on_renew=on_renew,
            ) as lease:
                await self._read(reading, run, store, lease)
        except LeaseHeld as error:
            run.outcome, run.error_code, run.error = Outcome.HELD, error.code, str(error)
        except (LeaseLost, DataError) as error:
            run.fail(error.code, error)
        except (redis.exceptions.RedisError, OSError) as error:
            if "WRONGTYPE" in str(error) or str(error).startswith("DATA"):
                run.fail(DataError.code, _of_another_hand(error))
            else:
                run.fail(RedisUnavailable.code, error)
        if run.outcome is Outcome.PARTIAL and stop():
            run.outcome = Outcome.STOPPED
        self._tell(run)
        return run

    async def _read(self, reading: Reading, run: Run, store: Store, lease: Lease) -> None:
        await store.check_layout()
        cursor, fields = await store.load_cursor(), await store.load_fields()
        reader = SweepReader(
            reading,
            run,
            store=store,
            lease=lease,
            cursor=cursor,
            fields=fields,
            client=self._client,
            profile=self._profile,
            clock=self._clock,
        )
        started: dict[str, str | int | float] = {
            "last_started": run.started_at,
            "interval": reading.interval,
        }
        await self._note(store, lease, cursor, run, started)
        try:
            await reader.read()
        except (LeaseLost, DataError, redis.exceptions.RedisError, OSError):
            raise  # the cursor cannot be written now, or not by this worker
        except Exception as error:  # noqa: BLE001 - told, and retried like any failure
            code = error.code if isinstance(error, OrderMeshError) else "internal"
            run.fail(code, error)
            if code == "internal":
                self._log.exception("poll_crashed", resource=run.resource, advice="please report this trace")
            failed: dict[str, str | int | float] = {
                **reader.setback(error),
                "failures": cursor.failures + 1,
                "error": run.error,
                "error_code": run.error_code,
                "due_at": self._clock.now() + _pause(error, cursor.failures),
            }
            await self._note(store, lease, cursor, run, failed, record=True)

    async def _note(
        self,
        store: Store,
        lease: Lease,
        cursor: Cursor,
        run: Run,
        fields: Mapping[str, str | int | float],
        *,
        record: bool = False,
    ) -> None:
        """Write fields of the cursor, and the record of the run if it has ended."""
        await store.commit(
            [],
            fence=lease.fence,
            buckets=cursor.buckets,
            reason=run.reason,
            observed_at=run.started_at,
            where="",
            cursor=fields,
            run=run.summary(self._clock.monotonic()) if record else None,
        )

    def _tell(self, run: Run) -> None:
        """The summary line. The same failure is told once a minute, with the number of those in between."""
        now = self._clock.monotonic()
        fields = {name: value for name, value in run.summary(now).items() if name != "account"}
        if run.outcome is Outcome.HELD:
            self._log.debug("poll_skipped", **fields)
        elif run.outcome is Outcome.FAILED:
            if self._repeats.allow(f"{run.resource} {run.error_code}", now):
                repeated = self._repeats.held_back(f"{run.resource} {run.error_code}")
                self._log.error("poll_failed", **fields, repeated=repeated)
        else:
            self._repeats.forget_all(run.resource)
            self._log.info("poll_done", **fields)


def _of_another_hand(error: Exception) -> DataError:
    return DataError(
        f"a key of the account is not what this program writes: {error}. Nothing was written; put the old value "
        "back, or delete the key when you know what it is."
    )


def _pause(error: Exception, failures: int) -> float:
    """Seconds until the next try, after `failures` in a row before this one."""
    if isinstance(error, LoginRejected):
        return LONGEST_BACKOFF
    if isinstance(error, ApiError) and error.retry_after:
        return min(error.retry_after, LONGEST_ASKED_PAUSE)
    return min(LONGEST_BACKOFF, FIRST_BACKOFF * (1 << min(failures, 10)))
