"""The response of an endpoint, and the common format of all error bodies.

The vendor documents a single error body: `errors[]{errorMessage, propertyName, attemptedValue}` in the partial
success of adding variants. Every error of the sandbox has this format, so a client always finds a sentence in
`errors[].errorMessage`. The real bodies of 401, 403 and 404 are not documented.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: status, body as bytes, and headers except content-type and content-length."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


def json_answer(value: object, status: int = 200) -> Answer:
    """Return a response with `value` as compact JSON."""
    return Answer(status, msgspec.json.encode(value))


def error_answer(
    status: int, message: str, property_name: str | None = None, attempted: str | int | None = None
) -> Answer:
    """Return an error with one sentence and, if a field is invalid, its name and the value that was sent."""
    problem = {"errorMessage": message, "propertyName": property_name, "attemptedValue": attempted}
    return json_answer({"errors": [problem]}, status)


class Refusal(Exception):
    """Ends a handler; `answer` is sent. The handler must not have changed anything before."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(f"status {answer.status}")


def refusal(
    status: int, message: str, property_name: str | None = None, attempted: str | int | None = None
) -> Refusal:
    """Return a refusal with one error; see `error_answer`."""
    return Refusal(error_answer(status, message, property_name, attempted))
