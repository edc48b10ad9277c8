"""Addresses of Redis: what they lead to, and why others cannot be used."""

from __future__ import annotations

import re

import pytest

from ordersync_consumer.redaction import Redaction
from ordersync_consumer.servers.address import Address, Kind, parse, secrets_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/2", Address(Kind.ONE, "redis://h:1/2")),
        (
            "redis+sentinel://h1,h2:7/shop",
            Address(Kind.SENTINEL, "redis://h1:26379/0", (("h1", 26379), ("h2", 7)), "shop"),
        ),
        (
            "rediss+sentinel://u:p%40w@[::1]:7/my%2Fshop/3?sentinel_username=s&sentinel_password=a%26b&ssl_ca_certs=/f",
            Address(
                Kind.SENTINEL, "rediss://u:p%40w@[::1]:7/3?ssl_ca_certs=%2Ff", (("::1", 7),), "my/shop", "s", "a&b"
            ),
        ),
        (
            "redis+cluster://:p@h1:1,h2/",
            Address(Kind.CLUSTER, "redis://:p@h1:1/0", (("h1", 1), ("h2", 6379))),
        ),
    ],
)  # fmt: skip
def test_what_an_address_leads_to(url: str, expected: Address) -> None:
    """Hosts, name, database, and two logins."""
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://h", "must be an address like redis://host:6379/0"),
        ("unix+sentinel://h/x", "must be an address like"),
        ("redis+sentinel://h1:1", "names no master"),
        ("redis+sentinel://h1:1/shop/zero", "'zero' is not a database number"),
        ("redis+sentinel://h1:0/shop", "'h1:0' is not a host and a port"),
        ("redis+sentinel://h1:1,,h2:2/shop", "'' is not a host and a port"),
        ("redis+cluster://h1:99999", "is not a host and a port"),
        ("redis+cluster://h1:1/1", "a cluster has no databases"),
        ("redis+cluster://h1:1?sentinel_password=secret-word", "need redis+sentinel://"),
    ],
)
def test_addresses_that_cannot_be_used(url: str, words: str) -> None:
    """In words that say what to write, without the password."""
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        parse(url)
    assert "secret-word" not in str(caught.value)


def test_passwords_of_addresses_are_hidden() -> None:
    """Those of the servers and those of the sentinels, as they are written and as they are meant."""
    url = "redis+sentinel://u:word%40one@h1:1,h2:2/shop?sentinel_password=word%26two"
    assert secrets_of(url) == ("word@one", "word%40one", "word&two")
    shown = Redaction().text(f"cannot reach {url}, says {url}")
    assert "word%40one" not in shown
    assert "word%26two" not in shown
