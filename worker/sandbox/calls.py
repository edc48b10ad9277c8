"""The arguments and the result of a handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qsl

import msgspec

from worker.sandbox.answers import Answer, refusal
from worker.sandbox.requests import RequestLog
from worker.sandbox.state.index import Index, Stale

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.sandbox.auth import Auth
    from worker.sandbox.contract import ServedContract
    from worker.sandbox.faults import Faults
    from worker.sandbox.state.records import Source
    from worker.sandbox.state.store import Store
    from worker.sandbox.state.world import World


@dataclass(slots=True)
class Sandbox:
    """The state that the endpoints share. `stopping` wakes requests that a fault delays."""

    store: Store
    world: World
    auth: Auth
    faults: Faults
    contract: ServedContract
    requests: RequestLog = field(default_factory=RequestLog)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    indexes: dict[str, Index] = field(default_factory=dict)
    stale: dict[str, Stale] = field(default_factory=dict)

    def indexed(self, key: str, source: Source) -> Source:
        """Return the records as list operation `key` shows them; the caller holds their lock."""
        stale = self.stale.get(key.partition(".")[0])
        if stale is not None:
            source = stale.over(source)
        if not self.contract.index_lag:
            return source
        return self.indexes.setdefault(key, Index(self.contract.index_lag)).of(source)

    def hide(self, kind: str, ids: Iterable[str]) -> list[str]:
        """Make lists show the existing ones of these records as they are now, even after they change; return their ids.

        This simulates an index that has lost a change. Single reads, bulk reads and audit logs show the current state.
        """
        source = self.world.sources()[kind]
        with source.lock:
            known = set(source.ids())
            chosen = [item for item in ids if item in known]
            self.stale.setdefault(kind, Stale()).keep(source, chosen)
            return chosen

    def show(self, kind: str) -> None:
        """Make lists show the current records of a kind again."""
        self.stale.pop(kind, None)

    async def pause(self, seconds: float) -> None:
        """Wait; return early if the server stops."""
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a handler sees it.

    Attributes:
        key: Key of the operation.
        query: Parameters of the query string.
        params: Parameters of the path.
        body: The body as sent; empty for GET and DELETE.
        query_string: The query as sent, for parameters that occur several times.
        actor: The client id or user name of the token.
    """

    key: str
    query: Mapping[str, str]
    params: Mapping[str, Any]
    body: bytes = b""
    query_string: str = ""
    actor: str = ""

    def many(self, name: str) -> list[str]:
        """Return the values of a parameter that occurs several times, or once with commas between the values."""
        values = [value for key, value in parse_qsl(self.query_string) if key == name]
        return [item.strip() for value in values for item in value.split(",") if item.strip()]

    def json(self) -> Any:
        """Return the decoded body; None if it is empty.

        Raises:
            Refusal: 400, the body is not JSON.
        """
        if not self.body.strip():
            return None
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise refusal(400, "The body must be JSON.") from None

    def fields(self) -> dict[str, Any]:
        """Return the body as a JSON object; an empty body has no fields.

        Raises:
            Refusal: 400, the body is not a JSON object.
        """
        document = self.json()
        if document is None:
            return {}
        if not isinstance(document, dict):
            raise refusal(400, "The body must be a JSON object.")
        return document


Handler: TypeAlias = Callable[[Sandbox, Call], Answer]
"""Serves one operation. It may raise `Refusal`."""
