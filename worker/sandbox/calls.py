"""What a handler is given and what it gives back."""

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
    """Everything the endpoints work on. `stopping` wakes requests that wait on purpose."""

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
        """What list operation `key` shows of its records; the caller holds their lock."""
        stale = self.stale.get(key.partition(".")[0])
        if stale is not None:
            source = stale.over(source)
        if not self.contract.index_lag:
            return source
        return self.indexes.setdefault(key, Index(self.contract.index_lag)).of(source)

    def hide(self, kind: str, ids: Iterable[str]) -> list[str]:
        """Has lists show records of a kind as they are now, whatever becomes of them; those that there are.

        An index that has lost a change looks like that. Single records, bulk reads and audit logs tell the truth.
        """
        source = self.world.sources()[kind]
        with source.lock:
            known = set(source.ids())
            chosen = [item for item in ids if item in known]
            self.stale.setdefault(kind, Stale()).keep(source, chosen)
            return chosen

    def show(self, kind: str) -> None:
        """Has lists show records of a kind as they are again."""
        self.stale.pop(kind, None)

    async def pause(self, seconds: float) -> None:
        """Waits, or returns early when the server stops."""
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
        query_string: The query as sent, for parameters that are given more than once.
        actor: Who asks: client id or user name of the token.
    """

    key: str
    query: Mapping[str, str]
    params: Mapping[str, Any]
    body: bytes = b""
    query_string: str = ""
    actor: str = ""

    def many(self, name: str) -> list[str]:
        """The values of a parameter that is given several times, or once with commas between them."""
        given = [value for key, value in parse_qsl(self.query_string) if key == name]
        return [item.strip() for value in given for item in value.split(",") if item.strip()]

    def json(self) -> Any:
        """The decoded body; None when it is empty.

        Raises:
            Refusal: 400, the body is no JSON.
        """
        if not self.body.strip():
            return None
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise refusal(400, "The body must be JSON.") from None

    def fields(self) -> dict[str, Any]:
        """The body as a JSON object; an empty body has no fields.

        Raises:
            Refusal: 400, the body is something else.
        """
        document = self.json()
        if document is None:
            return {}
        if not isinstance(document, dict):
            raise refusal(400, "The body must be a JSON object.")
        return document


Handler: TypeAlias = Callable[[Sandbox, Call], Answer]
"""Serves one operation. It may raise `ProbeRefusal`."""
