"""Operations of a sandbox over real HTTP, called by their key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import httpx

from tests.support.waiting import PATIENCE
from worker.ordermesh.contract.operations import OPERATIONS
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, SandboxServer

SEARCH = OPERATIONS["orders.search"].path


def login(server: SandboxServer) -> str:
    """Return an access token of its client."""
    answer = httpx.post(
        server.url + OPERATIONS["clients.token"].path,
        json={"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET},
    )
    token: str = answer.raise_for_status().json()["accessToken"]
    return token


def get(server: SandboxServer, path: str, **query: str | int) -> httpx.Response:
    """Return the answer of a path, asked with a token of its own."""
    return httpx.get(server.url + path, params=query, headers={"authorization": f"Bearer {login(server)}"})


PRICE = {"currencies": [{"amount": 3.5, "currency": "USD"}], "amount": 3.5, "currency": "USD"}
"""A price as bodies have it."""


class SandboxApi:
    """A client that is logged in; a context manager."""

    def __init__(self, server: SandboxServer) -> None:
        self._http = httpx.Client(base_url=server.url, timeout=PATIENCE)
        login = {"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}
        answer = self._http.post(OPERATIONS["clients.token"].path, json=login).raise_for_status()
        self._http.headers["authorization"] = f"Bearer {answer.json()['accessToken']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def send(
        self, key: str, body: Any = None, *, query: Mapping[str, str | int] | None = None, **path: str
    ) -> httpx.Response:
        """The answer of an operation, whatever its status. `path`: the parameters of its path."""
        operation = OPERATIONS[key]
        url = operation.path.format(**path)
        return self._http.request(operation.method, url, params=query, json=body)

    def do(
        self, key: str, body: Any = None, *, query: Mapping[str, str | int] | None = None, **path: str
    ) -> Any:
        """The decoded answer of an operation that must succeed; None where it has no body."""
        answer = self.send(key, body, query=query, **path)
        assert answer.is_success, (key, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def refused(self, status: int, key: str, body: Any = None, **path: str) -> dict[str, Any]:
        """The first error of an operation that must be refused with this status."""
        answer = self.send(key, body, query=None, **path)
        assert answer.status_code == status, (key, answer.status_code, answer.text)
        error: dict[str, Any] = answer.json()["errors"][0]
        return error

    def audited(self, key: str, **path: str) -> list[str]:
        """The actions in the audit logs that an operation gives, oldest first."""
        return [each["action"] for each in self.do(key, query=None, **path)["auditLogs"]]
