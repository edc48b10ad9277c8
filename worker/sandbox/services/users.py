"""The user service: the three logins."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.sandbox.calls import Handler

HANDLERS: dict[str, Handler] = {
    "clients.token": lambda sandbox, call: sandbox.auth.client_token(call.body, sandbox.contract.login_case),
    "users.login": lambda sandbox, call: sandbox.auth.login(call.body),
    "users.refresh": lambda sandbox, call: sandbox.auth.refresh(call.body),
}
