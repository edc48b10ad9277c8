"""The control routes under `/_sandbox/`: for people with curl, and for tests of the sandbox as a program.

They need no token and no fault touches them. They are not part of OrderMesh.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from worker.sandbox.answers import Answer, error_answer, json_answer
from worker.sandbox.faults import FaultRuleError, parse_faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from worker.sandbox.app import Sandbox

MOST_AT_ONCE = 10_000
"""Orders that one control request may create or change."""


def control_routes(sandbox: Sandbox) -> list[BaseRoute]:
    """The routes, working on this sandbox."""

    def stats(_request: Request, _body: bytes) -> Answer:
        return json_answer(
            asdict(sandbox.store.statistics())
            | {
                "tokens": sandbox.auth.issued,
                "requests": sandbox.requests.counts(),
                "faults": [
                    {"rule": rule.name, "action": rule.action, "operation": rule.operation, "fired": fired}
                    for rule, fired in zip(sandbox.faults.rules, sandbox.faults.fired(), strict=False)
                ],
            }
        )

    def create(request: Request, _body: bytes) -> Answer:
        number = _number(request)
        return number if isinstance(number, Answer) else json_answer({"ids": sandbox.store.create(number)})

    def change(request: Request, _body: bytes) -> Answer:
        number = _number(request)
        return number if isinstance(number, Answer) else json_answer({"ids": sandbox.store.change(number)})

    def truth(_request: Request, _body: bytes) -> Answer:
        lines = [record + b"\n" for record in sandbox.store.truth().values()]
        return Answer(200, b"".join(lines), media_type="application/x-ndjson")

    def faults(_request: Request, body: bytes) -> Answer:
        try:
            rules = parse_faults(msgspec.json.decode(body))
        except (FaultRuleError, msgspec.DecodeError) as error:
            return error_answer(400, str(error))
        sandbox.faults.replace(rules)
        return json_answer({"rules": len(rules)})

    def requests(_request: Request, _body: bytes) -> Answer:
        return json_answer({"requests": sandbox.requests.last()})

    return [
        Route("/_sandbox/stats", _endpoint(stats), methods=["GET"]),
        Route("/_sandbox/create", _endpoint(create), methods=["POST"]),
        Route("/_sandbox/change", _endpoint(change), methods=["POST"]),
        Route("/_sandbox/truth", _endpoint(truth), methods=["GET"]),
        Route("/_sandbox/faults", _endpoint(faults), methods=["POST"]),
        Route("/_sandbox/requests", _endpoint(requests), methods=["GET"]),
    ]


def _endpoint(work: Callable[[Request, bytes], Answer]) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        answer = work(request, await request.body())
        return Response(answer.body, answer.status, answer.headers, answer.media_type)

    return serve


def _number(request: Request) -> int | Answer:
    text = request.query_params.get("n", "1")
    if text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MOST_AT_ONCE:
        return int(text)
    return error_answer(400, f"'n' must be a whole number from 1 to {MOST_AT_ONCE}.", "n", text)
