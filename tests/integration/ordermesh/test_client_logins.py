"""The client and its tokens: what is renewed, what is tried again, and what ends a login."""

from __future__ import annotations

import msgspec
import pytest
from pydantic import SecretStr

from tests.support.order_search import SEARCH, fault
from tests.support.scripted_server import at_work
from tests.support.worker import account_for
from worker.errors import LoginRejected, ServerError, TokenRejected, UnreadableAnswer
from worker.ordermesh.http.usage import Usage
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


async def test_refused_token_is_renewed_once(redis_url: str, sandbox: SandboxServer) -> None:
    """When even a fresh token is refused: one forced renewal, no retries, and the server's words.

    The credentials are not blamed: the login has just succeeded.
    """
    fault(sandbox, code=401, body='{"message":"not for you"}')
    async with at_work(account_for(sandbox, attempts=5), redis_url) as desk:
        with pytest.raises(TokenRejected, match="not for you") as caught:
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert str(caught.value).startswith("orders.search: ")
    assert "The credentials are right." in str(caught.value)
    assert (sandbox.requests.count(SEARCH), sandbox.auth.issued) == (2, 2)


async def test_token_that_ends_early(redis_url: str, sandbox: SandboxServer) -> None:
    """A token that the server ends before its time costs one 401 and one login; the caller sees nothing."""
    async with at_work(account_for(sandbox), redis_url) as desk:
        usage = Usage()
        first = await desk.client.read_page(SEARCH, 0, 10, usage)
        sandbox.auth.expire_tokens()
        assert await desk.client.read_page(SEARCH, 0, 10, usage) == first
    assert (sandbox.requests.count(SEARCH, 401), sandbox.auth.issued) == (1, 2)
    assert (usage.requests, usage.retries) == (3, 0)


async def test_all_tokens_withdrawn(redis_url: str, sandbox: SandboxServer) -> None:
    """A token that another worker stored earlier may be withdrawn as well: that is no reason to give up."""
    account = account_for(sandbox)
    async with at_work(account, redis_url) as one, at_work(account, redis_url) as other:
        old = (await one.client.tokens.get()).access
        await other.client.tokens.renew(rejected=old)
        sandbox.auth.revoke()
        await one.client.read_page(SEARCH, 0, 10, Usage())
    assert (sandbox.requests.count(SEARCH, 401), sandbox.auth.issued) == (2, 3)


async def test_wrong_credentials(redis_url: str, sandbox: SandboxServer) -> None:
    """Refused credentials are not tried again, and the error holds the server's words but not the secret."""
    account = account_for(sandbox)
    account = msgspec.structs.replace(
        account, api=account.api.model_copy(update={"client_secret": SecretStr("wrong-secret")})
    )
    async with at_work(account, redis_url) as desk:
        with pytest.raises(LoginRejected, match="The client id or the client secret is wrong") as caught:
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert "wrong-secret" not in str(caught.value)
    assert sandbox.requests.count("clients.token") == 1
    assert sandbox.requests.count(SEARCH) == 0


async def test_login_is_retried(redis_url: str, sandbox: SandboxServer) -> None:
    """A user service that is out for a moment is asked again; its tries are not multiplied by the caller's."""
    fault(sandbox, operation="clients.token", code=503, times=2)
    async with at_work(account_for(sandbox, attempts=3), redis_url) as desk:
        await desk.client.read_page(SEARCH, 0, 10, Usage())
        assert sandbox.requests.count("clients.token") == 3
        sandbox.faults.clear()
        fault(sandbox, operation="clients.token", code=503)
        sandbox.auth.expire_tokens()
        with pytest.raises(ServerError):
            await desk.client.read_page(SEARCH, 0, 10, Usage())
    assert sandbox.requests.count("clients.token") == 6


async def test_login_that_answers_nonsense(redis_url: str, sandbox: SandboxServer) -> None:
    """A login answered with a web page is an unreadable answer."""
    fault(sandbox, operation="clients.token", action="garbage")
    async with at_work(account_for(sandbox), redis_url) as desk:
        with pytest.raises(UnreadableAnswer, match=r"clients\.token"):
            await desk.client.read_page(SEARCH, 0, 10, Usage())
