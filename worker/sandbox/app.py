"""The API of the sandbox over HTTP: one route for each operation of the table, faults and logins in front.

To serve another operation, write its handler and name it in `_HANDLERS`; the route, the token check, faults,
latency and the request log come by themselves. Operations without a handler answer 501.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from worker.ordermesh.operations import OPERATIONS, Operation
from worker.sandbox.answers import Answer, error_answer
from worker.sandbox.faults import SEARCH_ACTIONS
from worker.sandbox.requests import RequestLog, RequestRecord
from worker.sandbox.store import FILTERS, Store

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from worker.sandbox.auth import Auth
    from worker.sandbox.contract import Contract
    from worker.sandbox.faults import FaultRule, Faults

CONNECTION = "sandbox.connection"
"""Key of the scope under which the server puts the transport of the connection, for faults that close it."""


@dataclass(slots=True)
class Sandbox:
    """Everything the endpoints work on. `stopping` wakes requests that wait on purpose."""

    store: Store
    auth: Auth
    faults: Faults
    contract: Contract
    requests: RequestLog = field(default_factory=RequestLog)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def pause(self, seconds: float) -> None:
        """Waits, or returns early when the server stops."""
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a handler sees it."""

    query: Mapping[str, str]
    params: Mapping[str, Any]
    body: bytes


Handler: TypeAlias = Callable[[Sandbox, Call], Answer]


def search_orders(sandbox: Sandbox, call: Call) -> Answer:
    """Search for orders: a page of whole records, narrowed by fields of the record."""
    asked = sandbox.contract.read_page(call.query)
    if isinstance(asked, Answer):
        return asked
    filters = {name: call.query[name] for name in FILTERS if name in call.query}
    return Answer(200, sandbox.store.page(*asked, filters))


def get_order(sandbox: Sandbox, call: Call) -> Answer:
    """Retrieve an order by Order ID: wrapped in `order`, as the vendor's sample by safe id."""
    order_id = call.params["orderId"]
    record = sandbox.store.get(order_id)
    if record is None:
        return error_answer(404, "The order was not found.", "orderId", order_id)
    return Answer(200, b'{"order":' + record + b"}")


_HANDLERS: dict[str, Handler] = {
    "clients.token": lambda sandbox, call: sandbox.auth.client_token(call.body),
    "users.login": lambda sandbox, call: sandbox.auth.login(call.body),
    "users.refresh": lambda sandbox, call: sandbox.auth.refresh(call.body),
    "orders.search": search_orders,
    "orders.get": get_order,
}
_SEARCHES = frozenset({"orders.search"})
_GARBAGE = "<html><body>The upstream service is taking a break.</body></html>"
_PUBLIC = frozenset({"clients.token", "users.login", "users.refresh"})


class Endpoint:
    """One operation as an ASGI application: a class, since Starlette calls it without wrapping it."""

    def __init__(self, sandbox: Sandbox, operation: Operation) -> None:
        self._sandbox = sandbox
        self._key = operation.key
        self._title = operation.title
        self._has_body = operation.method not in ("GET", "DELETE")
        self._public = operation.key in _PUBLIC
        self._search = operation.key in _SEARCHES
        self._handler = _HANDLERS.get(operation.key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request and notes it."""
        sandbox = self._sandbox
        came = time.time()
        text: str = scope["query_string"].decode("latin-1")
        query = dict(parse_qsl(text)) if text else {}
        rule = sandbox.faults.decide(self._key, self._page(query))
        if sandbox.contract.latency:
            await sandbox.pause(sandbox.contract.latency)
        body = await Request(scope, receive).body() if self._has_body else b""
        answer = await self._answer(scope, receive, Call(query, scope["path_params"], body), rule)
        status = 0 if answer is None else answer.status
        # Noted before it is sent, so that a client that has its answer finds its request in the log.
        sandbox.requests.add(RequestRecord(came, self._key, text, status, rule.action if rule else None))
        if answer is not None:
            await self._response(scope, answer)(scope, receive, send)

    def _page(self, query: Mapping[str, str]) -> int | None:
        if not self._search:
            return None
        asked = self._sandbox.contract.read_page(query)
        return -1 if isinstance(asked, Answer) else asked[0]

    async def _answer(
        self, scope: Scope, receive: Receive, call: Call, rule: FaultRule | None
    ) -> Answer | None:
        """The answer, spoiled where a rule says so; None when the connection has ended without one."""
        action = rule.action if rule else None
        if action in ("drop", "hang"):
            if action == "hang":
                await _until_gone(self._sandbox, receive)
            await _close(scope, receive)
            return None
        if rule is None:
            return self._handle(scope, call)
        if action == "status":
            return _status(rule)
        if action == "garbage":
            return Answer(200, (_GARBAGE if rule.body is None else rule.body).encode())
        if action == "delay":
            await self._sandbox.pause(rule.seconds)
        return self._spoil(self._handle(scope, call), call, rule)

    def _handle(self, scope: Scope, call: Call) -> Answer:
        if not self._public and not self._sandbox.auth.accepts(_header(scope, b"authorization")):
            return error_answer(401, "The access token is missing, unknown or expired.")
        if self._handler is None:
            return error_answer(501, f"The sandbox does not serve '{self._title}' ({self._key}).")
        return self._handler(self._sandbox, call)

    def _spoil(self, answer: Answer, call: Call, rule: FaultRule) -> Answer:
        if rule.action == "truncate":
            return Answer(answer.status, answer.body[: len(answer.body) // 2], answer.headers)
        asked = self._sandbox.contract.read_page(call.query)
        if rule.action not in SEARCH_ACTIONS or answer.status != 200 or isinstance(asked, Answer):
            return answer
        if rule.action == "empty":
            return Answer(200, self._sandbox.contract.render((), *asked, 0))
        return Answer(200, self._sandbox.contract.render_not_a_list(*asked))

    def _response(self, scope: Scope, answer: Answer) -> Response:
        headers = dict(answer.headers)
        body = answer.body
        if self._sandbox.contract.gzip and b"gzip" in (_header(scope, b"accept-encoding") or b""):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers["content-encoding"] = "gzip"
        return Response(body, answer.status, headers, answer.media_type)


def create_app(sandbox: Sandbox, control: list[BaseRoute]) -> Starlette:
    """The application: every operation of the table, and the given control routes."""
    # Paths without parameters come first, or `/orders/{orderId}` would swallow `/orders/list`.
    operations = sorted(OPERATIONS.values(), key=lambda each: each.path.count("{"))
    routes: list[BaseRoute] = [
        Route(each.path, Endpoint(sandbox, each), methods=[each.method], name=each.key) for each in operations
    ]

    async def refuse(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        query = request.url.query
        sandbox.requests.add(RequestRecord(time.time(), "unknown", query, status))
        problem = error_answer(status, f"There is no operation {request.method} {request.url.path}.")
        return Response(problem.body, status, media_type=problem.media_type)

    handlers: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = {404: refuse, 405: refuse}
    return Starlette(routes=[*routes, *control], exception_handlers=handlers)


def _header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


def _status(rule: FaultRule) -> Answer:
    headers = {} if rule.retry_after is None else {"retry-after": str(rule.retry_after)}
    if rule.body is not None:
        return Answer(rule.code, rule.body.encode(), headers)
    problem = error_answer(rule.code, "The sandbox was told to answer like this.")
    return Answer(rule.code, problem.body, headers)


async def _close(scope: Scope, receive: Receive) -> None:
    """Closes the connection and waits until the server has noticed, so that it sends no 500 of its own."""
    transport: asyncio.Transport = scope[CONNECTION]
    transport.close()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _until_gone(sandbox: Sandbox, receive: Receive) -> None:
    """Waits until the client has given up or the server stops."""
    waits = {asyncio.ensure_future(_gone(receive)), asyncio.ensure_future(sandbox.stopping.wait())}
    _, left = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for each in left:
        each.cancel()
    await asyncio.gather(*left, return_exceptions=True)
