"""Values in Redis that no program of ours has written, for every kind of key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

VALUES: dict[str, bytes] = {
    "empty": b"",
    "words": b"garbage",
    "not UTF-8": b"\xff\xfe\x00",
    "control characters": b"\x1b[2J\r\n\x00",
    "zero": b"0",
    "negative": b"-1",
    "huge": b"1e308",
    "infinite": b"inf",
    "no number": b"nan",
    "many digits": b"9" * 5_000,
    "far future": b"99999999999999",
    "deep": b"[" * 2_000 + b"]" * 2_000,
    "deep objects": b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
    "other JSON": b'{"at":1e308,"by":[],"a":null}',
    "list": b"[null,1,{}]",
}
"""Values of a string, a field or a member, by name."""

SCORES = {"infinite": "+inf", "minus infinite": "-inf", "huge": "1e308", "negative": "-1"}

Spoil = Callable[[Any, bytes], Any]
"""Spoils a key."""


def kinds_for(kind: str) -> Iterator[tuple[str, Spoil]]:
    """Yield the ways to spoil a key of this type, each with its name."""
    yield "another type", _retype(kind)
    for name, value in VALUES.items():
        yield name, _SPOILERS[kind](value)
    if kind == "zset":
        for name, score in SCORES.items():
            yield f"{name} score", _rescore(score)


def _retype(kind: str) -> Spoil:
    def spoil(client: Any, key: bytes) -> None:
        client.delete(key)
        if kind == "list":
            client.set(key, "x")
        else:
            client.rpush(key, "x")

    return spoil


def _string(value: bytes) -> Spoil:
    return lambda client, key: client.set(key, value, keepttl=True)


def _hash(value: bytes) -> Spoil:
    def spoil(client: Any, key: bytes) -> None:
        fields = client.hkeys(key)
        client.hset(key, mapping={**dict.fromkeys(fields, value), value: value})

    return spoil


def _set(value: bytes) -> Spoil:
    return lambda client, key: client.sadd(key, value)


def _list(value: bytes) -> Spoil:
    return lambda client, key: client.lpush(key, value)


def _zset(value: bytes) -> Spoil:
    return lambda client, key: client.zadd(key, {value: 1})


def _rescore(score: str) -> Spoil:
    def spoil(client: Any, key: bytes) -> None:
        for member in client.zrange(key, 0, -1):
            client.execute_command("ZADD", key, score, member)

    return spoil


def _stream(value: bytes) -> Spoil:
    def spoil(client: Any, key: bytes) -> None:
        newest = client.xrevrange(key, count=1)
        fields = newest[0][1] if newest else {b"a": b""}
        client.xadd(key, dict.fromkeys(fields, value))
        client.xadd(key, {value: value})

    return spoil


_SPOILERS: dict[str, Callable[[bytes], Spoil]] = {
    "string": _string,
    "hash": _hash,
    "set": _set,
    "list": _list,
    "zset": _zset,
    "stream": _stream,
}
