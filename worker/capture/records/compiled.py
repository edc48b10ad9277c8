"""The compiled reader of content, where the package was built with it, or what does the same in Python. No I/O.

It has no rule of its own: what it returns for a record is what Python would have returned, or None. So no state, id or
event depends on it; only the time that a changed record takes does. How it is built: `hatch_build.py`.
"""

from __future__ import annotations

from array import array
from functools import lru_cache, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec
from xxhash import xxh3_64_hexdigest, xxh3_64_intdigest

from worker.clock import read_time
from worker.config.compiled import COMPILED, is_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Found: TypeAlias = tuple[tuple[str, ...], bytes, tuple[object, ...]] | None
    Read: TypeAlias = Callable[[bytes | msgspec.Raw], Found]
    Find: TypeAlias = Callable[[list[bytes], int, int, int, list[bytes]], list[bytes | None]]
    Add: TypeAlias = Callable[[list[bytes], int, int, int, list[tuple[bytes, bytes]], int], int]
    Moment: TypeAlias = Callable[[object], int | None]
    Arrange: TypeAlias = Callable[[bytes], tuple[int, bytes]]

SAMPLE = (
    '{"id":"65e0aa7be9ab8ac8a2e3b9a1","\\u00e9":{"b":[1,-2,300,-70000,5000000000],"a":{"y":null,"x":[]}},'
    '"total":12.50,"tax":-15e-1,"zero":-0,"paid":true,"open":false,"text":"a\\"b\\ud83d\\ude00/日本","long":"'
    + "0123456789abcdef" * 80
    + '"}'
).encode()
SAMPLE_HASHES = "9e71189f07d1a26b"
"""XXH3-64 of the hashes of the fields of `SAMPLE`. A compiled reader that finds others is not used."""
SWITCHED_OFF = f"{COMPILED} is off"
_FUNCTIONS = ("add", "arranged", "find", "moment")
_MOST_REQUESTED = 64
_MOST_ARRANGED = 512
_LAST_INDEX = 0xFFFF


def _load() -> tuple[Any, str]:
    """Return the compiled module, and why there is none."""
    if not is_wanted():
        return None, SWITCHED_OFF
    try:
        from worker.capture.records import _content  # noqa: PLC0415 - it may be missing
    except ModuleNotFoundError:
        return None, "the compiled reader was not built; install a C compiler, then this package again"
    except ImportError:
        return None, "the compiled reader cannot be loaded; install this package again"
    found = _content.Reader((), msgspec.json.decode).read(SAMPLE)
    is_current = found is not None and xxh3_64_hexdigest(found[1]) == SAMPLE_HASHES
    if not is_current or not all(hasattr(_content, name) for name in _FUNCTIONS):
        return None, "the compiled reader was built from another source; install this package again"
    return _content, ""


_compiled, missing = _load()
"""`missing`: why Python reads every record; "" if the compiled reader is in use."""
find: Find | None = _compiled and _compiled.find
"""Looks fingerprints up in a table of known bytes, as `KnownTable.find` does; None where that has to do it."""
add: Add | None = _compiled and _compiled.add
"""Adds records to such a table, which does not grow, and returns how many, as `KnownTable.add` does; None likewise."""
_moment: Moment | None = _compiled and _compiled.moment


def time_in(value: object) -> tuple[int, str] | None:
    """Return what `read_time` returns of a value, in less time of a text that the compiled function reads."""
    milliseconds = None if _moment is None else _moment(value)
    return read_time(value) if milliseconds is None else (milliseconds, cast("str", value))


@lru_cache(maxsize=64)
def reader_of(requested: tuple[str, ...]) -> Read:
    """Return the function that reads records: names of the fields, hashes of 8 bytes each, and the requested values.

    It returns None for a record that Python has to read.
    """
    if _compiled is None or len(requested) > _MOST_REQUESTED:
        return lambda _: None
    read: Read = _compiled.Reader(requested, msgspec.json.decode).read
    return read


def arranger_of(order: Sequence[int]) -> Arrange:
    """Return the function that puts hashes of 8 bytes each in another order.

    It returns their XXH3-64, and the low 16 bits of each. `order`: their indices; one behind the last is for a 0.
    """
    if _compiled is None or len(order) > _MOST_ARRANGED or max(order, default=0) > _LAST_INDEX:
        return arranger_in_python(order)
    return partial(_compiled.arranged, array("H", order).tobytes())


def arranger_in_python(order: Sequence[int]) -> Arrange:
    """Return what `arranger_of` returns, without the compiled function."""
    # With one index, itemgetter returns an item instead of a tuple, so there are always at least two.
    slices = (*(slice(8 * index, 8 * index + 8) for index in order), slice(0), slice(0))
    pick: Callable[[bytes], tuple[bytes, ...]] = itemgetter(*slices)

    def arrange(hashes: bytes) -> tuple[int, bytes]:
        arranged = b"".join(pick(hashes + bytes(8)))
        return xxh3_64_intdigest(arranged), memoryview(arranged).cast("H")[::4].tobytes()

    return arrange
