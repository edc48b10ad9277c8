"""Makes inputs out of good ones: bytes are changed, lost, doubled, or replaced by what parsers find hard."""

from __future__ import annotations

import random

HARD = (
    *(b"\x00", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xee\x80\x80", b"\x1b[2J"),
    *(b'"', b"\\", b"\\u", rb"\ud83d", rb"\ud83d\ude00", rb"\ude00", b"\\\\", b"\n", b"\t"),
    *(b"[", b"]", b"{", b"}", b",", b":", b"[[", b"}}", b"{}", b"[]", b'""', b'{"a":', b"null", b"true"),
    *(b"NaN", b"Infinity", b"-Infinity", b"1e308", b"1e999", b"-0", b"-1", b"0", b"1e-400", b"0x10"),
    *(b"9" * 25, b"9" * 5_000, b"1." + b"3" * 400, b"99999999999999", b"18446744073709551616"),
    *(b"[" * 1_200 + b"]" * 1_200, b'{"a":' * 1_200 + b"1" + b"}" * 1_200, b"[" * 3_000),
    *(b"&a [*a]", b"*a", b"!!python/object:os.system", b"$ref", b"../", b"%2e%2e", b"a" * 3_000),
    *(b"0001-01-01", b"9999-12-31T23:59:59Z", b"2026-02-30", b"24:00", b"1970-01-01T00:00:00.0000000Z"),
)
"""Parts that parsers find hard."""


def spoiled(good: bytes, random_: random.Random) -> bytes:
    """Return an input that was made of a good one by one change or several."""
    result = bytearray(good)
    for _ in range(random_.choice((1, 1, 1, 2, 3, 6))):
        at = random_.randrange(len(result) + 1)
        to = min(len(result), at + int(random_.expovariate(1 / 8)) + 1)
        match random_.randrange(6):
            case 0:
                result[at:at] = random_.choice(HARD)
            case 1:
                result[at:to] = random_.choice(HARD)
            case 2:
                del result[at:to]
            case 3:
                result[at:at] = result[at:to] * random_.choice((1, 2, 50))
            case 4 if at < len(result):
                result[at] = random_.randrange(256)
            case _:
                del result[at:]
    return bytes(result)
