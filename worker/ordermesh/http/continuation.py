"""Continuations: what a response says of the page after it, where a list is not read by page numbers. No I/O.

A continuation is a token, which the next request sends back, or the address of the next page. The worker sends its
access token to its own gateway only: an address at another host is refused, and of any other only path and query are
used.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import msgspec

from worker.errors import UnreadableAnswer
from worker.ordermesh.contract.names import (
    CURSOR_FIELDS,
    HEADER,
    HEADERS,
    LINK_FIELDS,
    OUTER_FIELDS,
    TOKEN_FIELDS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.ordermesh.contract.profile import Listing
    from worker.ordermesh.http.reply import Reply

MAX_LENGTH = 16_384
"""Characters of a continuation. Servers refuse longer addresses and headers."""

_LINK = re.compile(r"<([^<>]*)>((?:\s*;\s*[\w*]+\s*=\s*(?:\"[^\"]*\"|[^\s\",;]+))*)")
_REL = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s\",;]+))", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Continuation:
    """How the next page is requested: with these query parameters and headers, or at this address of the gateway.

    `target`: path and query, "" where the path of the operation is used.
    """

    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    target: str = ""


def next_of(reply: Reply, place: str) -> str:
    """Return the continuation in a response, "" for none.

    Args:
        reply: The response.
        place: A field of the body, with dots where it is nested (`meta.nextCursor`), or `header:` and a name.

    """
    if place.startswith(HEADER):
        name = place.removeprefix(HEADER).lower()
        value = reply.headers.get(name, "").strip()
        return _next_link(value) if name == "link" else value
    return _text_at(_members(reply.raw), place)


def places_of(reply: Reply) -> Iterator[str]:
    """Yield the places of a response, by their usual names, that seem to have a continuation."""
    yield from (HEADER + name for name in HEADERS if next_of(reply, HEADER + name))
    members = _members(reply.raw)  # once for all names: the list, most of the body, is in it
    nested = (f"{outer}.{name}" for outer in OUTER_FIELDS for name in (*LINK_FIELDS, *TOKEN_FIELDS))
    for place in itertools.chain(LINK_FIELDS, TOKEN_FIELDS, nested):
        if _text_at(members, place):
            yield place


def names_next(reply: Reply) -> bool:
    """Return whether a response names a page after it. A cursor alone may be that of the page itself."""
    return any(place.rpartition(".")[2] not in CURSOR_FIELDS for place in places_of(reply))


def request_after(
    key: str, listing: Listing, continuation: str, *, base_url: str, path: str, page: int | None = None
) -> Continuation:
    """Return how the page after a continuation is requested.

    Args:
        key: The operation, for the error.
        listing: How the list continues.
        continuation: What the response before has given.
        base_url: The address of the gateway.
        path: The path of the operation.
        page: The number of the page, for the error.

    Raises:
        UnreadableAnswer: It cannot be sent, or leads to another host. The continuation is not in the message: it may
            contain a customer's data.

    """
    if len(continuation) > MAX_LENGTH:
        raise UnreadableAnswer(
            key,
            f"the continuation has more than {MAX_LENGTH} characters, so the rest cannot be read",
            page=page,
        )
    name = listing.next_parameter
    if name is None:
        return Continuation(target=_target(key, continuation, base_url=base_url, path=path, page=page))
    if not name.startswith(HEADER):
        return Continuation(query={name: continuation})
    if not continuation.isascii() or not continuation.isprintable():
        raise UnreadableAnswer(key, "the continuation cannot be sent in a header", page=page)
    return Continuation(headers={name.removeprefix(HEADER): continuation})


def _target(key: str, link: str, *, base_url: str, path: str, page: int | None) -> str:
    """Return path and query of the next page, whose address must be at the same host."""
    try:
        here = urlsplit(base_url)
        there = urlsplit(urljoin(base_url + path, link))
        same = there.hostname == here.hostname and _same_port(there, here)
        host = there.hostname or ""
    except ValueError:
        raise UnreadableAnswer(
            key, "the address of the next page is not a valid address", page=page
        ) from None
    if not same or there.scheme not in _PORTS or there.username is not None:
        where = (
            host if host.isprintable() and len(host) < 100 and host != here.hostname else "another address"
        )
        raise UnreadableAnswer(
            key,
            f"the next page is at {where}, not at {here.hostname}: the worker sends its token to no other host, so "
            "the rest cannot be read",
            page=page,
        )
    if (
        not there.path.startswith("/")
        or there.path.startswith("//")
        or not _is_plain(there.path + there.query)
    ):
        raise UnreadableAnswer(
            key, "the address of the next page has characters that cannot be sent", page=page
        )
    return there.path + (f"?{there.query}" if there.query else "")


def _same_port(there: Any, here: Any) -> bool:
    """Whether two addresses have the same port. Behind a proxy, a gateway may call itself http instead of https."""
    if there.port is None and here.port is None:
        return True
    return (there.port or _PORTS.get(there.scheme)) == (here.port or _PORTS.get(here.scheme))


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not set(text) & set(' "<>\\^`{|}')


def _next_link(header: str) -> str:
    """Return the address with the relation `next` in a `Link` header (RFC 8288), "" for none."""
    for address, parameters in _LINK.findall(header):
        relations = _REL.search(parameters)
        if relations and "next" in (relations[1] or relations[2] or "").lower().split():
            return str(address).strip()
    return ""


def _members(raw: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Return the fields of an object of JSON, none of anything else."""
    if not bytes(raw).lstrip().startswith(b"{"):
        return {}
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _text_at(members: Mapping[str, msgspec.Raw], place: str) -> str:
    """Return the continuation at a place. A name may itself contain dots, as `@odata.nextLink` does."""
    if place in members:
        try:
            return _text(msgspec.json.decode(members[place]))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ""
    name, _, rest = place.partition(".")
    return _text_at(_members(members[name]), rest) if rest and name in members else ""


def _text(value: Any) -> str:
    """Return a continuation as text; "" where it says that there is none. An address may be in an object."""
    if isinstance(value, dict):
        value = value.get("href", value.get("url"))
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value).strip() if value else ""
