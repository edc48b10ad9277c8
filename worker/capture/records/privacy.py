"""The privacy policy: a rule for each field of a record, applied before an event is written. No I/O.

`keep` publishes a field as served, `drop` leaves it out, `mask` writes `"***"` for a string and null for any other
value, and `hash` writes 32 hex digits of the HMAC-SHA256 of the value, so that equal values can be recognised
without being revealed. On an object or a list, `mask` and `hash` apply to every value within.

A rule belongs to a path such as `shippingAddress.email`. Paths pass through lists implicitly and are
case-insensitive. The rule of a field applies to everything in the field unless a longer path has its own rule: `meta`
dropped and `meta.channel` kept leaves `meta` with that one field. `**.email` matches every field of that name at any
depth, unless a path has its own rule.

A record in which no rule changes a field is published as served, byte for byte. In a changed record, values that no
rule can match are published as served, too.
"""

from __future__ import annotations

import hmac
import json
import re
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from worker.ordermesh.http.reply import AUDIT_IDS, AUDIT_TIMES
from worker.surrogates import readable, restored

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.config.sections import PrivacySettings

MASK = b'"***"'
HASH_DIGITS = 32
AUDIT_SUFFIX = "_audit"
"""Suffix of the names of audit logs."""
ANYWHERE = "**."
"""Prefix of a path that matches one name at any depth."""

_MAX_NAMES = 1024
_NESTED = frozenset({b"{", b"["})
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")

_as_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_as_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_as_text = msgspec.json.Decoder(str).decode
_as_anything = msgspec.json.Decoder().decode
_as_json = msgspec.json.Encoder().encode
_loosely = partial(json.loads, parse_int=str, parse_float=str)  # accepts numbers of any length


class Rule(StrEnum):
    """The action for a field."""

    KEEP = "keep"
    DROP = "drop"
    MASK = "mask"
    HASH = "hash"


def _within(field: str, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    return {f"{field}.{path}": rule for path, rule in rules.items()}


def _except(field: str, *kept: str) -> dict[str, Rule]:
    return {field: Rule.DROP} | {f"{field}.{name}": Rule.KEEP for name in kept}


_PICTURES = _except("images", "area", "printMethod")  # a printed picture may show a person
_ITEM = {
    **_PICTURES,
    "meta": Rule.DROP,
    "clientAttributes": Rule.DROP,
    "refundData.refunds.transactionId": Rule.DROP,
    "refundData.refunds.reason": Rule.DROP,
}
_PERSONAL_NAMES = (
    *("firstName", "middleName", "lastName", "fullName", "companyName", "displayName", "userName"),
    *("customerName", "buyerName", "contactName", "recipient", "recipientName", "attention"),
    *("address", "addresses", "shippingAddress", "billingAddress", "returnAddress", "billingInfo"),
    *("shipTo", "billTo"),
    *("line1", "line2", "line3", "address1", "address2", "address3", "street", "street1", "street2"),
    *("addressLine1", "addressLine2", "addressLine3"),
    *("city", "zip", "zipCode", "postalCode", "postCode", "longitude", "latitude"),
    *("phone", "phoneNumber", "telephone", "mobile", "fax", "customerPhone", "buyerPhone", "contactPhone"),
    *("email", "emailAddress", "customerEmail", "buyerEmail", "contactEmail", "recipientEmail", "userEmail"),
    *("ip", "ipAddress"),
    *("customerPaymentMethods", "cardFirst4", "cardLast4", "customerTransactions", "authorizationCode"),
)
_ANYWHERE_MINIMAL = {f"{ANYWHERE}{name}": Rule.DROP for name in _PERSONAL_NAMES}
"""The vendor's documentation is known only in part, so a name that suggests personal data is dropped at any depth."""

MINIMAL: dict[str, dict[str, Rule]] = {
    "orders": {
        **_except("shippingAddress", "countryCode"),
        **_except("billingAddress", "countryCode"),
        **_except("returnAddress", "countryCode"),
        **_except("client", "source", "version"),
        "customerPaymentMethods": Rule.DROP,
        "meta": Rule.DROP,
        **_within("items", _ITEM),
    },
    "order_items": _ITEM,
    "shipments": {
        "customerId": Rule.DROP,
        "customerShippingAddressId": Rule.DROP,
        "merchantPaymentId": Rule.DROP,
        **_within("orderItems", _except("images", "area")),
    },
    "notes": {"text": Rule.DROP, "user.name": Rule.DROP},
}
"""The policy `minimal`: the personal data among the known fields, in addition to the names that are dropped everywhere.

Names, addresses except for the country, phone numbers, email addresses, payment details, free text, customers'
pictures, and the maps into which a shop may write anything (`meta`, `clientAttributes`).
"""


_ENTRY_KEPT = (
    *AUDIT_IDS, *AUDIT_TIMES, "action", "type", "eventType", "operation", "version",
    "resourceId", "resourceType", "entityId", "entityType",
)  # fmt: skip
"""The fields of an audit log entry that `minimal` keeps: its id, its time, the operation and the object.

No field of entries is documented; the user, and old and new values, may contain personal data."""


class _Node:
    """The rules for one field: its own rule, and the nodes of the fields in it by their names in lower case.

    `seen` caches for each name that occurred in the field: the encoded name, its node, the rule of that node, and the
    rule for the name at any depth.
    """

    __slots__ = ("children", "rule", "seen")

    def __init__(self) -> None:
        self.rule: Rule | None = None
        self.children: dict[str, _Node] = {}
        self.seen: dict[str, tuple[bytes, _Node, Rule | None, Rule | None]] = {}


class RecordPolicy:
    """The rules for the records of one resource.

    Args:
        rules: The rules by path.
        key: The key of the hashes.
        otherwise: The rule for fields without a rule, their own or an inherited one.

    """

    def __init__(self, rules: Mapping[str, Rule], key: bytes = b"", otherwise: Rule | None = None) -> None:
        self._key, self._otherwise = key, otherwise
        self._root, self._leaf = _Node(), _Node()
        self._anywhere: dict[str, Rule] = {}
        for path, rule in rules.items():
            if path.startswith(ANYWHERE):
                self._anywhere[path.removeprefix(ANYWHERE).lower()] = rule
            else:
                self._add_rule(path, rule)
        self._somewhere = _search_for(self._anywhere)
        canonical = json.dumps(sorted((path.lower(), rule) for path, rule in rules.items()))
        canonical += otherwise or ""
        self.tag = hmac.digest(key, canonical.encode(), "sha256")[:4]
        """Identifies the rules and the key of this policy."""
        names = {path.removeprefix(ANYWHERE) for path in rules}
        self.hidden = frozenset(name for name in names if "." not in name and self._hides(name.lower()))
        """Top-level fields that are dropped entirely: an event for a change in them alone would repeat the previous
        event. Names are spelled as in the rules."""

    def _add_rule(self, path: str, rule: Rule) -> None:
        node = self._root
        for name in path.lower().split("."):
            node = node.children.setdefault(name, _Node())
        node.rule = rule

    def _hides(self, name: str) -> bool:
        node = self._root.children.get(name, self._leaf)
        return (node.rule or self._anywhere.get(name)) is Rule.DROP and not node.children

    def publish(self, record: bytes | msgspec.Raw) -> bytes:
        """Return the record as it is published; as served, byte for byte, if no rule changes it.

        Raises:
            msgspec.DecodeError: The record is not a JSON object.
            RecursionError: The record is nested too deeply.

        """
        served = bytes(record)
        text = readable(served)
        published = self._object(text, self._root, self._otherwise) or b"{}"
        if published == text or _is_equivalent(published, text):
            return served
        return published if text == served else restored(published, served)

    def _value(self, raw: bytes, node: _Node, rule: Rule | None) -> bytes | None:
        """Return the published form of a value under its own or an inherited rule; None if it is dropped."""
        kind = raw[:1]
        if kind in _NESTED:
            if not node.children:
                if rule is Rule.DROP:
                    return None
                if rule is Rule.KEEP or (rule is None and not self._is_somewhere_in(raw)):
                    return raw
            return self._object(raw, node, rule) if kind == b"{" else self._list(raw, node, rule)
        if rule is Rule.HASH and raw != b"null":
            return self._hash(_as_text(raw).encode() if kind == b'"' else raw)
        if rule is Rule.MASK:
            return MASK if kind == b'"' else b"null"
        return None if rule is Rule.DROP else raw

    def _object(self, raw: bytes, node: _Node, rule: Rule | None) -> bytes | None:
        members, seen = [], node.seen
        for name, value in _as_object(raw).items():
            head, child, exact, anywhere = seen.get(name) or self._rule_of(node, name)
            effective, served = exact or rule or anywhere, bytes(value)
            is_plain = effective is None and served[:1] not in _NESTED  # as most fields are
            published = served if is_plain else self._value(served, child, effective)
            if published is not None:
                members.append(head + published)
        if rule is Rule.DROP and not members:
            return None
        return b"{" + b",".join(members) + b"}"

    def _rule_of(self, node: _Node, name: str) -> tuple[bytes, _Node, Rule | None, Rule | None]:
        if len(node.seen) >= _MAX_NAMES:  # generated field names must not fill the memory
            node.seen.clear()
        lowered = name.lower()
        child = node.children.get(lowered, self._leaf)
        result = _as_json(name) + b":", child, child.rule, self._anywhere.get(lowered)
        node.seen[name] = result
        return result

    def _list(self, raw: bytes, node: _Node, rule: Rule | None) -> bytes | None:
        published = [self._value(bytes(value), node, rule) for value in _as_list(raw)]
        kept = [item for item in published if item is not None]
        if rule is Rule.DROP and not kept:
            return None
        return b"[" + b",".join(kept) + b"]"

    def _hash(self, value: bytes) -> bytes:
        digest = hmac.digest(self._key, value, "sha256").hex()
        return b'"' + digest[:HASH_DIGITS].encode() + b'"'

    def _is_somewhere_in(self, raw: bytes) -> bool:
        """True if a name that has a rule at any depth may occur in a value."""
        return bool(self._anywhere) and (self._somewhere is None or self._somewhere.search(raw) is not None)


def policy_for(resource: str, settings: PrivacySettings) -> RecordPolicy | None:
    """Return the policy that the settings give for a resource; None if every record is published as served."""
    own = {path: Rule(action) for path, action in settings.fields.get(resource, {}).items()}
    predefined: dict[str, Rule] = {}
    otherwise = None
    if settings.policy == "minimal" and resource.endswith(AUDIT_SUFFIX):
        predefined, otherwise = dict.fromkeys(_ENTRY_KEPT, Rule.KEEP), Rule.DROP
    elif settings.policy == "minimal":
        predefined = {**_ANYWHERE_MINIMAL, **MINIMAL.get(resource, {})}
    # A configured rule of a field replaces all predefined rules of the field and of the fields in it.
    replaced = tuple(f"{path.lower()}." for path in own)
    rules = {p: rule for p, rule in predefined.items() if not f"{p.lower()}.".startswith(replaced)} | own
    if otherwise is None and all(rule is Rule.KEEP for rule in rules.values()):
        return None
    key = settings.key.get_secret_value() if settings.key else ""
    return RecordPolicy(rules, key.encode(), otherwise)


def _search_for(names: Iterable[str]) -> re.Pattern[bytes] | None:
    """Return a pattern that finds one of these field names, or any name that is spelled with escapes.

    None if a name has another spelling that the pattern would not find.
    """
    if not all(_PLAIN_NAME.fullmatch(name) for name in names):
        return None
    either = "|".join(sorted(map(re.escape, names)))
    return re.compile(rf'"(?:{either})"[ \t\r\n]*:|\\u'.encode(), re.IGNORECASE)


def _is_equivalent(published: bytes, served: bytes) -> bool:
    """True if both are spellings of the same value, so that no rule has changed anything.

    False if a name occurs twice in an object: the first of the two fields would be published unchecked.
    """
    try:
        if _as_anything(published) != _as_anything(served):
            return False
    except msgspec.DecodeError:
        pass  # numbers beyond the range of msgspec
    unique = True

    def check_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal unique
        fields = dict(pairs)
        unique = unique and len(fields) == len(pairs)
        return fields

    same: bool = _loosely(served, object_pairs_hook=check_names) == _loosely(published)
    return same and unique
