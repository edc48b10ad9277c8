"""Fingerprints: what counts as a change, and which fields it names."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.capture.records.fields import MAX_FIELDS, FieldIndex, Fingerprints
from worker.capture.records.fingerprint import (
    ContentHashes,
    RecordState,
    bucket_of,
    hash_of_ignored,
    link_of,
    pack_id,
    pack_unreadable,
    raw_fingerprint,
    read_content,
    salted_fingerprint,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.dictionaries(TEXTS, VALUES, min_size=1, max_size=8)
HEX = st.text("0123456789abcdef", min_size=24, max_size=24)
IDS = (
    HEX
    | HEX.map(str.upper)
    | st.uuids().map(str)
    | st.binary(min_size=12, max_size=16).map(bytes.hex)
    | st.text(max_size=20)
    # The texts whose bytes are those that a packed id might have.
    | st.text("abc", min_size=11, max_size=15)
    | st.text("abc", min_size=11, max_size=11).map(lambda text: "ff" + text.encode().hex())
)


def placed(names: FieldIndex, record: dict[str, Any], ignored: frozenset[str] = frozenset()) -> Fingerprints:
    """As the engine does it: new names get a place before the fingerprints are taken."""
    content = read_content(json.dumps(record).encode(), ignored)
    names.update([*names._names, *names.unknown(content.names)])
    return names.place(content)


def reordered(value: Any) -> Any:
    """The same content with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(each) for each in value] if isinstance(value, list) else value


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: `True` is no 1, and neither is 1.0."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


@given(
    raw=st.binary(min_size=8, max_size=8),
    content=st.integers(0, 2**32 - 1),
    modified=st.integers(0, 2**48 - 1),
    version=st.integers(0, 2**40),
    fields=st.binary(max_size=40).map(lambda each: each[: len(each) // 2 * 2]),
)
def test_state_round_trip(raw: bytes, content: int, modified: int, version: int, fields: bytes) -> None:
    """A state is read back as it was written."""
    state = RecordState.unpack(RecordState(raw, content, modified, version, fields).pack())
    expected = (raw, content, modified, version, fields)
    assert (state.raw, state.content, state.modified, state.version, state.fields) == expected


@given(
    fields=st.binary(max_size=40).map(lambda each: each[: len(each) // 2 * 2]),
    version=st.integers(0, 2**40),
    link=st.integers(1, 2**51) | st.integers(1, 2**23),
)
def test_the_link_to_the_last_event(fields: bytes, version: int, link: int) -> None:
    """The commit appends it; a state with it reads as one without, and one of layout 2 has none."""
    packed = RecordState(bytes(8), 0, 0, version, fields).pack()
    tag = 0 if link < 2**22 else 1 if link < 2**38 else 2
    last = (link * 4 + tag).to_bytes(3 + 2 * tag, "big")
    state = RecordState.unpack(packed + last)
    assert (state.version, state.fields, state.last_event) == (version, fields, link)
    assert (link_of(packed), link_of(packed + last), link_of(packed[:20])) == (b"", last, b"")
    assert RecordState.unpack(packed).last_event == 0


@given(st.binary(max_size=40))
def test_foreign_state_is_refused_or_read(packed: bytes) -> None:
    """Bytes of another hand raise ValueError and nothing else, or are a state that packs to a state again."""
    try:
        state = RecordState.unpack(packed)
    except ValueError:
        return
    assert RecordState.unpack(state.pack()).version == state.version


def test_times_outside_the_range_are_clamped() -> None:
    """A time before 1970 or beyond six bytes does not break a state."""
    assert RecordState.unpack(RecordState(bytes(8), 0, -5, 1, b"").pack()).modified == 0
    assert RecordState.unpack(RecordState(bytes(8), 0, 1 << 60, 1, b"").pack()).modified == (1 << 48) - 1


@given(st.lists(IDS, min_size=2, max_size=8, unique=True))
@example(["hello world", "ff" + b"hello world".hex()])
@example(["fifteen letters", "ff666966-7465-656e-206c-657474657273"])
@example(["ABCDEF" * 4, "abcdef" * 4])
def test_ids_never_collide(ids: list[str]) -> None:
    """Two ids never share a state, however alike they look; nor does an unreadable record."""
    packed = {pack_id(each) for each in ids} | {
        pack_unreadable(each.encode()[:8].ljust(8)) for each in ids[:1]
    }
    assert len(packed) == len(ids) + 1


def test_usual_ids_are_small() -> None:
    """24 hex digits take 12 bytes, a UUID 16."""
    assert len(pack_id("65e0aa7be9ab8ac8a2e3b9a1")) == 12
    assert len(pack_id("7f9c24e8-3b12-4fef-91e0-56a2d5a0c1d2")) == 16


@given(st.binary(max_size=30), st.integers(1, 2**20))
def test_bucket_is_one_of_them(packed: bytes, buckets: int) -> None:
    """A state has a bucket, always the same."""
    assert 0 <= bucket_of(packed, buckets) < buckets


@given(RECORDS)
def test_key_order_does_not_count(record: dict[str, Any]) -> None:
    """The same keys in another order, at any depth, are the same content."""
    names = FieldIndex()
    assert placed(names, record) == placed(names, reordered(record))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.5", "1.50"),
        ("1.5", "15e-1"),
        ("100.0", "1e2"),
        ("0.1", "1E-1"),
        ('"\\u00e9"', '"é"'),
        ('"/"', '"\\/"'),
        ('{"a": 1,"b":[ 2 ]}', '{"b":[2],"a":1}'),
        ("123456789012345678901234567890", " 123456789012345678901234567890"),
    ],
)
def test_spelling_does_not_count(one: str, other: str) -> None:
    """Spaces, escapes and the way a fraction is written are noise."""
    left, right = (read_content(f'{{"id":"x","v":{each}}}'.encode(), frozenset()) for each in (one, other))
    assert left.hashes == right.hashes


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "2"),
        ("1", '"1"'),
        ("1", "true"),
        ("null", "0"),
        ("null", '""'),
        ("[]", "{}"),
        ("[1,2]", "[2,1]"),
        ("1", "1.0"),
        ("18446744073709551616", "18446744073709551617"),
        ("1e400", "1e401"),
        ("1" * 5000, "1" * 5001),
        ('{"a":18446744073709551616}', '{"a":18446744073709551617}'),
    ],
)
def test_another_value_counts(one: str, other: str) -> None:
    """Any other value is a change, numbers beyond 64 bits or beyond a double included."""
    left, right = (read_content(f'{{"id":"x","v":{each}}}'.encode(), frozenset()) for each in (one, other))
    assert left.hashes != right.hashes


def test_long_number_leaves_other_fields_alone() -> None:
    """A number that needs the slow way does not change the fingerprints of the fields beside it."""
    fast = read_content(b'{"a":1.50,"b":{"y":2,"x":"\xc3\xa9"},"n":1}', frozenset())
    for number in (b"123456789012345678901234567890", b"1e999", b"1" * 5000):
        slow = read_content(b'{"a":1.50,"b":{"y":2,"x":"\xc3\xa9"},"n":' + number + b"}", frozenset())
        assert slow.hashes[:16] == fast.hashes[:16]


@pytest.mark.parametrize("record", [b"[]", b"1", b"null", b'"x"', b"{", b"1e999", b'{"a":1e999'])
def test_no_object_is_refused(record: bytes) -> None:
    """What is no JSON object has no content."""
    with pytest.raises(msgspec.DecodeError):
        read_content(record, frozenset())


@given(RECORDS, RECORDS, st.randoms(use_true_random=False))
def test_changed_names_exactly_what_changed(before: dict[str, Any], patch: dict[str, Any], rng: Any) -> None:
    """`changed` holds the fields with another value, new ones and gone ones, and no other."""
    after = {name: value for name, value in before.items() if rng.random() > 0.2} | patch
    keys = list(after)
    rng.shuffle(keys)
    after = {key: after[key] for key in keys}
    names = FieldIndex()
    old, new = placed(names, before), placed(names, after)
    missing = object()
    expected = {
        name
        for name in before.keys() | after.keys()
        if name not in before
        or name not in after
        or not same(before.get(name, missing), after.get(name, missing))
    }
    # -0.0 and 0.0 are told apart by JSON text and by the canonical form alike.
    assert set(names.differing(old.fields, new.fields)) == expected
    assert (old.content == new.content) == (not expected)


@given(st.lists(st.lists(st.sampled_from("abcdefghij"), unique=True, min_size=1), min_size=1, max_size=12))
def test_places_do_not_depend_on_shape(shapes: list[list[str]]) -> None:
    """Records of any shape, in any order, with new fields on the way: same content, same fingerprints."""
    names = FieldIndex()
    seen: dict[frozenset[str], Fingerprints] = {}
    for shape in shapes:
        record = {name: ord(name) for name in shape}
        result = placed(names, record)
        assert seen.setdefault(frozenset(shape), result) == result


def test_field_beyond_the_places_is_seen() -> None:
    """A change in the 257th field is a change, though it has no name of its own."""
    names = FieldIndex()
    record = {f"f{number}": number for number in range(MAX_FIELDS + 4)}
    old, new = placed(names, record), placed(names, record | {f"f{MAX_FIELDS + 2}": "other"})
    assert old.content != new.content
    assert names.differing(old.fields, new.fields) == ()


def test_small_record_without_places_is_seen() -> None:
    """When other records have used up all places, a change in a small record is still one."""
    names = FieldIndex([f"f{number}" for number in range(MAX_FIELDS)])
    old, new = placed(names, {"id": "x", "f0": 1, "late": 1}), placed(names, {"f0": 1, "id": "x", "late": 2})
    assert old.content != new.content
    assert old == placed(names, {"late": 1, "f0": 1, "id": "x"})


def test_shapes_are_bounded() -> None:
    """Records whose field names are made up as they go do not fill the memory."""
    names = FieldIndex()
    for number in range(5000):
        names.place(ContentHashes((f"n{number}",), read_content(b'{"x":1}', frozenset()).hashes))
    assert len(names._shapes) <= 1024


@given(RECORDS, st.data())
def test_ignored_fields_do_not_count(record: dict[str, Any], data: st.DataObject) -> None:
    """A field that is ignored may change, come and go: only its own fingerprint differs."""
    one = data.draw(st.sampled_from(sorted(record)))
    names, ignored = FieldIndex(), frozenset([one])
    old = placed(names, record, ignored)
    rest = {name: value for name, value in record.items() if name != one}
    for other in (record | {one: "something else"}, rest):
        new = placed(names, other, ignored)
        assert new.content == old.content
        assert names.differing(old.fields, new.fields, ignored) == ()
        assert names.ignores_alike(old.fields, new.fields)
        assert names.differing(names.kept(old.fields, new.fields, ignored), old.fields) == ()
        is_same = one in other and same(other[one], record[one])
        assert set(names.differing(old.fields, new.fields)) == (set() if is_same else {one})


@given(RECORDS, st.data())
def test_other_ignored_fields_are_noticed(record: dict[str, Any], data: st.DataObject) -> None:
    """The fingerprints tell that other fields were ignored, and that no field of the record differs."""
    one = data.draw(st.sampled_from(sorted(record)))
    names = FieldIndex()
    old, new = placed(names, record), placed(names, record, frozenset([one]))
    assert not names.ignores_alike(old.fields, new.fields)
    assert names.differing(old.fields, new.fields) == ()
    assert names.held(old.fields) == names.held(new.fields) <= frozenset(record)


def test_the_salt_of_ignored_fields() -> None:
    """It depends on the names, not on their order; without any there is none, so old fingerprints stay valid."""
    sets = [frozenset(names) for names in ((), ("a",), ("b",), ("a", "b"), ("b", "a"))]
    salts = [hash_of_ignored(names) for names in sets]
    assert salts[0] == 0
    assert len(set(salts)) == 4
    assert all(salt & 0xFFFF for salt in salts[1:])
    assert salted_fingerprint(0)(b"{}") == raw_fingerprint(b"{}")
    assert salted_fingerprint(salts[1])(b"{}") != raw_fingerprint(b"{}")


def test_raw_fingerprint_is_of_the_bytes() -> None:
    """One byte more or less is another fingerprint."""
    assert raw_fingerprint(b"{}") == raw_fingerprint(msgspec.Raw(b"{}"))
    assert raw_fingerprint(b"{}") != raw_fingerprint(b"{ }")
