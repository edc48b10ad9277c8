"""What Redis holds of a token, and what a gateway that refuses each token costs."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from unittest import mock

import msgspec
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from tests.support.scripted_server import Lab, OwnClock, at_work, count, http, lab, lab_account
from tests.support.servers import Server
from worker.config.sections import Account
from worker.errors import Forbidden, TokenRejected
from worker.keys import Keys
from worker.ordermesh.client import OrderMeshClient
from worker.ordermesh.http.auth import MAX_LIFETIME, Credentials, Token
from worker.ordermesh.http.token_cipher import TokenCipher
from worker.ordermesh.http.usage import Usage

pytestmark = pytest.mark.anyio

KEYS = Keys("default")
GATEWAY = "https://gateway.example"
OLD, NEW = "8f14e45fceea167a5a36dedd4bea2543", "c9f0f895fb98ab9159f51fd0297e236d"
CLIENT = Credentials("client-1", "weak", is_client=True)
TOKEN = Token("the-access-token", 2_000.0, 1_900.0, "the-refresh-token", 1_000.0)
LOGIN = "/user/v1/clients/token"


@pytest.fixture
async def gateway() -> AsyncIterator[Lab]:
    async with lab() as served:
        served.answers[LOGIN] = http(b'{"accessToken":"granted-token","expiresIn":86400}')
        yield served


async def read(client: OrderMeshClient) -> None:
    await client.read_page("orders.search", 0, 1, Usage())


def logins(gateway: Lab) -> int:
    """How often the gateway was asked for a token."""
    return count(gateway, LOGIN, "POST")


@pytest.mark.parametrize("keys", [(), (NEW,)], ids=["login", "secret key"])
async def test_nothing_can_be_read_or_tried_from_what_is_stored(keys: tuple[str, ...]) -> None:
    """Neither token nor login is in it, nor a hash of the login that needs no salt; twice it is not the same."""
    cipher = TokenCipher(GATEWAY, KEYS.token, keys)
    raw = await cipher.encrypt(TOKEN, CLIENT)
    for secret in (b"the-access-token", b"the-refresh-token", b"weak", b"client-1", OLD.encode()):
        assert secret not in raw
    unsalted = hashlib.sha256(f"{GATEWAY}\0client-1\0weak\0True".encode()).hexdigest()
    assert unsalted[:16].encode() not in raw
    assert raw != await cipher.encrypt(TOKEN, CLIENT)
    assert await cipher.decrypt(raw, CLIENT) == TOKEN


OTHERS = {
    "account": (GATEWAY, Keys("other").token, (NEW,), CLIENT),
    "prefix": (GATEWAY, Keys("default", "shop:").token, (NEW,), CLIENT),
    "gateway": ("https://b.example", KEYS.token, (NEW,), CLIENT),
    "name": (GATEWAY, KEYS.token, (NEW,), replace(CLIENT, name="client-2")),
    "secret": (GATEWAY, KEYS.token, (NEW,), replace(CLIENT, secret="weaker")),
    "kind": (GATEWAY, KEYS.token, (NEW,), replace(CLIENT, is_client=False)),
    "secret key": (GATEWAY, KEYS.token, (OLD,), CLIENT),
    "no secret key": (GATEWAY, KEYS.token, (), CLIENT),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
async def test_a_token_opens_for_its_own_login_alone(
    other: tuple[str, str, tuple[str, ...], Credentials],
) -> None:
    """A stored token that is copied to another key, or met by another login or key, is not used."""
    raw = await TokenCipher(GATEWAY, KEYS.token, (NEW,)).encrypt(TOKEN, CLIENT)
    base_url, key_name, keys, credentials = other
    assert await TokenCipher(base_url, key_name, keys).decrypt(raw, credentials) is None


async def test_keys_are_replaced_newest_first() -> None:
    """With both keys set, what the old one encrypted is read, and what is written needs the new one."""
    before = await TokenCipher(GATEWAY, KEYS.token, (OLD,)).encrypt(TOKEN, CLIENT)
    both = TokenCipher(GATEWAY, KEYS.token, (NEW, OLD))
    assert await both.decrypt(before, CLIENT) == TOKEN
    after = await both.encrypt(TOKEN, CLIENT)
    assert await TokenCipher(GATEWAY, KEYS.token, (NEW,)).decrypt(after, CLIENT) == TOKEN
    assert await TokenCipher(GATEWAY, KEYS.token, (OLD,)).decrypt(after, CLIENT) is None


async def test_each_byte_counts() -> None:
    """A stored token with one bit changed, or cut, is not used."""
    cipher = TokenCipher(GATEWAY, KEYS.token, (NEW,))
    fields = msgspec.json.decode(await cipher.encrypt(TOKEN, CLIENT))
    for name in ("salt", "nonce", "sealed"):
        for changed in (fields[name][:-4] + "AAAA", fields[name][:-4], "", "!", 1):
            raw = msgspec.json.encode({**fields, name: changed})
            assert await cipher.decrypt(raw, CLIENT) is None, (name, changed)
    assert await cipher.decrypt(msgspec.json.encode({**fields, "version": 2}), CLIENT) is None
    assert await cipher.decrypt(msgspec.json.encode({**fields, "sealed": "A" * 200_000}), CLIENT) is None


def with_key(account: Account, *keys: str) -> Account:
    return msgspec.structs.replace(account, secret_keys=tuple(SecretStr(key) for key in keys))


async def test_a_lost_key_costs_one_login(
    redis_url: str, db: Redis, gateway: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    """Another key, no key, garbage: one login each, which is said once; the right key needs none."""
    account = lab_account(gateway)
    expected = 0
    for keys, new_login in (((OLD,), 1), ((NEW, OLD), 0), ((NEW,), 1), ((), 1), ((), 0)):
        async with at_work(with_key(account, *keys), redis_url) as desk:
            await read(desk.client)
        expected += new_login
        assert logins(gateway) == expected, keys
        assert b"granted-token" not in await db.get(KEYS.token)
    await db.set(KEYS.token, b'{"access":"granted-token"}')
    async with at_work(account, redis_url) as desk:
        await read(desk.client)
    assert logins(gateway) == expected + 1
    assert caplog.text.count("token_not_readable") == 3


async def test_no_file_of_redis_has_the_token(own_server: Server, gateway: Lab) -> None:
    """Neither the values in Redis nor its files contain a token."""
    async with at_work(lab_account(gateway), own_server.url) as desk:
        await read(desk.client)
        assert await desk.client.tokens._redis.exists(KEYS.token)
        await desk.client.tokens._redis.save()
    files = [file for file in own_server.folder.rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if b"granted-token" in file.read_bytes()]


async def test_a_lifetime_is_capped(redis_url: str, db: Redis, gateway: Lab) -> None:
    """Ten years of validity are a day: a revoked or leaked token does not stay in use for good."""
    gateway.answers[LOGIN] = http(b'{"accessToken":"granted-token","expiresIn":315360000}')
    clock = OwnClock()
    async with at_work(lab_account(gateway), redis_url, clock) as desk:
        await read(desk.client)
        assert await db.pttl(KEYS.token) <= MAX_LIFETIME * 1000
        clock.offset += MAX_LIFETIME
        await read(desk.client)
    assert logins(gateway) == 2


async def test_a_clock_that_is_put_back_keeps_no_token_for_long(redis_url: str, gateway: Lab) -> None:
    """A token that seems to be valid for longer than any is renewed."""
    clock = OwnClock()
    async with at_work(lab_account(gateway), redis_url, clock) as desk:
        await read(desk.client)
    clock.offset -= 10 * 86_400
    async with at_work(lab_account(gateway), redis_url, clock) as desk:
        await read(desk.client)
    assert logins(gateway) == 2


async def test_401_to_everything_causes_no_storm_of_logins(redis_url: str, gateway: Lab) -> None:
    """Four hours of polls each minute: two logins at first, then one in five to ten minutes. It recovers at once."""
    gateway.default = http(b'{"message":"no"}', status="401 Unauthorized")
    clock = OwnClock()
    async with at_work(lab_account(gateway), redis_url, clock) as desk:
        for _ in range(240):
            with pytest.raises(TokenRejected):
                await read(desk.client)
            clock.offset += 60
        assert 24 <= logins(gateway) <= 48
        gateway.default = http(b"[]")
        await read(desk.client)


async def test_403_to_everything_leads_to_one_fresh_login(redis_url: str, gateway: Lab) -> None:
    """Permissions that were granted after the login are in force after ten minutes, not after a day."""
    clock = OwnClock()
    async with at_work(lab_account(gateway), redis_url, clock) as desk:
        gateway.default = http(b"[]")
        await read(desk.client)
        gateway.default = http(b'{"message":"no"}', status="403 Forbidden")
        for _ in range(60):
            clock.offset += 60
            with suppress(Forbidden):
                await read(desk.client)
    assert 2 <= logins(gateway) <= 7


async def test_a_403_to_one_operation_leads_to_no_login(redis_url: str, gateway: Lab) -> None:
    """An operation that the client may not use is refused for ever, while another one succeeds."""
    clock = OwnClock()
    gateway.default = http(b"[]")
    gateway.answers["/order/v1/orders/list"] = http(b"{}", status="403 Forbidden")
    async with at_work(lab_account(gateway), redis_url, clock) as desk:
        for _ in range(30):
            clock.offset += 1000
            await read(desk.client)
            with pytest.raises(Forbidden):
                await desk.client.read_page("orders.list", 0, 1, Usage())
    assert logins(gateway) == 1


async def test_many_accounts_derive_keys_one_after_the_other() -> None:
    """The memory of scrypt is taken once, and a login whose account is built again costs nothing."""
    stored = await asyncio.gather(
        *(TokenCipher(GATEWAY, f"key:{number}").encrypt(TOKEN, CLIENT) for number in range(5))
    )
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("derive-keys")]
    assert len(threads) == 1
    with mock.patch.object(hashlib, "scrypt", side_effect=AssertionError("derived again")):
        for number, raw in enumerate(stored):
            assert await TokenCipher(GATEWAY, f"key:{number}").decrypt(raw, CLIENT) == TOKEN
