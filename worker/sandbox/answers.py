"""What an endpoint answers, and the one shape of every error body.

The vendor shows one error body only: `errors[]{errorMessage, propertyName, attemptedValue}` in the partial
success of adding variants. Every error of the sandbox takes that shape, so that a client which reads
`errors[].errorMessage` always finds a sentence; the real bodies of 401, 403 and 404 are not documented.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: status, body as bytes, and headers beside content-type and content-length."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


def json_answer(value: object, status: int = 200) -> Answer:
    """An answer with `value` as compact JSON."""
    return Answer(status, msgspec.json.encode(value))


def error_answer(
    status: int, message: str, property_name: str | None = None, attempted: str | int | None = None
) -> Answer:
    """An error with one sentence, and where one field is at fault, its name and the value that was sent."""
    problem = {"errorMessage": message, "propertyName": property_name, "attemptedValue": attempted}
    return json_answer({"errors": [problem]}, status)


class Refusal(Exception):
    """Ends a handler from wherever it is: `answer` is sent. Nothing may have been changed before."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(f"status {answer.status}")


def refusal(
    status: int, message: str, property_name: str | None = None, attempted: str | int | None = None
) -> Refusal:
    """A refusal with one error, see `error_answer`."""
    return Refusal(error_answer(status, message, property_name, attempted))
