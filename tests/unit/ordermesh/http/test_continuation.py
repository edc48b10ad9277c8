"""Where a response says which page is next, and which request follows from it: never one to another host."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import UnreadableAnswer
from worker.ordermesh.contract.names import HEADER, HEADERS, LINK_FIELDS, OUTER_FIELDS, TOKEN_FIELDS
from worker.ordermesh.contract.profile import Listing
from worker.ordermesh.http.continuation import Continuation, names_next, next_of, places_of, request_after
from worker.ordermesh.http.reply import Reply

BASE, PATH = "https://gateway.example/api", "/order/v1/orders"


def reply(body: Any = None, **headers: str) -> Reply:
    raw = json.dumps(body).encode()
    return Reply("orders.search", 200, raw, "application/json", None, headers=headers)


@pytest.mark.parametrize(
    ("place", "body", "expected"),
    [
        ("next", {"next": "abc"}, "abc"),
        ("next", {"next": 7}, "7"),
        ("next", {"next": {"href": "/x?y=1"}}, "/x?y=1"),
        ("meta.next", {"meta": {"next": "abc"}}, "abc"),
        ("@odata.nextLink", {"@odata.nextLink": "abc"}, "abc"),
        ("meta.@odata.nextLink", {"meta": {"@odata.nextLink": "abc"}}, "abc"),
        ("meta.next", {"meta": None}, ""),
        ("meta.next", {"meta": []}, ""),
        ("next", {"next": None}, ""),
        ("next", {"next": ""}, ""),
        ("next", {"next": False}, ""),
        ("next", {"next": True}, ""),
        ("next", {"next": ["abc"]}, ""),
        ("next", {}, ""),
        ("next", [], ""),
    ],
)
def test_a_place_in_the_body(place: str, body: Any, expected: str) -> None:
    """Nothing, in any way of saying it, is the end."""
    assert next_of(reply(body), place) == expected


def test_every_usual_place_is_found() -> None:
    """Each name of `contract.names`, alone in a response, at the top and in every outer object, and only there."""
    inner = (*LINK_FIELDS, *TOKEN_FIELDS)
    for place in (*inner, *(f"{outer}.{name}" for outer in OUTER_FIELDS for name in inner)):
        outer, _, name = place.rpartition(".") if place not in inner else ("", "", place)
        if "@odata" in place and outer:
            outer, name = place.removesuffix(".@odata.nextLink"), "@odata.nextLink"
        body: Any = {name: "/x"}
        for level in reversed(outer.split(".") if outer else []):
            body = {level: body}
        assert list(places_of(reply({"orders": [1, 2], **body}))) == [place]
    for name in HEADERS:
        assert list(places_of(reply({}, **{name.lower(): '</x>; rel="next"'}))) == [HEADER + name]
    for body in ([], None, {}, {"next": None, "meta": [], "page": {"next": ""}}):
        assert list(places_of(reply(body))) == []


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('<https://a/b?c=1>; rel="next"', "https://a/b?c=1"),
        ("</b>; rel=next", "/b"),
        ('</a>; rel="prev", </b>; title="x, y"; rel="next"', "/b"),
        ('</a>; rel="first next"', "/a"),
        ('</a>; rel="nextish"', ""),
        ("</a>", ""),
        ("", ""),
        ("<<<;;;,,,rel=next", ""),
    ],
)
def test_a_link_header(header: str, expected: str) -> None:
    assert next_of(reply({}, link=header), "header:Link") == expected


def test_another_header() -> None:
    assert next_of(reply({}, **{"x-ms-continuation": " abc "}), "header:x-ms-continuation") == "abc"
    assert next_of(reply({}), "header:x-ms-continuation") == ""


def test_a_body_that_is_no_json() -> None:
    broken = Reply("orders.search", 200, b'{"next": "a', "", None)
    assert next_of(broken, "next") == ""


@pytest.mark.parametrize("body", [{"next": "x"}, {"links": {"next": "/x"}}, {"paging": {"nextCursor": "x"}}])
def test_a_response_that_names_a_next_page(body: Any) -> None:
    assert names_next(reply(body))


@pytest.mark.parametrize("body", [{"cursor": "x"}, {"next": None}, {"page": 2}, {"page": {"number": 1}}, []])
def test_a_response_that_names_none(body: Any) -> None:
    assert not names_next(reply(body))


def after(continuation: str, **fields: Any) -> Continuation:
    return request_after("orders.search", Listing(**fields), continuation, base_url=BASE, path=PATH, page=1)


def test_a_token() -> None:
    """It goes where the contract says, and is not taken for an address."""
    assert after("https://elsewhere.example", next_parameter="cursor").query == {
        "cursor": "https://elsewhere.example"
    }
    assert after("abc", next_parameter="header:x-ms-continuation").headers == {"x-ms-continuation": "abc"}


@pytest.mark.parametrize("token", ["a\r\nAuthorization: x", "a\nb", "\x00", "\u00e9", "a\x7f"])
def test_a_token_that_is_no_header(token: str) -> None:
    with pytest.raises(UnreadableAnswer, match="cannot be sent in a header") as caught:
        after(token, next_parameter="header:x-ms-continuation")
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("https://gateway.example/api/order/v1/orders?c=1", "/api/order/v1/orders?c=1"),
        ("https://GATEWAY.example:443/x?c=1", "/x?c=1"),
        ("http://gateway.example/x", "/x"),
        ("http://gateway.example:443/x", "/x"),
        ("/x?c=1", "/x?c=1"),
        ("?c=1", "/api/order/v1/orders?c=1"),
        ("more?c=%20", "/api/order/v1/more?c=%20"),
    ],
)
def test_an_address_at_the_gateway(link: str, target: str) -> None:
    """Only path and query are used."""
    assert after(link) == Continuation(target=target)


@pytest.mark.parametrize(
    "link",
    [
        "https://elsewhere.example/x",
        "//elsewhere.example/x",
        "https://gateway.example.elsewhere.example/x",
        "https://gateway.example@elsewhere.example/x",
        "https://x:y@gateway.example/x",
        "https://gateway.example:8443/x",
        "ftp://gateway.example/x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://[::1",
        "https://gateway.example:port/x",
        "/x y",
        "/x\\y",
        "/x\r\nHost: y",
        "https://gateway.example//elsewhere.example/x",
        "/\u00e9",
        "x" * 20_000,
    ],
)
def test_an_address_that_is_refused(link: str) -> None:
    """Its text is not in the message, which may be a customer's data."""
    with pytest.raises(UnreadableAnswer) as caught:
        after(link)
    assert link not in str(caught.value)
    assert caught.value.page == 1


LINKS = r"(https?:)?/{0,3}[a-z@:.#?]{0,20}(gateway\.example)?[a-z/@:#?]{0,9}"


@given(link=st.text(max_size=60) | st.from_regex(LINKS, fullmatch=True))
def test_no_address_leads_to_another_host(link: str) -> None:
    """Whatever it is, it is refused, or appended to the address of the gateway."""
    try:
        target = after(link).target
    except UnreadableAnswer:
        return
    parts = urlsplit("https://gateway.example" + target)
    assert parts.netloc == "gateway.example"
    assert target.startswith("/")
    assert not target.startswith("//")
    assert target.isprintable()
