"""The control routes under `/_sandbox/`: for users with curl, and for tests of the sandbox as a program.

They need no token, and faults do not apply to them. They are not part of OrderMesh.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from worker.sandbox.answers import Answer, error_answer, json_answer
from worker.sandbox.faults import FaultRuleError, parse_faults
from worker.sandbox.openapi.openapi import document
from worker.sandbox.permissions import Permissions, PermissionsError
from worker.sandbox.state.world import KINDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from worker.sandbox.calls import Sandbox

MAX_AT_ONCE = 10_000
"""Orders that one control request may create or change."""


def control_routes(sandbox: Sandbox) -> list[BaseRoute]:
    """Return the control routes of a sandbox."""
    control = _Control(sandbox)
    return [
        Route("/openapi.json", _endpoint(control.openapi), methods=["GET"]),
        Route("/_sandbox/stats", _endpoint(control.stats), methods=["GET"]),
        Route("/_sandbox/create", _endpoint(control.create), methods=["POST"]),
        Route("/_sandbox/change", _endpoint(control.change), methods=["POST"]),
        Route("/_sandbox/hide", _endpoint(control.hide), methods=["POST"]),
        Route("/_sandbox/show", _endpoint(control.show), methods=["POST"]),
        Route("/_sandbox/truth", _endpoint(control.truth), methods=["GET"]),
        Route("/_sandbox/faults", _endpoint(control.faults), methods=["POST"]),
        Route("/_sandbox/deny", _endpoint(control.deny), methods=["POST"]),
        Route("/_sandbox/requests", _endpoint(control.requests), methods=["GET"]),
    ]


class _Control:
    """The handlers of the control routes."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def openapi(self, request: Request, _body: bytes) -> Answer:
        """Return the OpenAPI document of the API as this sandbox serves it."""
        return json_answer(document(self._sandbox.contract, str(request.base_url).rstrip("/")))

    def stats(self, _request: Request, _body: bytes) -> Answer:
        """Return counts of records, tokens and requests, and how often each fault rule acted."""
        sandbox = self._sandbox
        return json_answer(
            asdict(sandbox.store.statistics())
            | {
                "records": {kind: len(source) for kind, source in sandbox.world.sources().items()},
                "tokens": sandbox.auth.issued,
                "requests": sandbox.requests.counts(),
                "faults": [
                    {"rule": rule.name, "action": rule.action, "operation": rule.operation, "fired": fired}
                    for rule, fired in zip(sandbox.faults.rules, sandbox.faults.fired(), strict=False)
                ],
            }
        )

    def create(self, request: Request, _body: bytes) -> Answer:
        """Create `n` orders."""
        number = _number(request)
        if isinstance(number, Answer):
            return number
        return json_answer({"ids": self._sandbox.store.create(number)})

    def change(self, request: Request, _body: bytes) -> Answer:
        """Change `n` orders, or shipments with `kind=shipments`."""
        number, kind = _number(request), request.query_params.get("kind", "orders")
        if isinstance(number, Answer):
            return number
        if kind == "orders":
            return json_answer({"ids": self._sandbox.store.change(number)})
        if kind == "shipments":
            return json_answer({"ids": self._sandbox.world.shipments.change(number)})
        return error_answer(400, "'kind' must be one of orders, shipments.", "kind", kind)

    def hide(self, request: Request, _body: bytes) -> Answer:
        """Make lists of a `kind` show the records with these `id`s as they are now, until `show` is called."""
        kind = request.query_params.get("kind", "orders")
        if kind not in KINDS:
            return error_answer(400, f"'kind' must be one of {', '.join(KINDS)}.", "kind", kind)
        return json_answer({"ids": self._sandbox.hide(kind, request.query_params.getlist("id"))})

    def show(self, request: Request, _body: bytes) -> Answer:
        """Make lists of a `kind` show all records as they are."""
        self._sandbox.show(request.query_params.get("kind", "orders"))
        return json_answer({})

    def truth(self, request: Request, _body: bytes) -> Answer:
        """Return every record of a kind, one per line."""
        kind = request.query_params.get("kind", "orders")
        if kind not in KINDS:
            return error_answer(400, f"'kind' must be one of {', '.join(KINDS)}.", "kind", kind)
        lines = [record + b"\n" for record in self._sandbox.world.truth(kind).values()]
        return Answer(200, b"".join(lines), media_type="application/x-ndjson")

    def faults(self, _request: Request, body: bytes) -> Answer:
        """Replace all fault rules by the rules in the body."""
        try:
            rules = parse_faults(msgspec.json.decode(body))
        except (FaultRuleError, msgspec.DecodeError) as error:
            return error_answer(400, str(error))
        self._sandbox.faults.replace(rules)
        return json_answer({"rules": len(rules)})

    def deny(self, request: Request, _body: bytes) -> Answer:
        """Deny every `permission`, RESOURCE:VERB, and allow all others."""
        try:
            permissions = Permissions().without(*request.query_params.getlist("permission"))
        except PermissionsError as error:
            return error_answer(400, str(error), "permission")
        self._sandbox.auth.permit(permissions)
        return json_answer({"permissionSet": permissions.sets()})

    def requests(self, _request: Request, _body: bytes) -> Answer:
        """Return the last requests."""
        return json_answer({"requests": self._sandbox.requests.last()})


def _endpoint(work: Callable[[Request, bytes], Answer]) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        answer = work(request, await request.body())
        return Response(answer.body, answer.status, answer.headers, answer.media_type)

    return serve


def _number(request: Request) -> int | Answer:
    text = request.query_params.get("n", "1")
    if text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MAX_AT_ONCE:
        return int(text)
    return error_answer(400, f"'n' must be a whole number from 1 to {MAX_AT_ONCE}.", "n", text)
