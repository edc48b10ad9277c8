"""Every key of an account has a type that doctor checks."""

from __future__ import annotations

import inspect
from typing import Any

from worker.keys import Keys

MARKS = {"processed"}
"""Keys of one event each: nothing lists them, and a wrong one concerns that event alone."""
BUCKETS = {"states", "last_published", "nested_ids"}
NO_KEY = {
    "base",
    "kinds",
    "kinds_of",
    "kinds_of_consumer",
    "kinds_of_resync",
    "kinds_of_worker",
    "bucket_prefixes",
}
NAMES = {"resource": "orders", "group": "g", "consumer": "c", "name": "r", "worker_id": "w", "event_id": "e"}


def made_by(name: str) -> str:
    """The key that a method or property of `Keys` names, with a name of each kind in it."""
    value: Any = getattr(Keys("a"), name)
    if callable(value):
        value = value(**{each: NAMES[each] for each in inspect.signature(value).parameters})
    return str(value)


def test_every_key_has_a_type() -> None:
    """A key that is new must be told of in one of the tables, or doctor says of a broken one that all is sound."""
    keys = Keys("a")
    known = {
        **keys.kinds,
        **keys.kinds_of("orders"),
        **keys.kinds_of_worker("w"),
        **keys.kinds_of_resync("r"),
        **keys.kinds_of_consumer("orders", "g", "c"),
    }
    names = {name for name in dir(Keys) if not name.startswith("_")} - {"account", "prefix"} - NO_KEY
    assert {made_by(name) for name in BUCKETS} == set(keys.bucket_prefixes("orders"))
    without = {name for name in names - MARKS - BUCKETS if made_by(name) not in known}
    assert without == set()
    assert set(known.values()) <= {"string", "hash", "list", "set", "zset", "stream"}
