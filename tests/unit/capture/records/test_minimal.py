"""The policy `minimal`, and the settings of privacy."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr

from tests.support.policies import KEY, policy, published
from tests.support.surroundings import without_settings
from worker.capture.records.minimal import _KEPT, known_fields
from worker.capture.records.privacy import MAX_NAMED, RecordPolicy, UnknownFields, policy_for
from worker.capture.records.rules import Known
from worker.capture.registry import CAPTURED, RESOURCES
from worker.capture.resources import Resource
from worker.config import settings as settings_module
from worker.config.sections import PrivacySettings
from worker.errors import SettingsError
from worker.ordermesh.record_schema import row_of
from worker.ordermesh.schemas import SCHEMAS, element

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "minimal-policy.md"


def settings(**fields: Any) -> PrivacySettings:
    return PrivacySettings(key=SecretStr(KEY), **fields)


def policy_of(resource: str, account: str = "default", **fields: Any) -> RecordPolicy:
    """The policy that settings give for a resource."""
    rules = policy_for(resource, settings(**fields), account)
    assert rules is not None
    return rules


def _filled(schema: str, path: str = "") -> dict[str, Any]:
    """A record with a text that tells its place in every known field."""
    made: dict[str, Any] = {}
    for field in SCHEMAS[schema].fields:
        at, kind = f"{path}.{field.name}".lstrip("."), element(field.type)
        inner = SCHEMAS.get(kind)
        value: Any = _filled(kind, at) if inner and inner.fields else f"<{at}>"
        made[field.name] = [value] if field.type.startswith("[") else value
    return made


def marks(value: Any) -> Iterator[str]:
    """The places that are told by the texts in a value."""
    if isinstance(value, str):
        yield value.strip("<>")
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from marks(inner)


def listed(resource: str) -> dict[str, str]:
    """What the page for readers says of each known field of a resource: published or removed, by path."""
    text = PAGE.read_text("utf-8").partition(f"## {resource}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\S+)` \| (\w+) \|$", text, re.MULTILINE))


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda each: each.name)
def test_minimal_publishes_what_the_page_lists(resource: Resource) -> None:
    """Of a record in which every known field is filled, what the page lists is published, and nothing else."""
    record, said = _filled(row_of(resource.search)), listed(resource.name)
    rules = policy_of(resource.name, policy="minimal")
    left = set(marks(published(rules, record)))
    assert left == {path for path, what in said.items() if what == "published"}
    removed = {path for path, what in said.items() if what == "removed"}
    gone = set(marks(record)) - left
    assert all(path in removed or any(path.startswith(f"{each}.") for each in removed) for path in gone)
    assert rules.unknown_fields() == UnknownFields(0, ())


_PERSONAL = re.compile(
    r"name|address|line\d|city|zip|phone|mail|card|payment|billing|customer|client|\bip$|text|reason|meta|url|link|"
    r"authorization|transaction|longitude|latitude|user|refund|state$|desc|tracking|option|attribute|fileid",
    re.IGNORECASE,
)
_OF_NOBODY = {
    # amounts, codes, and words of trade
    *("customerTotal", "customerItemTotal", "customerTotalShipping", "customerTotalTaxes"),
    *("customerTotalDiscountAndPromotions", "customerShippingMethod", "transactionalCostModel"),
    *("customerSubtotal", "customerPrice", "customerShippingPrice", "customerTaxes"),
    *("refundData.refunds.isShippingRefund", "refundData.refunds.amount"),
    *("refundData.remainingShippingBalance", "refundData.remainingPriceBalance", "reprint.reasonId"),
    # carriers, and goods
    *("carrierName", "carrierMethodName", "name", "categories.name"),
    # by what program an order was sent, and to which country
    *("client.source", "client.version"),
    *("shippingAddress.countryCode", "billingAddress.countryCode", "returnAddress.countryCode"),
}


@pytest.mark.parametrize("resource", RESOURCES)
def test_what_sounds_personal_is_removed(resource: str) -> None:
    """A published field whose name speaks of a person, or of free text, stands in a list of those that do not."""
    for path, what in listed(resource).items():
        said = path
        for phrase in _OF_NOBODY:
            said = re.sub(rf"(^|\.){re.escape(phrase)}(?=\.|$)", "", said)
        assert what == "removed" or not _PERSONAL.search(said), path
        assert path != "name" or what == "removed" or resource in {"categories", "products"}


def test_minimal_lets_nothing_through_that_is_not_known() -> None:
    """Whatever a service calls its fields, and wherever they stand: what is not known is removed."""
    rules = policy_of("orders", policy="minimal")
    names = (
        "first_name", "recipientPhoneNumber", "shippingCity", "giftMessage", "createdBy", "statusdesc", "status_desc",
        "trackingNumber", "EMAIL", "user", "customer",
    )  # fmt: skip
    person = {name: f"leak {name}" for name in names} | {"note": {"id": "leak", "sku": ["leak"]}}
    record = {
        "id": "a", "status": "Open", **person, "total": "leak",
        "items": [{"sku": "S", **person, "options": [{"name": "leak", "value": "leak"}]}, "leak", ["leak"]],
        "shipping_address": {"country_code": "US", "First-Name": "leak", **person},
        "client": {"source": {"leak": "leak"}, "version": ["1", {"x": "leak"}]},
        "externalId": None, "createdAt": {"leak": 1}, "reprint": "leak", "billingAddress": None,
    }  # fmt: skip
    assert published(rules, record) == {
        "id": "a", "status": "Open", "items": [{"sku": "S"}, []], "shipping_address": {"country_code": "US"},
        "client": {"source": {}, "version": ["1", {}]}, "externalId": None, "createdAt": {}, "billingAddress": None,
    }  # fmt: skip


def test_unknown_fields_are_counted_and_named_once() -> None:
    """By their paths, each once, and up to a limit; their names are shown without control characters."""
    rules = policy_of("orders", policy="minimal")
    record = {"id": "a", "meta": {"x": 1}, "gift\x1b[31m": "x", "items": [{"made": {"by": 1}}, {"made": [2]}]}
    published(rules, record)
    assert rules.unknown_fields() == UnknownFields(3, ("gift?[31m", "items.made"))
    published(rules, record | {"more": True})
    assert rules.unknown_fields() == UnknownFields(4, ("more",))
    published(rules, {f"n{number}": 1 for number in range(2 * MAX_NAMED)})
    found = rules.unknown_fields()
    assert (found.values, len(found.paths)) == (2 * MAX_NAMED, MAX_NAMED - 3)


def test_minimal_knows_its_fields() -> None:
    """Every field that is kept is one of a schema: a misspelled one would be removed in silence."""
    for schema, names in _KEPT.items():
        assert names <= {field.name for field in SCHEMAS[schema].fields}, schema
    reached = {path for name in RESOURCES for path in known_fields(name)}
    assert {"items.refundData.refunds.amount", "packages.orderItemIDs", "resource.type"} <= reached
    assert all(known_fields(name)["id"] is Known.VALUE for name in CAPTURED)


def test_keep_is_no_policy() -> None:
    """Without rules, and with none but `keep`, there is nothing to do."""
    assert policy_for("orders", PrivacySettings(), "a") is None
    assert policy_for("orders", PrivacySettings(fields={"orders": {"meta": "keep"}}), "a") is None
    assert policy_for("notes", PrivacySettings(fields={"orders": {"meta": "drop"}}), "a") is None


def test_fields_go_over_the_policy() -> None:
    """What is said of a field takes the place of what the policy says of it and in it."""
    rules = policy_of(
        "orders",
        policy="minimal",
        fields={
            "orders": {
                "meta.channel": "keep",
                "billingAddress": "keep",
                "shippingAddress.email": "hash",
                "items": "drop",
                "**.gift": "keep",
            }
        },
    )
    address = {"firstName": "Ada", "email": "ada@example.com", "countryCode": "US"}
    record = {
        "items": [{"images": [{"area": "Front"}]}],
        "meta": {"channel": "web", "gift": "x", "by": "y"},
        "billingAddress": address,
        "shippingAddress": address,
        "extra": {"gift": {"wrapped": True}, "of": "Ada"},
        "other": {"of": "Ada"},
    }
    made = published(rules, record)
    assert made.keys() == {"meta", "billingAddress", "shippingAddress", "extra"}
    assert made["meta"] == {"channel": "web", "gift": "x"}
    assert made["extra"] == {"gift": {"wrapped": True}}
    assert made["billingAddress"] == address
    assert made["shippingAddress"].keys() == {"email", "countryCode"}
    assert re.fullmatch("[0-9a-f]{32}", made["shippingAddress"]["email"])


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A folder without `.env`, and no variable of the worker set."""
    without_settings(monkeypatch, tmp_path)
    return monkeypatch


def test_from_the_environment(surroundings: pytest.MonkeyPatch) -> None:
    """Policy, fields as JSON or for one resource alone, and a key that is never shown."""
    surroundings.setenv("ORDERSYNC_PRIVACY__POLICY", "minimal")
    surroundings.setenv("ORDERSYNC_PRIVACY__FIELDS", '{"orders": {"shippingAddress.email": "hash"}}')
    surroundings.setenv("ORDERSYNC_PRIVACY__FIELDS__NOTES", '{"**.text": "mask"}')
    surroundings.setenv("ORDERSYNC_PRIVACY__KEY", KEY)
    surroundings.setenv("ORDERSYNC_EVENTS__COMPRESS_ABOVE", "1000")
    surroundings.setenv("ORDERSYNC_EVENTS__PREVIOUS", "true")
    loaded = settings_module.load()
    assert loaded.privacy.policy == "minimal"
    assert loaded.privacy.fields == {
        "orders": {"shippingAddress.email": "hash"},
        "notes": {"**.text": "mask"},
    }
    assert (loaded.events.compress_above, loaded.events.previous) == (1000, True)
    assert KEY not in json.dumps(loaded.shown())
    assert KEY not in repr(loaded)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("POLICY", "strict", "ORDERSYNC_PRIVACY__POLICY: Input should be 'keep' or 'minimal'"),
        ("FIELDS", '{"order": {"a": "drop"}}', "Unknown resource 'order'. Did you mean orders?"),
        (
            "FIELDS",
            '{"orders": {"a": "remove"}}',
            "Input should be 'keep', 'drop', 'mask', 'hash' or 'hash:NAME'",
        ),
        (
            "FIELDS",
            '{"orders": {"a": "hash:"}}',
            "Input should be 'keep', 'drop', 'mask', 'hash' or 'hash:NAME'",
        ),
        ("FIELDS", '{"orders": {"items[].url": "drop"}}', "'items[].url' is not a field path"),
        ("FIELDS", '{"orders": {"a..b": "drop"}}', "'a..b' is not a field path"),
        ("FIELDS", '{"orders": {"": "drop"}}', "'' is not a field path"),
        ("FIELDS", '{"orders": {"a.*": "drop"}}', "'a.*' is not a field path"),
        ("FIELDS", '{"orders": {"**.a.b": "drop"}}', "write exactly one name after **."),
        ("FIELDS", '{"orders": {"id": "drop"}}', "id of orders identifies the record"),
        ("FIELDS", '{"orders": {"**.ID": "mask"}}', "**.ID of orders identifies the record"),
        (
            "FIELDS",
            '{"orders": {"a": "hash"}}',
            "a of orders cannot be hashed without a key. Set ORDERSYNC_PRIVACY__KEY",
        ),
        ("FIELDS", "email", "ORDERSYNC_PRIVACY__FIELDS"),
        ("FIELDS", '{"orders": {"a": "hash:mail"}}', "a of orders cannot be hashed without a key"),
        ("FIELDS", '{"orders": {"_Id": "drop"}}', "_Id of orders identifies the record"),
        ("KEY", "short", "the key is too weak: it has 5 characters of at least 32"),
        ("KEY", "abababab" * 5, "it has 2 different characters of at least 8"),
        ("KEY", "0123456789abcdef" * 3, "it repeats itself"),
        ("KEY", "tU3kQ9vXz7LmN2pR-tU3kQ9vXz7LmN2pR-tU", "it repeats itself"),
        ("KEY", "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345", "its characters follow each other in the alphabet"),
        ("KEY", "correct horse battery staple forever", "it consists of words or of digits alone"),
        ("KEY", "83150926471830295618374650912837465", "it consists of words or of digits alone"),
        ("KEY", "short", "Use what `openssl rand -base64 32` prints"),
    ],
)
def test_refused(surroundings: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    """A resource, action or path that cannot be meant, and a hash without a key, are told for what they are."""
    surroundings.setenv(f"ORDERSYNC_PRIVACY__{name}", value)
    with pytest.raises(SettingsError) as caught:
        settings_module.load()
    assert said in str(caught.value)
    assert name != "KEY" or value == "short" or value not in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_random_key_is_not_weak() -> None:
    """What `openssl rand -base64 32` and `openssl rand -hex 16` print is taken."""
    random = Random(13)
    for _ in range(200):
        for key in (base64.b64encode(random.randbytes(32)).decode(), random.randbytes(16).hex()):
            assert PrivacySettings(key=SecretStr(key)).key == SecretStr(key)


def test_what_is_hidden() -> None:
    """Hidden are the top-level fields of which nothing is published, and no others."""
    rules = policy(a="drop", b="drop", b__c="keep", d="mask", any_e="drop", f__g="drop", e__x="keep")
    assert rules.hidden == {"a"}
    minimal = policy_of(
        "orders", policy="minimal", fields={"orders": {"customerPaymentMethods.method": "keep"}}
    )
    assert all(map(minimal.hides, ("meta", "Meta", "email", "statusDesc", "anything")))
    assert not any(
        map(minimal.hides, ("shippingAddress", "items", "client", "status", "customerPaymentMethods"))
    )
    found = policy_of("orders", policy="minimal", fields={"orders": {"**.email": "keep"}})
    assert not found.hides("anything")  # an email in it is published
    assert rules.hidden != minimal.hidden != found.hidden
