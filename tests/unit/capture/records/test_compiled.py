"""The compiled reader of content: it gives what Python gives, or leaves the record to Python."""

from __future__ import annotations

import gc
import json
import random
import tracemalloc
from array import array
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_hexdigest, xxh3_64_intdigest

from tests.support.fuzzing.records import record_text
from tests.support.tools import missing
from worker.admin import checks
from worker.capture.records import actions, compiled, decoding, diff, fields, fingerprint, raw_records
from worker.capture.records.events import EventBuilder
from worker.capture.records.fields import FieldIndex
from worker.capture.records.fingerprint import RecordState, decoded
from worker.capture.records.payload import AS_SERVED
from worker.capture.registry import ORDERS
from worker.clock import read_time
from worker.config.settings import Settings

try:
    from worker.capture.records import _content
except ImportError:  # there is no C compiler
    _content = None  # type: ignore[assignment]

ASKED = (ORDERS.read_fields, (*ORDERS.read_fields, ORDERS.id_field))
REQUESTED = ("updatedAt", "b", "nowhere", "id")
SPELLINGS = st.tuples(
    st.booleans(), st.sampled_from([None, 1]), st.sampled_from([(",", ":"), (" , ", "\t: ")])
)
NAMES = st.sampled_from(["id", "updatedAt", "b", "é", "日本", "😀", "a" * 40]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=9
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**66), 2**66)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(-1000, 1000, places=2).map(float)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)

LEFT = (
    *("", " ", "{", "[]", "1", '{"a":1', '{"a":1}}', '{"a":1,}', '{"a" 1}', "{a:1}", '{"a":1}x', "{}"),
    *(
        '{"a":01}',
        '{"a":1.}',
        '{"a":.5}',
        '{"a":-}',
        '{"a":+1}',
        '{"a":1e}',
        '{"a":NaN}',
        '{"a":tru}',
        '{"a":1 2}',
    ),
    *(
        '{"a":"\t"}',
        '{"a":"\\x"}',
        '{"a":"\\u12"}',
        '{"a":"\\ud83d"}',
        '{"a":"\\ude00"}',
        '{"a":"\\ud83d\\u0041"}',
    ),
    *('{"a":1,"a":2}', '{"a":{"b":1,"b":2}}', '{"a":{"b":1,"c":1,"b":2}}', '{"a":{"c":1,"b":1,"c":2}}'),
    *('{"a":1234567890123456789}', '{"a":1e23}', '{"a":0.30000000000000004}', '{"a":9007199254740993.0}'),
    '{"a":' + "[" * 70 + "]" * 70 + "}",
    '{"a":{' + ",".join(f'"{number:03}":1' for number in range(70, 0, -1)) + "}}",
    "{" + ",".join(f'"{number}":1' for number in range(600)) + "}",
    '{"' + "n" * 9_000 + '":1}',
    '{"a":"' + "x" * (4 << 20) + '"}',
)
"""Records that are left to Python."""


@pytest.fixture(scope="module")
def read() -> compiled.Read:
    """The compiled reader, also where ORDERSYNC_COMPILED is off."""
    if _content is None:
        missing("the compiled reader was not built")
    read: compiled.Read = _content.Reader(REQUESTED, msgspec.json.decode).read
    return read


def spelled(record: dict[str, Any], spelling: tuple[bool, int | None, tuple[str, str]]) -> bytes:
    """Return a record as JSON, spelled in one of the ways that JSON allows."""
    ascii_only, indent, separators = spelling
    return json.dumps(record, ensure_ascii=ascii_only, indent=indent, separators=separators).encode()


@settings(max_examples=50)
@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=8), SPELLINGS)
def test_it_gives_what_python_gives(
    read: compiled.Read, record: dict[str, Any], spelling: tuple[bool, int | None, tuple[str, str]]
) -> None:
    """Names, hashes and values, bit for bit; a record that it does not handle, it leaves."""
    text = spelled(record, spelling)
    names, hashes, values = decoded(text, REQUESTED)
    found = read(text)
    assert found is None or (found[0], found[1], repr(found[2])) == (names, hashes, repr(values))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.data())
def test_hashes_are_arranged_as_by_python(
    read: compiled.Read, hashes: list[int], data: st.DataObject
) -> None:
    """In any order, with fields that are absent."""
    order = data.draw(st.lists(st.integers(0, len(hashes)), max_size=50))
    given_ = b"".join(one.to_bytes(8, "little") for one in hashes)
    low = b"".join((one & 0xFFFF).to_bytes(2, "little") for one in ([*hashes, 0][index] for index in order))
    in_python = compiled.arranger_in_python(order)(given_)
    assert in_python[1] == low
    assert _content.arranged(array("H", order).tobytes(), given_) == in_python


def published(
    records: list[bytes], before: dict[str, bytes], ignored: frozenset[str], *, contents: bool = False
) -> list[object]:
    """Return the states and events of records of a page, as a scan makes them; `contents`: as in `observe`."""
    index, result = FieldIndex(), list[object]()
    served = [msgspec.Raw(record) for record in records]
    for raw in raw_records.observe(ORDERS, served, ignored=ignored, contents=contents):
        record = decoding.decode(ORDERS, raw, before.get(raw.identifier, b""), ignored)
        if record.content:
            index.update([*index._names, *index.unknown(record.content.names)])
        change = diff.decide(record, index, baseline=True)
        result += [
            change.action,
            change.after,
            change.changed,
            change.linked,
            change.modified,
            change.problem,
        ]
        if change.action in actions.PUBLISHED:
            result.append(EventBuilder("order", AS_SERVED).event(change, 1.0))
    return result


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sets(st.sampled_from(["b", "é", "updatedAt"])))
def test_no_state_and_no_event_depends_on_it(read: compiled.Read, seed: int, ignored: set[str]) -> None:
    """The same records, new and changed, give the same states, event ids and events with it and without it."""
    random_, identifier = random.Random(seed), "65e0aa7be9ab8ac8a2e3b9a1"
    head = f'{{"id":"{identifier}",'.encode()
    texts = [head + record_text(random_).strip()[1:] for _ in range(4)]
    old = RecordState(b"12345678", 7, 0, 3, b"ab" * 9).pack()
    with pytest.MonkeyPatch.context() as patch:
        for before in ({}, {identifier: old}):
            given_ = texts, before, frozenset(ignored)
            readers = {names: _content.Reader(names, msgspec.json.decode).read for names in ASKED}
            for module in (raw_records, fingerprint):
                patch.setattr(module, "reader_of", readers.__getitem__)
            patch.setattr(
                fields, "arranger_of", lambda order: partial(_content.arranged, array("H", order).tobytes())
            )
            with_it = published(*given_)
            assert published(*given_, contents=True) == with_it
            for module in (raw_records, fingerprint):
                patch.setattr(module, "reader_of", lambda _: lambda _: None)
            patch.setattr(fields, "arranger_of", compiled.arranger_in_python)
            assert published(*given_) == with_it
            assert published(*given_, contents=True) == with_it


def test_most_records_are_handled(read: compiled.Read) -> None:
    """Those of the vendor, and three in four of those that are made to be hard."""
    order = b'{"id":"65add2700000000000000001","total":12.50,"note":"\\ud83d\\ude00","items":[{"z":1,"a":2}]}'
    assert read(order) is not None
    texts = [record_text(random.Random(number)) for number in range(200)]
    assert sum(read(text) is not None for text in texts) > 140


@pytest.mark.parametrize("text", LEFT, ids=range(len(LEFT)))
def test_what_it_leaves_to_python(read: compiled.Read, text: str) -> None:
    """What is invalid, what is not exact in one step, and what would take too much time or memory."""
    assert read(text.encode()) is None


@pytest.mark.parametrize(
    "text", [b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\xe0\x80\x80", b"\xff"]
)
def test_invalid_utf8_is_left_to_python(read: compiled.Read, text: bytes) -> None:
    """In a value and in a name."""
    assert read(b'{"a":"' + text + b'"}') is None
    assert read(b'{"' + text + b'":1}') is None


def test_every_length_is_hashed_as_by_xxhash(read: compiled.Read) -> None:
    """The lengths that XXH3 treats in ways of their own, and those around its blocks of 1,024 bytes."""
    given_ = random.Random(1).randbytes(5_000)
    lengths = [*range(1_200), *range(2_000, 2_100), 3_072, 3_073, 4_096, 4_097, 5_000]
    assert [n for n in lengths if _content.xxh3(given_[:n]) != xxh3_64_intdigest(given_[:n])] == []


def test_a_record_within_a_record(read: compiled.Read) -> None:
    """Python code that runs while the values are read may read another record with the same reader."""
    inner = list[object]()

    def decode(text: bytes) -> object:
        inner.append(reader.read(b'{"a":"' + b"z" * 5_000 + b'","b":"x"}'))
        return msgspec.json.decode(text)

    reader = _content.Reader(("a", "b"), decode)
    found = reader.read(b'{"b":[1,2],"a":{"c":2}}')
    assert found is not None
    assert found[2] == ({"c": 2}, [1, 2])
    assert [each[2] for each in inner] == [("z" * 5_000, "x")] * 2  # type: ignore[index]


def test_generated_names_do_not_fill_the_memory(read: compiled.Read) -> None:
    """Records of 1,024 shapes are remembered at most, about 1 kB each here."""
    gc.collect()
    tracemalloc.start()
    for number in range(8_000):
        assert read(b'{"' + b"n" * 500 + str(number).encode() + b'":1}')
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 3_000_000


def test_the_arguments_of_the_reader(read: compiled.Read) -> None:
    """More requested fields than it has room for, and what is no text, are refused."""
    with pytest.raises(ValueError, match="at most 64"):
        _content.Reader(tuple(map(str, range(65))), msgspec.json.decode)
    with pytest.raises(TypeError):
        read("{}")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 512"):
        _content.arranged(bytes(2 * 513), b"")
    for wrong in ((b"",), ("", b""), (b"", "")):
        with pytest.raises(TypeError):
            _content.arranged(*wrong)
    assert compiled.reader_of(tuple(map(str, range(65))))(b'{"a":1}') is None


def test_the_sample_has_the_hashes_of_today() -> None:
    """They are those that Python finds: a reader of an older source must not be used."""
    assert xxh3_64_hexdigest(decoded(compiled.SAMPLE, ())[1]) == compiled.SAMPLE_HASHES


TIMES = st.builds(
    "{}{}{}{}".format,
    st.datetimes().map(lambda at: at.isoformat(timespec="seconds")),
    st.sampled_from(["", ".", "."]),
    st.text("0123456789", max_size=9),
    st.sampled_from(["Z", "Z", "Z", "z", "+00:00", "-05:30", "", " "]),
)
SPOILED = st.tuples(
    TIMES, st.integers(0, 40), st.sampled_from([*"0123456789-:TtZ.,+ ", "", "é", "٣", "\ud83d", "\0"])
)


@settings(max_examples=500)
@given(
    SPOILED.map(lambda spoiled: spoiled[0][: spoiled[1]] + spoiled[2] + spoiled[0][spoiled[1] + 1 :]) | TIMES
)
@example("2026-02-29T00:00:00Z")
@example("2024-02-29T23:59:59.999999999Z")
@example("2100-02-29T00:00:00Z")
@example("2000-02-29T00:00:00Z")
@example("1970-01-01T00:00:00.0009Z")
@example("2026-03-01T12:00:00.Z")
@example("2026-12-31T24:00:00Z")
@example("2251-01-01T00:00:00.123457Z")
def test_a_time_is_read_as_by_python(read: compiled.Read, text: str) -> None:
    """Milliseconds and text, or it is left to Python, as is each that is no usual one."""
    found = _content.moment(text)
    assert found is None or (found, text) == read_time(text)


@given(
    st.datetimes(datetime.fromisoformat("1970-01-01"), datetime.fromisoformat("2250-12-31")),
    st.integers(0, 10**7 - 1),
)
def test_usual_times_are_handled(read: compiled.Read, at: datetime, fraction: int) -> None:
    """With seven digits, as the order service writes them, and without; each day of each month."""
    text = at.isoformat(timespec="seconds")
    for usual in (f"{text}Z", f"{text}.{fraction:07}Z"):
        assert (_content.moment(usual), usual) == read_time(usual)


def test_what_is_no_text_has_no_time(read: compiled.Read) -> None:
    """It is left to Python, which says so."""
    others: list[object] = [None, 1, 1.5, b"2026-03-01T12:00:00Z", [], {}]
    assert [_content.moment(value) for value in others] == [None] * 6
    assert compiled.time_in(5) is None


def test_when_it_is_not_used(read: compiled.Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is switched off, or answers otherwise than the source of today. Then Python reads, and `doctor` says why."""
    monkeypatch.setenv("ORDERSYNC_COMPILED", "on")
    assert compiled._load() == (_content, "")
    monkeypatch.setattr(compiled, "SAMPLE_HASHES", "0" * 16)
    assert "another source" in compiled._load()[1]
    monkeypatch.setenv("ORDERSYNC_COMPILED", "off")
    assert compiled._load() == (None, "ORDERSYNC_COMPILED is off")


@pytest.mark.parametrize(
    ("why", "finding"),
    [
        ("", ("ok", "records are read by the compiled reader")),
        (
            compiled.SWITCHED_OFF,
            ("note", "records are read by Python, which is slower: ORDERSYNC_COMPILED is off"),
        ),
    ],
)
def test_doctor_says_which_reader_is_used(
    monkeypatch: pytest.MonkeyPatch, why: str, finding: tuple[str, str]
) -> None:
    """Neither is a problem."""
    monkeypatch.setattr(compiled, "missing", why)
    found = checks.check_settings(Settings(), ())
    assert [(each.level, each.text) for each in found if each.text.startswith("records are")] == [finding]
