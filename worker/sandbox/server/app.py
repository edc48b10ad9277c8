"""The HTTP API of the sandbox: one route for each operation of the table.

Handlers are in `worker.sandbox.services`. This module adds the route, the token check, faults, latency and the request
log to each of them.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from worker.ordermesh.contract.operations import OPERATIONS, Operation
from worker.sandbox.answers import Answer, Refusal, error_answer
from worker.sandbox.calls import Call, Sandbox
from worker.sandbox.faults import DRIFT_ACTIONS, SEARCH_ACTIONS
from worker.sandbox.openapi.validation import check_body
from worker.sandbox.requests import RequestRecord
from worker.sandbox.services import HANDLERS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from worker.sandbox.faults import FaultRule
    from worker.sandbox.state.store import Store

CONNECTION = "sandbox.connection"
"""Key of the scope where the server stores the transport of the connection, for faults that close it."""

_PARAMETER = re.compile(r"\{(\w+)\}")
_GARBAGE = "<html><body>The upstream service is taking a break.</body></html>"
_PUBLIC = frozenset({"clients.token", "users.login", "users.refresh"})


class Endpoint:
    """One operation as an ASGI application. It is not a function, because Starlette wraps functions."""

    def __init__(self, sandbox: Sandbox, operation: Operation) -> None:
        self._sandbox = sandbox
        self._key = operation.key
        self._operation = operation
        self._has_body = operation.method not in ("GET", "DELETE")
        self._public = operation.key in _PUBLIC
        self._records = operation.records
        self._paged = operation.paged
        self._handler = HANDLERS[operation.key]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and log it."""
        sandbox = self._sandbox
        received = time.time()
        text: str = scope["query_string"].decode("latin-1")
        query = dict(parse_qsl(text, keep_blank_values=True)) if text else {}
        rule = sandbox.faults.decide(self._key, self._page(query))
        if sandbox.contract.latency:
            await sandbox.pause(sandbox.contract.latency)
        body = await Request(scope, receive).body() if self._has_body else b""
        call = Call(self._key, query, scope["path_params"], body, query_string=text)
        answer = await self._answer(scope, receive, call, rule)
        status = 0 if answer is None else answer.status
        # Logged before the response is sent, so that a client with its response finds the request in the log.
        fault = rule.action if rule else None
        sandbox.requests.add(RequestRecord(received, self._key, text, status, fault))
        if answer is not None:
            await self._response(scope, answer)(scope, receive, send)

    def _page(self, query: Mapping[str, str]) -> int | None:
        """Return the requested page, -1 for an invalid one; None for an operation that is not a list."""
        if self._records is None:
            return None
        page = self._sandbox.contract.read_page(query)
        return -1 if isinstance(page, Answer) else page[0]

    async def _answer(
        self, scope: Scope, receive: Receive, call: Call, rule: FaultRule | None
    ) -> Answer | None:
        """Return the response, with the fault of a rule applied; None if the connection was closed without one."""
        action = rule.action if rule else None
        if action in ("drop", "hang"):
            if action == "hang":
                await _until_disconnected(self._sandbox, receive)
            await _close(scope, receive)
            return None
        if rule is None:
            return self._handle(scope, call)
        if action == "status":
            return _status(rule)
        if action == "garbage":
            return Answer(200, (_GARBAGE if rule.body is None else rule.body).encode())
        if action in DRIFT_ACTIONS:
            _drift(self._sandbox.store, rule)
        if action == "delay":
            await self._sandbox.pause(rule.seconds)
        return self._apply_fault(self._handle(scope, call), call, rule)

    def _handle(self, scope: Scope, call: Call) -> Answer:
        if not self._public:
            holder = self._sandbox.auth.holder(_header(scope, b"authorization"))
            if holder is None:
                return error_answer(401, "The access token is missing, unknown or expired.")
            if not self._sandbox.auth.permissions.allow(self._operation):
                return error_answer(403, f"The token has no permission for '{self._operation.title}'.")
            call = replace(call, actor=holder)
        rejection = check_body(self._operation, call.body)
        if rejection is not None:
            return rejection
        try:
            return self._handler(self._sandbox, call)
        except Refusal as refusal:
            return refusal.answer

    def _apply_fault(self, answer: Answer, call: Call, rule: FaultRule) -> Answer:
        """Return the response as the rule changes it."""
        if rule.action == "truncate":
            return Answer(answer.status, answer.body[: len(answer.body) // 2], answer.headers)
        if rule.action not in SEARCH_ACTIONS or answer.status != 200 or self._records is None:
            return answer
        contract = self._sandbox.contract
        page = contract.read_page(call.query)
        if not self._paged or isinstance(page, Answer):
            empty = contract.render_whole((), self._records)
            no_list = empty.replace(b"[]", b"{}")
        else:
            empty = contract.render((), *page, 0, self._records)
            no_list = contract.render_not_a_list(*page, self._records)
        return Answer(200, empty if rule.action == "empty" else no_list)

    def _response(self, scope: Scope, answer: Answer) -> Response:
        headers = dict(answer.headers)
        body = answer.body
        if body and self._sandbox.contract.gzip and b"gzip" in (_header(scope, b"accept-encoding") or b""):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers["content-encoding"] = "gzip"
        return Response(body, answer.status, headers, answer.media_type)


def create_app(sandbox: Sandbox, control: list[BaseRoute]) -> Starlette:
    """Return the application: every operation of the table, and the given control routes."""
    contract = sandbox.contract
    routes = [
        Route(
            _template(contract.path(item), item),
            Endpoint(sandbox, item),
            methods=[item.method],
            name=item.key,
        )
        for item in OPERATIONS.values()
    ]
    # Literal segments come first; otherwise `/orders/{orderId}` would match `/orders/list`.
    routes.sort(key=lambda each: [part.startswith("{") for part in each.path.split("/")])

    async def refuse(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        query = request.url.query
        sandbox.requests.add(RequestRecord(time.time(), "unknown", query, status))
        problem = error_answer(status, f"There is no operation {request.method} {request.url.path}.")
        return Response(problem.body, status, media_type=problem.media_type)

    handlers: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = {404: refuse, 405: refuse}
    return Starlette(routes=[*routes, *control], exception_handlers=handlers)


def _template(path: str, operation: Operation) -> str:
    """Return a path with the parameter names of the handler; if a moved path has others, they are matched by order."""
    names = operation.path_parameters
    if set(names) == set(_PARAMETER.findall(path)):
        return path
    remaining = iter(names)
    return _PARAMETER.sub(lambda _: f"{{{next(remaining)}}}", path)


def _header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            result: bytes = value
            return result
    return None


def _status(rule: FaultRule) -> Answer:
    headers = {} if rule.retry_after is None else {"retry-after": str(rule.retry_after)}
    if rule.code in {204, 304}:
        return Answer(rule.code, b"", headers)  # a response with this status has no body
    if rule.body is not None:
        return Answer(rule.code, rule.body.encode(), headers)
    problem = error_answer(rule.code, "A fault rule of the sandbox requested this response.")
    return Answer(rule.code, problem.body, headers)


def _drift(store: Store, rule: FaultRule) -> None:
    """Change orders while a client reads them."""
    with store.lock:
        if rule.action == "create":
            store.create(rule.count)
        elif rule.action == "change":
            store.change(rule.count)
        else:
            for order_id in store.ids()[: rule.count]:
                store.delete(order_id)


async def _close(scope: Scope, receive: Receive) -> None:
    """Close the connection, and wait until the server has noticed, so that it does not send a 500."""
    transport: asyncio.Transport = scope[CONNECTION]
    transport.close()
    await _disconnected(receive)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _until_disconnected(sandbox: Sandbox, receive: Receive) -> None:
    """Wait until the client disconnects or the server stops."""
    waits = {asyncio.ensure_future(_disconnected(receive)), asyncio.ensure_future(sandbox.stopping.wait())}
    _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
