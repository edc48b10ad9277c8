"""The base class of the groups of operations: paths, queries, lists and bulk requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from worker.errors import OrderMeshError, PartialBulk
from worker.ordermesh.bodies import as_fields
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.http import bulk
from worker.ordermesh.http.reply import audit_of, list_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from worker.ordermesh.bodies import Body
    from worker.ordermesh.contract.profile import ContractProfile
    from worker.ordermesh.http.auth import LoginRequest
    from worker.ordermesh.http.bulk import BulkReply
    from worker.ordermesh.http.reply import AuditReply, ListReply, Reply

T = TypeVar("T")

PAGE_SIZE = 50
"""Records per page: the only size in the vendor's samples (docs/reference/api-facts.md, 7)."""

Filter: TypeAlias = str | int | datetime | None
"""A value of a query parameter; None omits it."""


class Caller(Protocol):
    """The methods of the client that the groups use."""

    profile: ContractProfile

    async def call(
        self,
        key: str,
        *,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Reply:
        """Send operation `key` and return the response."""

    async def log_in(self, request: LoginRequest) -> Reply:
        """Send a login, without a token, and return the response."""


class ServiceGroup:
    """The operations whose keys have the same first part. Every method may raise what `OrderMeshClient.call` raises."""

    __slots__ = ("_client",)

    def __init__(self, client: Caller) -> None:
        self._client = client

    async def _call(
        self, key: str, *path: str, query: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Reply:
        """Send an operation and return the response.

        Args:
            key: The key of the operation.
            path: The values of the parameters of its path, in the order of the table.
            query: The query parameters.
            body: The body. None sends an empty object if the operation expects a body.

        """
        operation = OPERATIONS[key]
        if body is None and operation.request and self._client.profile.route(key).method != "GET":
            body = {}
        values = dict(zip(operation.path_parameters, path, strict=True))
        return await self._client.call(key, path=values, query=query, body=body)

    async def _list(
        self,
        key: str,
        *path: str,
        filters: Mapping[str, Filter] | None = None,
        extra: Mapping[str, str] | None = None,
        paged: tuple[int, int] | None = None,
        body: Body | None = None,
    ) -> ListReply:
        """Return a list; `paged` is the number of the page, from 0, and its size."""
        query = query_of(filters, extra)
        if paged is not None:
            query |= self._client.profile.page_query(key, *paged)
        reply = await self._call(key, *path, query=query, body=body)
        return list_of(reply, self._client.profile.wrappers(key), page=paged[0] if paged else None)

    async def _audit(
        self, key: str, *path: str, page: int | None, page_size: int, resource_format: str | None
    ) -> AuditReply:
        """Return a page of an audit log, counted from 0; without a number what the server returns by itself."""
        profile, query = self._client.profile, query_of({"format": resource_format})
        if page is not None:
            query |= profile.page_query(key, page, page_size)
        return audit_of(await self._call(key, *path, query=query), profile.wrappers(key), page)

    async def _write_many(self, key: str, items: Sequence[Body], limit: int) -> BulkReply:
        """Write in bulk."""

        async def send(part: Sequence[dict[str, Any]], first: int) -> BulkReply:
            reply = await self._call(key, body=bulk.envelope(part))
            return bulk.results(reply, part, first=first, reads=False)

        return await _in_parts(key, [as_fields(item) for item in items], limit, send)

    async def _read_many(self, key: str, ids: Sequence[str], limit: int) -> BulkReply:
        """Read in bulk. The ids are sent as a list with commas; the vendor does not document how to send several."""

        async def send(part: Sequence[str], first: int) -> BulkReply:
            reply = await self._call(key, query={"ids": ",".join(part)})
            return bulk.results(reply, [{"id": id_} for id_ in part], first=first, reads=True)

        return await _in_parts(key, ids, limit, send)


async def _in_parts(
    key: str, items: Sequence[T], limit: int, send: Callable[[Sequence[T], int], Awaitable[BulkReply]]
) -> BulkReply:
    """Send the items in one request, or in several requests, one after the other, if the list is long.

    Raises:
        PartialBulk: One of several requests failed after others had succeeded.

    """
    replies: list[BulkReply] = []
    first = 0
    for part in bulk.chunks(items, limit):
        try:
            replies.append(await send(part, first))
        except OrderMeshError as error:
            if not replies:
                raise
            before = bulk.joined(replies).items
            raise PartialBulk(key, before, first + len(part), len(items), error) from error
        first += len(part)
    return bulk.joined(replies)


def query_of(
    filters: Mapping[str, Filter] | None = None, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return query parameters as text; `extra` takes precedence.

    Raises:
        ValueError: A time has no time zone, so it is ambiguous.

    """
    texts = {name: _text(name, value) for name, value in (filters or {}).items() if value is not None}
    return {**texts, **(extra or {})}


def _text(name: str, value: str | int | datetime) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{name}: {value} has no time zone")
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
