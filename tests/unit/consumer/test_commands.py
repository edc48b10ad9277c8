"""Commands as they are sent to Redis: what redis-py sends, with fewer copies on the way."""

from __future__ import annotations

from typing import Any

import pytest
import redis.exceptions
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Connection

from ordersync_consumer.servers.connection import Plain

BINARY = st.binary(max_size=9) | st.sampled_from([b"x" * 7000])
WORDS: st.SearchStrategy[Any] = st.one_of(
    st.text(), BINARY, st.just(memoryview(b"seen")), st.integers(), st.floats(allow_nan=False)
)


@given(st.sampled_from(["GET", "SCRIPT LOAD", "ACL SETUSER x", b"CONFIG GET"]), st.lists(WORDS))
def test_a_command_is_what_redis_py_makes_of_it(name: str | bytes, words: list[Any]) -> None:
    """In one piece, whatever the types and lengths of its words."""
    expected = Connection().pack_command(name, *words)
    assert Plain().pack_command(name, *words) == [b"".join(expected)]


@pytest.mark.parametrize("word", [None, True, [1]])
def test_a_word_of_another_type_is_refused(word: Any) -> None:
    """As by redis-py: nobody knows what it should be in Redis."""
    with pytest.raises(redis.exceptions.DataError):
        Plain().pack_command("SET", "a", word)
