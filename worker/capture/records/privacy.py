"""The privacy policy: a rule for each field of a record, applied before an event is written. No I/O.

`keep` publishes a field as served, `drop` leaves it out, `mask` writes `"***"` for a string and null for any other
value, and `hash` writes 32 hex digits of a keyed hash of the value (see `hashing.py`), so that equal values of a field
can be recognised without being revealed. On an object or a list, `mask` and `hash` apply to every value within.

A rule belongs to a path such as `shippingAddress.email`. Paths pass through lists implicitly, and names are compared
without case, `_` and `-`. The rule of a field applies to everything in the field unless a longer path has its own rule:
`meta` dropped and `meta.channel` kept leaves `meta` with that one field. `**.email` matches every field of that name at
any depth, unless a path has its own rule.

With the policy `minimal`, a field without a rule is published only if it is known and kept (see `minimal.py`). Fields
that are not known are counted, and their names are collected once.

A record in which no rule changes a field is published as served, byte for byte. In a changed record, values that no
rule can match are published as served, too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from worker.capture.records.equivalence import is_equivalent
from worker.capture.records.fingerprint import HiddenFields
from worker.capture.records.hashing import FieldHashes
from worker.capture.records.rules import (
    ANYWHERE,
    HashAs,
    Known,
    Rule,
    folded,
    folded_path,
    rule_of,
    search_for,
)
from worker.surrogates import readable, restored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.capture.records.rules import FieldRule
    from worker.config.sections import PrivacySettings

MASK = b'"***"'
MAX_NAMED = 100
"""Unknown fields of a resource that are named; further ones are only counted."""

_VERSION = 2
"""Of what the rules do: a record that was published under another version is not used for old values."""
_MAX_NAME = 80
_MAX_NAMES = 1024
_NESTED = frozenset({b"{", b"["})
_WHOLE = (Rule.KEEP, Rule.DROP)

_as_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_as_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_as_text = msgspec.json.Decoder(str).decode
_as_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class UnknownFields:
    """Fields that were removed because they are not known: how many values, and the paths not named before."""

    values: int
    paths: tuple[str, ...]


_Seen: TypeAlias = "tuple[bytes, _Node, FieldRule | None, FieldRule | None]"


class _Node:
    """What applies to one field: its rule, and the nodes of the fields in it by their folded names.

    Attributes:
        rule: Its rule; None if a configured one is inherited, or none is there.
        deeper: A field in it has a rule.
        passes: Its value is published if no rule applies, unless it is an object.
        stays: An empty object or list, or null, is published if no rule applies.
        seen: For each name that occurred in it: the encoded name, its node, the rule of that node, and the rule for the
            name at any depth.

    """

    __slots__ = ("children", "deeper", "passes", "rule", "seen", "stays")

    def __init__(self, *, passes: bool, stays: bool) -> None:
        self.rule: FieldRule | None = None
        self.children: dict[str, _Node] = {}
        self.seen: dict[str, _Seen] = {}
        self.passes, self.stays, self.deeper = passes, stays, False


class RecordPolicy:
    """The rules for the records of one resource.

    Args:
        rules: The rules by path.
        hashes: The hashes of the values.
        known: The known fields by path; then only these are published without a rule. None: all fields are.

    """

    def __init__(
        self,
        rules: Mapping[str, FieldRule],
        hashes: FieldHashes | None = None,
        known: Mapping[str, Known] | None = None,
    ) -> None:
        self._hashes = hashes or FieldHashes(b"", "", "")
        self._is_open = known is None
        self._root = _Node(passes=False, stays=True)
        self._other = self._node()
        self._anywhere: dict[str, FieldRule] = {}
        for path, kind in (known or {}).items():
            node = self._at(path)
            node.passes, node.stays = kind is Known.VALUE, kind is not Known.REMOVED
        for path, rule in rules.items():
            if path.startswith(ANYWHERE):
                self._anywhere[folded(path.removeprefix(ANYWHERE))] = rule
            else:
                self._at(path, is_rule=True).rule = rule
        self._somewhere = search_for(self._anywhere)
        kept = (
            None if known is None else sorted((folded_path(path), kind.value) for path, kind in known.items())
        )
        named = sorted((folded_path(path), str(rule)) for path, rule in rules.items())
        self.tag = self._hashes.tag(json.dumps([_VERSION, named, kept]))
        """Identifies the rules and the key of this policy."""
        self._hides: dict[str, bool] = {}
        names = [path.removeprefix(ANYWHERE) for path in rules]
        self.hidden = frozenset(name for name in names if "." not in name and self.hides(name))
        """Identifies the top-level fields that `hides` is true of. Names are spelled as in the rules."""
        if known is not None:
            shown = sorted(name for name in self._root.children if not self.hides(name))
            self.hidden |= {f"all but {','.join(shown)}"}
        self._unknown, self._named, self._new = 0, set[str](), list[str]()

    def _node(self) -> _Node:
        return _Node(passes=self._is_open, stays=self._is_open)

    def _at(self, path: str, *, is_rule: bool = False) -> _Node:
        """Return the node at a path, which is added if it is not there; `is_rule`: it is about to have a rule."""
        node = self._root
        for name in path.split("."):
            node.deeper |= is_rule
            key = folded(name)
            if key not in node.children:
                node.children[key] = self._node()
            node = node.children[key]
        return node

    def hides(self, name: str) -> bool:
        """True of a top-level field that is dropped entirely.

        An event for a change in such fields alone would repeat the previous event.
        """
        result = self._hides.get(name)
        if result is None:
            if len(self._hides) >= _MAX_NAMES:
                self._hides.clear()
            result = self._hides[name] = self._is_hidden(name)
        return result

    def _is_hidden(self, name: str) -> bool:
        node = self._root.children.get(folded(name), self._other)
        rule = node.rule or self._anywhere.get(folded(name))
        if rule is not None or self._is_open:
            return rule is Rule.DROP and not node.deeper
        is_found = any(each is not Rule.DROP for each in self._anywhere.values())
        return not node.stays and not node.deeper and not is_found

    def hidden_with(self, ignored: frozenset[str]) -> HiddenFields:
        """Return the top-level fields whose changes are not published: `ignored` ones, and those that are hidden."""
        return HiddenFields(ignored, self.hidden, self.hides)

    def unknown_fields(self) -> UnknownFields:
        """Return the fields that were removed since the last call because they are not known."""
        result = UnknownFields(self._unknown, tuple(self._new))
        self._unknown, self._new = 0, []
        return result

    def publish(self, record: bytes | msgspec.Raw) -> bytes:
        """Return the record as it is published; as served, byte for byte, if no rule changes it.

        Raises:
            msgspec.DecodeError: The record is not a JSON object.
            RecursionError: The record is nested too deeply.

        """
        served = bytes(record)
        text = readable(served)
        published = self._object(text, self._root, None, "") or b"{}"
        if published == text or is_equivalent(published, text):
            return served
        return published if text == served else restored(published, served)

    def _value(self, raw: bytes, node: _Node, rule: FieldRule | None, path: str) -> bytes | None:
        """Return the published form of a value under its own or an inherited rule; None if it is dropped."""
        if raw[:1] not in _NESTED:
            return self._ruled(raw, rule, path) if rule else self._unruled(raw, node, path)
        if rule is None:
            if not node.children and not self._is_somewhere_in(raw):
                if self._is_open:
                    return raw
                if not node.stays:
                    self._note_removed(node, path)
                    return None
        elif not node.deeper and rule in _WHOLE:
            return raw if rule is Rule.KEEP else None
        return self._object(raw, node, rule, path) if raw[:1] == b"{" else self._list(raw, node, rule, path)

    def _ruled(self, raw: bytes, rule: FieldRule, path: str) -> bytes | None:
        """Return the published form of a text, a number, true, false or null that has a rule."""
        if rule in _WHOLE:
            return raw if rule is Rule.KEEP else None
        is_text = raw[:1] == b'"'
        if rule is Rule.MASK:
            return MASK if is_text else b"null"
        if raw == b"null":
            return raw
        group = rule.group if isinstance(rule, HashAs) else ""
        return b'"%s"' % self._hashes.of(_as_text(raw).encode() if is_text else raw, path, group).encode()

    def _unruled(self, raw: bytes, node: _Node, path: str) -> bytes | None:
        if node.passes or (node.stays and raw == b"null"):
            return raw
        self._note_removed(node, path)
        return None

    def _note_removed(self, node: _Node, path: str) -> None:
        """Count a field that is removed because it is not known, and name it once."""
        if node is not self._other:
            return
        self._unknown += 1
        name = "".join(sign if sign.isprintable() else "?" for sign in path[:_MAX_NAME])
        if name not in self._named and len(self._named) < MAX_NAMED:
            self._named.add(name)
            self._new.append(name)

    def _object(self, raw: bytes, node: _Node, rule: FieldRule | None, path: str) -> bytes | None:
        members, seen = [], node.seen
        for name, value in _as_object(raw).items():
            head, child, exact, anywhere = seen.get(name) or self._rule_of(node, name)
            effective, served = exact or rule or anywhere, bytes(value)
            if effective is None and child.passes and served[:1] not in _NESTED:  # as most fields are
                members.append(head + served)
                continue
            published = self._value(served, child, effective, f"{path}.{name}" if path else name)
            if published is not None:
                members.append(head + published)
        if not members and _vanishes(node, rule):
            return None
        return b"{" + b",".join(members) + b"}"

    def _rule_of(self, node: _Node, name: str) -> _Seen:
        if len(node.seen) >= _MAX_NAMES:  # generated field names must not fill the memory
            node.seen.clear()
        key = folded(name)
        child = node.children.get(key, self._other)
        result = _as_json(name) + b":", child, child.rule, self._anywhere.get(key)
        node.seen[name] = result
        return result

    def _list(self, raw: bytes, node: _Node, rule: FieldRule | None, path: str) -> bytes | None:
        published = [self._value(bytes(value), node, rule, path) for value in _as_list(raw)]
        kept = [item for item in published if item is not None]
        if not kept and _vanishes(node, rule):
            return None
        return b"[" + b",".join(kept) + b"]"

    def _is_somewhere_in(self, raw: bytes) -> bool:
        """True if a name that has a rule at any depth may occur in a value."""
        return bool(self._anywhere) and (self._somewhere is None or self._somewhere.search(raw) is not None)


def policy_for(resource: str, settings: PrivacySettings, account: str) -> RecordPolicy | None:
    """Return the policy of a resource of an account by the settings; None if records are published as served."""
    rules = {path: rule_of(action) for path, action in settings.fields.get(resource, {}).items()}
    known = None
    if settings.policy == "minimal":
        from worker.capture.records.minimal import known_fields  # noqa: PLC0415 - imports every schema

        known = known_fields(resource)
    if known is None and all(rule is Rule.KEEP for rule in rules.values()):
        return None
    key = settings.key.get_secret_value() if settings.key else ""
    return RecordPolicy(rules, FieldHashes(key.encode(), account, resource), known)


def _vanishes(node: _Node, rule: FieldRule | None) -> bool:
    """True if an empty object or list is not published."""
    return rule is Rule.DROP or (rule is None and not node.stays)
