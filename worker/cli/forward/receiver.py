"""Sends events to a receiver: the HTTP binding of CloudEvents, with the signature of Standard Webhooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import anyio
import httpx

from ordersync_consumer.redaction import words_of
from worker.cli.consume.batches import line_of
from worker.cli.forward.answers import Answer, Verdict, judge
from worker.cli.forward.signature import message_id, signed_headers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from ordersync_consumer import Delivery
    from worker.clock import Clock

ONE, SEVERAL = (
    "application/cloudevents+json; charset=utf-8",
    "application/cloudevents-batch+json; charset=utf-8",
)
_MAX_BODY = 65_536
"""Bytes of an answer that are read, so that its connection can be used again. Nobody looks at them."""
_BODY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send events, and how.

    Attributes:
        address: The address.
        keys: The keys of the signature, newest first.
        batch: Send a list of events in each request, also of one.
        timeout: Seconds that a request may take in all.

    """

    address: str
    keys: tuple[bytes, ...]
    batch: bool
    timeout: float


class Receiver:
    """One connection to the receiver: an async context manager.

    A request that takes too long is cancelled together with its client, which would lose track of the connection.

    Args:
        target: Where to send events.
        clock: The time of the signature.

    """

    def __init__(self, target: Target, clock: Clock) -> None:
        self._target, self._clock = target, clock
        self._tls = httpx.create_ssl_context()
        self._tls.load_default_certs()
        self._client = self._new_client()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def send(self, deliveries: Sequence[Delivery]) -> Answer:
        """Send events in one request. Return what the answer means, also if there is none."""
        lines = [line_of(delivery).rstrip() for delivery in deliveries]
        body = b"[" + b",".join(lines) + b"]" if self._target.batch else lines[0]
        identifier = message_id([delivery.event.id for delivery in deliveries])
        headers = {
            "content-type": SEVERAL if self._target.batch else ONE,
            **signed_headers(self._target.keys, identifier, int(self._clock.now()), body),
        }
        try:
            return await self._exchange(body, headers)
        except httpx.TimeoutException:
            return self._no_answer()
        except httpx.HTTPError as error:
            return Answer(Verdict.UNAVAILABLE, f"{type(error).__name__}: {words_of(error)}")

    async def _exchange(self, body: bytes, headers: dict[str, str]) -> Answer:
        answer: Answer | None = None
        with anyio.move_on_after(self._target.timeout) as scope:
            async with self._client.stream(
                "POST", self._target.address, content=body, headers=headers
            ) as response:
                self._client.cookies.clear()
                answer = judge(response.status_code, response.headers.get("retry-after"), self._clock.now())
                is_read = await _read(response)
        if scope.cancelled_caught or not is_read:
            await self._replace_client()
        return answer or self._no_answer()

    def _no_answer(self) -> Answer:
        return Answer(Verdict.UNAVAILABLE, f"no answer within {self._target.timeout:g} s")

    async def _replace_client(self) -> None:
        before, self._client = self._client, self._new_client()
        await before.aclose()

    def _new_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            verify=self._tls,
            timeout=self._target.timeout,
            limits=httpx.Limits(max_connections=1),
            headers={"user-agent": "ordermesh-sync", "accept-encoding": "identity"},
        )


async def _read(response: httpx.Response) -> bool:
    """Read the body of an answer. False if it is long, slow or broken: then its connection is of no more use."""
    size = 0
    with anyio.move_on_after(_BODY_SECONDS):
        try:
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > _MAX_BODY:
                    return False
        except httpx.HTTPError:
            return False
        return True
    return False
