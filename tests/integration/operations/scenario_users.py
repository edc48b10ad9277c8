"""Scenarios of the user service."""

from __future__ import annotations

from tests.integration.operations.scenario import Walk, walks
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME


@walks("clients.token")
async def client_token(walk: Walk) -> None:
    session = (await walk.client.clients.token(CLIENT_ID, CLIENT_SECRET)).value
    assert session["tokenType"] == "Bearer"
    assert session["expiresIn"] > 80_000
    assert session["accessToken"].count(".") == 2


@walks("users.login")
async def login(walk: Walk) -> None:
    session = (await walk.client.users.login(USERNAME, PASSWORD, source="shell")).value
    assert (session["email"], session["expiresIn"]) == (USERNAME, 900)
    assert session["roles"][0]["permissionSet"][0]["resourceName"] == "order"
    assert walk.sandbox.requests.last()[-1].query == "source=shell"


@walks("users.refresh")
async def refresh(walk: Walk) -> None:
    first = (await walk.client.users.login(USERNAME, PASSWORD)).value
    second = (await walk.client.users.refresh(first["refreshToken"])).value
    assert second["accessToken"] != first["accessToken"]
    assert second["refreshToken"] != first["refreshToken"]
