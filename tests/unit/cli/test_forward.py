"""`ordersync forward`: what answers mean, who is to blame, addresses, and signatures. No I/O."""

from __future__ import annotations

import base64

import pytest

from worker.cli.forward.address import check_address, shown
from worker.cli.forward.answers import MAX_RETRY_AFTER, BlameCount, Verdict, judge
from worker.cli.forward.signature import key_of, message_id, signed_headers
from worker.errors import SettingsError

NOW = 1_795_963_108.0
ONE, TWO = ("orders", "1-0"), ("orders", "2-0")


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 201, 202, 204, 299), Verdict.TAKEN),
        ((400, 402, 409, 413, 415, 418, 422, 499, 500, 501, 505, 599), Verdict.REFUSED),
        ((301, 302, 303, 307, 308, 304, 100), Verdict.UNAVAILABLE),
        ((401, 403, 404, 405, 407), Verdict.UNAVAILABLE),
        ((408, 425, 429, 502, 503, 504), Verdict.UNAVAILABLE),
        ((410,), Verdict.GONE),
    ],
)
def test_what_a_status_means(statuses: tuple[int, ...], verdict: Verdict) -> None:
    """The event is to blame only where the receiver has seen it; an address that is wrong takes no event at all."""
    assert {judge(status, None, NOW).verdict for status in statuses} == {verdict}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0), ("", 0), ("120", 120), (" 7 ", 7), ("0", 0), ("-5", 0), ("1.5", 0), ("soon", 0), ("²", 0),
        ("99999999999999999999", MAX_RETRY_AFTER), ("Sun, 29 Nov 2026 18:00:00 GMT", MAX_RETRY_AFTER),
        ("Sun, 29 Nov 2026 14:38:58 GMT", 30), ("Sun, 29 Nov 2020 14:38:58 GMT", 0),
        ("Sun, 99 Nov 2026 14:38:58 GMT", 0),
    ],
)  # fmt: skip
def test_retry_after(text: str | None, seconds: float) -> None:
    """Seconds or a time; anything else asks for nothing, and nobody can ask for more than ten minutes."""
    assert judge(503, text, NOW).retry_after == seconds


def test_reasons_are_in_our_words() -> None:
    """A reason stands in the log and in a dead letter: it has nothing of what the receiver wrote."""
    assert judge(422, None, NOW).reason == "HTTP 422 Unprocessable Entity"
    assert judge(599, None, NOW).reason == "HTTP 599"


def test_a_receiver_that_is_down_makes_no_dead_letters() -> None:
    """However often an event fails: it counts only when the receiver has taken another event since."""
    blame = BlameCount()
    assert [blame.failed(ONE, Verdict.UNAVAILABLE, everything_fails=True) for _ in range(1000)] == [0] * 1000
    blame.taken(TWO)
    assert [blame.failed(ONE, Verdict.UNAVAILABLE, everything_fails=False) for _ in range(3)] == [1, 1, 1]
    blame.taken(TWO)
    assert blame.failed(ONE, Verdict.UNAVAILABLE, everything_fails=False) == 2


def test_a_refused_event_counts() -> None:
    """Each refusal does, unless every event is refused; a success forgets what was before."""
    blame = BlameCount()
    assert [blame.failed(ONE, Verdict.REFUSED, everything_fails=False) for _ in range(3)] == [1, 2, 3]
    assert blame.failed(ONE, Verdict.REFUSED, everything_fails=True) == 3
    blame.taken(ONE)
    assert blame.failed(ONE, Verdict.REFUSED, everything_fails=False) == 1


@pytest.mark.parametrize(
    "address",
    ["https://shop.example/in?key=1", "https://10.0.0.1:8443/", "http://127.0.0.1:9/", "http://127.8.8.8/",
     "http://[::1]:80/x", "http://localhost/x"],
)  # fmt: skip
def test_good_addresses(address: str) -> None:
    """Https to anywhere, http to this machine."""
    check_address(address, allow_http=False)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://shop.example/", "--allow-http"), ("http://127.0.0.1.shop.example/", "--allow-http"),
        ("http://localhost.shop.example/", "--allow-http"), ("http://0.0.0.0/", "--allow-http"),
        ("http://10.0.0.1/", "--allow-http"), ("http://[::ffff:10.0.0.1]/", "--allow-http"),
        ("https://user:word@shop.example/", "must not contain a user"), ("https://@shop.example/", "must not contain"),
        ("http://127.0.0.1@shop.example/", "must not contain"), ("https://shop.example/#a", "fragment"),
        ("ftp://shop.example/", "write an address"), ("shop.example", "write an address"), ("", "write an address"),
        ("https://", "write an address"), ("https://shop.example:0/", "write an address"),
        ("https://shop.example:99999/", "write an address"), ("https://shop.example/a b", "write an address"),
        ("https://shop.example/\nx", "write an address"), ("https://[::1/", "write an address"),
        ("https://shöp.example/", "write an address"), ("file:///etc/passwd", "write an address"),
    ],
)  # fmt: skip
def test_bad_addresses(address: str, said: str) -> None:
    """Everything else is refused, with what to do instead."""
    with pytest.raises(SettingsError, match=said):
        check_address(address, allow_http=False)


def test_allow_http() -> None:
    """With the flag, http to other machines is permitted, and nothing else."""
    check_address("http://shop.example/", allow_http=True)
    for address in ("https://shop.example/", "https://127.0.0.1/", "http://localhost:9200/", "http://[::1]/"):
        with pytest.raises(SettingsError, match="--allow-http has no effect"):
            check_address(address, allow_http=True)
    with pytest.raises(SettingsError):
        check_address("ftp://shop.example/", allow_http=True)


def test_an_address_is_shown_without_its_query() -> None:
    """A token in it is no matter of the log."""
    assert shown("https://shop.example/in?token=abc") == "https://shop.example/in?..."
    assert shown("https://shop.example/in") == "https://shop.example/in"


def test_the_example_of_standard_webhooks() -> None:
    """The signature of the example that the specification's libraries test with."""
    headers = signed_headers(
        [key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_two_secrets_sign_both() -> None:
    """While a secret is replaced the receiver may know either one."""
    keys = [b"n" * 24, b"o" * 32]
    both = signed_headers(keys, "a", 1, b"x")["webhook-signature"].split(" ")
    assert both == [signed_headers([key], "a", 1, b"x")["webhook-signature"] for key in keys]
    assert all(len(base64.b64decode(each.removeprefix("v1,"))) == 32 for each in both)
    assert "webhook-signature" not in signed_headers([], "a", 1, b"x")


def test_the_id_of_a_message() -> None:
    """That of the event, in characters that a header can have; a batch has one of its own."""
    assert message_id(["order:a1:2:c4a4acfe"]) == "order:a1:2:c4a4acfe"
    assert message_id(["order:a.b c/é\n:2:0"]) == "order:a%2Eb%20c%2F%C3%A9%0A:2:0"
    assert message_id(["a", "b"]) == message_id(["a", "b"]) != message_id(["b", "a"])
    assert message_id(["a", "b"]).isascii()
