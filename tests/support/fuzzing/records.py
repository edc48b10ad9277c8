"""Makes JSON records of every form, spelled in every way, with what a reader finds hard now and then."""

from __future__ import annotations

import random
from itertools import chain

TEXTS = (
    *(
        "",
        "a",
        "b",
        "aa",
        "ab",
        "A",
        "id",
        "updatedAt",
        "é",
        "日本",
        "😀",
        '"',
        "\\",
        "/",
        "\n",
        "\x00",
        "\x7f",
    ),
    *(
        "x" * 31,
        "x" * 32,
        "x" * 33,
        "y" * 255,
        "y" * 256,
        "z" * 700,
        "ü" * 40,
        "a\u2028b",
        "tab\there",
        "\ue000",
    ),
)
WHOLE = (
    *(
        "0",
        "-0",
        "1",
        "-1",
        "127",
        "128",
        "255",
        "256",
        "65535",
        "65536",
        "4294967295",
        "4294967296",
        "-32",
        "-33",
    ),
    *(
        "-128",
        "-129",
        "-32768",
        "-32769",
        "-2147483648",
        "-2147483649",
        "999999999999999999",
        "-999999999999999999",
    ),
)
FRACTIONS = (
    *(
        "0.0",
        "-0.0",
        "1.5",
        "1.50",
        "15e-1",
        "1e5",
        "1E+5",
        "0.1",
        "4.99",
        "123456789012345.6",
        "1e22",
        "1e-22",
        "0e5",
    ),
    *("9007199254740992.0", "3.14159265358979", "0.000001", "100.00", "1e0", "-2.5E-3", "12345678.87654321"),
)
HARD = (
    *(
        "1234567890123456789",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "1e400",
        "5e-324",
    ),
    *(
        "9007199254740993.0",
        "0.30000000000000004",
        "1e23",
        "1e-23",
        "1e308",
        "0.00000000000000000001",
        "9" * 30,
    ),
    *(
        "01",
        "1.",
        ".5",
        "-",
        "1e",
        "+1",
        "1e0005",
        "0x1",
        "NaN",
        r'"\ud83d"',
        r'"\ude00"',
        r'"\ud83d\u0041"',
        r'"\x"',
    ),
    *(
        '"\t"',
        "tru",
        "nul",
        "[1,]",
        '{"a":1,}',
        '{"a":1,"a":2}',
        '{"b":1,"c":1,"b":2}',
        "[" * 70 + "]" * 70,
        '"',
    ),
)
_SPACES = ("", "", "", "", "", "", " ", "\n", "\t ", "\r\n")
_SHORT = {"\n": r"\n", "\t": r"\t", '"': r"\"", "\\": r"\\"}


def record_text(random_: random.Random) -> bytes:
    """Return a record. About one in eight has something hard in it."""
    hard = random_.choice((0.0,) * 7 + (0.05,))
    return (_space(random_) + _object(random_, 0, hard) + _space(random_)).encode()


def _space(random_: random.Random) -> str:
    return random_.choice(_SPACES)


def _object(random_: random.Random, depth: int, hard: float) -> str:
    count = random_.choice((0, 1, 2, 3, 5, 17)) if depth else random_.choice((1, 2, 5, 12, 36))
    names = [random_.choice(TEXTS) + random_.choice(("", str(random_.randrange(100)))) for _ in range(count)]
    if random_.random() > hard:
        names = list(dict.fromkeys(names))
    members = [
        f"{_space(random_)}{_text(random_, name)}{_space(random_)}:{_value(random_, depth, hard)}"
        for name in names
    ]
    return "{" + f"{_space(random_)},".join(members) + _space(random_) + "}"


def _value(random_: random.Random, depth: int, hard: float) -> str:
    if hard and random_.random() < hard:
        return random_.choice(HARD)
    kind = random_.randrange(20) if depth < 4 else random_.randrange(17)
    if kind < 7:
        return _text(random_, random_.choice(TEXTS) + random_.choice(("", "k", "é")))
    if kind < 14:
        return random_.choice(WHOLE if kind < 10 else FRACTIONS)
    if kind < 17:
        return random_.choice(("null", "true", "false"))
    if kind == 17:
        return _space(random_) + _object(random_, depth + 1, hard) + _space(random_)
    count = random_.choice((0, 1, 2, 3, 17 if depth < 2 else 2))
    return "[" + ",".join([_value(random_, depth + 1, hard) for _ in range(count)]) + _space(random_) + "]"


def _text(random_: random.Random, characters: str) -> str:
    """Return a text with the escapes that it needs, and seldom with others."""
    if characters.isalnum() and random_.random() < 0.9:
        return f'"{characters}"'
    return '"' + "".join([_character(random_, each) for each in characters]) + '"'


def _character(random_: random.Random, character: str) -> str:
    code = ord(character)
    if character in _SHORT and random_.random() < 0.7:
        return _SHORT[character]
    if code >= 0x20 and character not in '"\\' and random_.random() < 0.9:
        return r"\/" if character == "/" else character
    pair = character.encode("utf-16-be").hex()
    halves = chain.from_iterable(("\\u", pair[at : at + 4]) for at in range(0, len(pair), 4))
    return "".join(halves) if random_.random() < 0.5 else "".join(halves).upper().replace("U", "u")
