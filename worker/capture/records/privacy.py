"""What of a record is published: a rule for each of its fields, applied before an event is written. No I/O.

`keep` publishes a field as served, `drop` leaves it out, `mask` writes `"***"` for a text and null for any other
value, and `hash` writes 32 hex digits of its HMAC-SHA256, by which equal values can be told without being known.
On an object or a list, `mask` and `hash` go for every value within.

A rule stands at a path such as `shippingAddress.email`. Paths go through lists by themselves, and capitals do
not count. The rule of a field holds for all that is in it, unless a longer path has its own: `meta` dropped and
`meta.channel` kept leaves `meta` with that one field. `**.email` is every field of that name, at any depth, where
no path says otherwise.

A record without a field that a rule changes stays as served, byte for byte. In one that is changed, what no rule
can concern stays as served too.
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from worker.config.sections import PrivacySettings

MASK = b'"***"'
HASH_DIGITS = 32
AUDIT_SUFFIX = "_audit"
"""How the names of audit logs end."""
ANYWHERE = "**."
"""What a path begins with that stands for one name at any depth."""

_MAX_NAMES = 1024
_NESTED = frozenset({b"{", b"["})
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")

_as_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_as_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_as_text = msgspec.json.Decoder(str).decode
_as_anything = msgspec.json.Decoder().decode
_as_json = msgspec.json.Encoder().encode
_loosely = partial(json.loads, parse_int=str, parse_float=str)  # however long a number is


class Rule(StrEnum):
    """What is done about a field."""

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
"""The pages of the vendor are known in part only: a name that speaks of a person is dropped wherever it stands."""

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
"""The policy `minimal`, beside the names that are dropped everywhere: what of the known fields is personal.

Names, addresses but for the country, phones, mail addresses, payment details, free text, customers' pictures, and
the maps into which a shop may write anything (`meta`, `clientAttributes`).
"""


_ENTRY_KEPT = (
    *AUDIT_IDS, *AUDIT_TIMES, "action", "type", "eventType", "operation", "version",
    "resourceId", "resourceType", "entityId", "entityType",
)  # fmt: skip
"""What `minimal` lets through of an entry of an audit log, of which no field is documented: what tells it apart,
when it was, and what was done to what. Who did it, and old and new values, may be anything."""


class _Node:
    """What the rules say of one field: its own rule, and those of fields in it by their names in lower case.

    `seen` keeps, for each name that was found in it, what is to be done there: how the name is written, its node,
    the rule of that node, the rule that it has anywhere.
    """

    __slots__ = ("children", "rule", "seen")

    def __init__(self) -> None:
        self.rule: Rule | None = None
        self.children: dict[str, _Node] = {}
        self.seen: dict[str, tuple[bytes, _Node, Rule | None, Rule | None]] = {}


class RecordPolicy:
    """The rules for the records of one resource. `key` is that of the hashes.

    `otherwise`: the rule of every field for which, or for what it is in, there is none.
    """

    def __init__(self, rules: Mapping[str, Rule], key: bytes = b"", otherwise: Rule | None = None) -> None:
        self._key, self._otherwise = key, otherwise
        self._root, self._leaf = _Node(), _Node()
        self._anywhere: dict[str, Rule] = {}
        for path, rule in rules.items():
            if path.startswith(ANYWHERE):
                self._anywhere[path.removeprefix(ANYWHERE).lower()] = rule
            else:
                self._plant(path, rule)
        self._somewhere = _search_for(self._anywhere)
        said = json.dumps(sorted((path.lower(), rule) for path, rule in rules.items()))
        said += otherwise or ""
        self.tag = hmac.digest(key, said.encode(), "sha256")[:4]
        """Tells this policy from another one, or from the same with another key."""
        names = {path.removeprefix(ANYWHERE) for path in rules}
        self.hidden = frozenset(name for name in names if "." not in name and self._hides(name.lower()))
        """Top-level fields of which nothing is published: an event of a change in them alone would say what the
        one before said. Names as the rules spell them."""

    def _plant(self, path: str, rule: Rule) -> None:
        node = self._root
        for name in path.lower().split("."):
            node = node.children.setdefault(name, _Node())
        node.rule = rule

    def _hides(self, name: str) -> bool:
        node = self._root.children.get(name, self._leaf)
        return (node.rule or self._anywhere.get(name)) is Rule.DROP and not node.children

    def publish(self, record: bytes | msgspec.Raw) -> bytes:
        """What of a record is published: the record as served, byte for byte, if no rule changes any of it.

        Raises:
            msgspec.DecodeError: It is not a JSON object.
            RecursionError: It is nested too deeply.

        """
        served = bytes(record)
        made = self._object(served, self._root, self._otherwise) or b"{}"
        return served if made == served or _says_the_same(made, served) else made

    def _value(self, raw: bytes, node: _Node, rule: Rule | None) -> bytes | None:
        """What is published of a value under a rule, its own or an inherited one; None for nothing."""
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
            its, served = exact or rule or anywhere, bytes(value)
            # Most fields are plain values that no rule concerns.
            made = served if its is None and served[:1] not in _NESTED else self._value(served, child, its)
            if made is not None:
                members.append(head + made)
        if rule is Rule.DROP and not members:
            return None
        return b"{" + b",".join(members) + b"}"

    def _rule_of(self, node: _Node, name: str) -> tuple[bytes, _Node, Rule | None, Rule | None]:
        if len(node.seen) >= _MAX_NAMES:  # names that are made up as they go must not fill the memory
            node.seen.clear()
        lowered = name.lower()
        child = node.children.get(lowered, self._leaf)
        result = _as_json(name) + b":", child, child.rule, self._anywhere.get(lowered)
        node.seen[name] = result
        return result

    def _list(self, raw: bytes, node: _Node, rule: Rule | None) -> bytes | None:
        made = [self._value(bytes(value), node, rule) for value in _as_list(raw)]
        kept = [item for item in made if item is not None]
        if rule is Rule.DROP and not kept:
            return None
        return b"[" + b",".join(kept) + b"]"

    def _hash(self, value: bytes) -> bytes:
        digest = hmac.digest(self._key, value, "sha256").hex()
        return b'"' + digest[:HASH_DIGITS].encode() + b'"'

    def _is_somewhere_in(self, raw: bytes) -> bool:
        """Whether a name that has a rule at any depth may stand in a value."""
        return bool(self._anywhere) and (self._somewhere is None or self._somewhere.search(raw) is not None)


def policy_for(resource: str, settings: PrivacySettings) -> RecordPolicy | None:
    """The rules that the settings give for a resource; None where every record is published as served."""
    own = {path: Rule(action) for path, action in settings.fields.get(resource, {}).items()}
    ready: dict[str, Rule] = {}
    otherwise = None
    if settings.policy == "minimal" and resource.endswith(AUDIT_SUFFIX):
        ready, otherwise = dict.fromkeys(_ENTRY_KEPT, Rule.KEEP), Rule.DROP
    elif settings.policy == "minimal":
        ready = {**_ANYWHERE_MINIMAL, **MINIMAL.get(resource, {})}
    # What is said of a field takes the place of all that the ready policy says of it and of what is in it.
    said = tuple(f"{path.lower()}." for path in own)
    rules = {path: rule for path, rule in ready.items() if not f"{path.lower()}.".startswith(said)} | own
    if otherwise is None and all(rule is Rule.KEEP for rule in rules.values()):
        return None
    key = settings.key.get_secret_value() if settings.key else ""
    return RecordPolicy(rules, key.encode(), otherwise)


def _search_for(names: Iterable[str]) -> re.Pattern[bytes] | None:
    """A pattern for any of these as the name of a field, or for one that is spelled with escapes.

    None if a name could also be spelled otherwise.
    """
    if not all(_PLAIN_NAME.fullmatch(name) for name in names):
        return None
    either = "|".join(sorted(map(re.escape, names)))
    return re.compile(rf'"(?:{either})"[ \t\r\n]*:|\\u'.encode(), re.IGNORECASE)


def _says_the_same(made: bytes, served: bytes) -> bool:
    """Whether no rule has changed anything: two spellings of the same.

    Not so if a name stands twice in an object: of two fields of one name, the first would pass unseen.
    """
    try:
        if _as_anything(made) != _as_anything(served):
            return False
    except msgspec.DecodeError:
        pass  # numbers beyond what msgspec takes
    unique = True

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal unique
        fields = dict(pairs)
        unique = unique and len(fields) == len(pairs)
        return fields

    same: bool = _loosely(served, object_pairs_hook=look) == _loosely(made)
    return same and unique
