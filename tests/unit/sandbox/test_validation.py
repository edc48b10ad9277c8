"""Request bodies against the table of schemas: what is refused, what goes on, and what the refusal says."""

import json
from typing import Any

import pytest

from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.schemas import SCHEMAS
from worker.sandbox.openapi.json_schemas import IN_BUNDLE, bundle, json_schema, needed_by
from worker.sandbox.openapi.validation import MAX_ERRORS, check_body, needs_body, takes_body


def errors(key: str, body: object) -> list[dict[str, Any]]:
    """The errors of a body, given as bytes or as what becomes JSON; empty when it may go on."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = check_body(OPERATIONS[key], sent)
    if answer is None:
        return []
    assert answer.status == 400
    found: list[dict[str, Any]] = json.loads(answer.body)["errors"]
    return found


def test_a_good_body_goes_on() -> None:
    """With the fields that must be there, unknown ones, and null in those that may be missing."""
    body = {"orderId": "a", "refunds": [{"itemId": "b", "amount": 1, "reason": None, "else": {}}], "more": 1}
    assert errors("orders.refund", body) == []


def test_a_refusal_names_the_field() -> None:
    """A sentence, the path of the field, and the value where it is a plain one."""
    body = {"orderId": 7, "refunds": [{"amount": "much"}]}
    assert errors("orders.refund", body) == [
        {"errorMessage": "'orderId' must be a string.", "propertyName": "orderId", "attemptedValue": 7},
        {
            "errorMessage": "'refunds[0].itemId' must not be empty.",
            "propertyName": "refunds[0].itemId",
            "attemptedValue": None,
        },
        {
            "errorMessage": "'refunds[0].amount' must be a number.",
            "propertyName": "refunds[0].amount",
            "attemptedValue": "much",
        },
    ]


def test_fields_within_what_may_be_null_are_named_too() -> None:
    """An object that may be null is checked like any other when it is there."""
    body: dict[str, Any] = {
        "items": [],
        "shippingAddress": {"line1": 1},
        "client": {"ip": []},
        "billingAddress": None,
    }
    places = [each["propertyName"] for each in errors("orders.create", body)]
    assert sorted(places) == ["client.ip", "shippingAddress.line1"]


def test_null_is_refused_where_something_must_be() -> None:
    """A field that must be there is not null either."""
    (error,) = errors("notes.update", {"text": None})
    assert error["propertyName"] == "text"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "The body must not be empty."),
        (b" \n", "The body must not be empty."),
        (b"{", "The body must be JSON."),
        (b'{"text": "\xff"}', "The body must be JSON."),
        (b"[" * 100_000, "The body must be JSON."),
        (b"[]", "The body must be an object."),
        (b"null", "The body must be an object."),
        (b'{"text": 1e999}', "The body must be JSON."),
    ],
)
def test_what_is_no_object_is_refused(body: bytes, sentence: str) -> None:
    """Whatever bytes come, the answer is a sentence."""
    assert [each["errorMessage"] for each in errors("notes.update", body)] == [sentence]


def test_a_refusal_has_an_end() -> None:
    """A body with hundreds of errors is told of the first ones."""
    body: dict[str, Any] = {"orderId": "a", "refunds": [{}] * 300}
    assert len(errors("orders.refund", body)) == MAX_ERRORS


@pytest.mark.parametrize(
    "key", ["orders.get", "orders.hold", "notes.delete", "merchant_catalogs.search_variants"]
)
def test_operations_without_a_body_are_left_alone(key: str) -> None:
    """What takes no body is not asked for one, even where its query has a schema."""
    assert not takes_body(OPERATIONS[key])
    assert errors(key, b"whatever") == []


@pytest.mark.parametrize("key", ["clients.token", "users.login", "users.refresh"])
def test_logins_check_their_own_fields(key: str) -> None:
    """They take more than one spelling of them."""
    assert errors(key, {}) == []


def test_items_of_a_bulk_request_are_left_to_it() -> None:
    """One bad item must not spoil the others, so the envelope goes on whatever is in it."""
    assert errors("orders.create_many", {"bulk": [{"items": 3}]}) == []


def test_only_what_has_required_fields_needs_a_body() -> None:
    """An update with nothing to change is no mistake, a creation without a body is one."""
    assert needs_body(OPERATIONS["orders.create"])
    assert not needs_body(OPERATIONS["orders.update"])
    assert errors("orders.update", b"") == []
    assert errors("orders.update", b"3") != []


def test_a_bundle_stands_alone() -> None:
    """A schema comes with all that it needs, and nothing else."""
    made = bundle("AddRefundModel")
    assert made["$ref"] == "#/$defs/AddRefundModel"
    assert list(made["$defs"]) == ["AddRefundItemModel", "AddRefundModel"]
    assert needed_by(["MultiPrice"]) == ["MultiPrice", "Price"]


def test_a_schema_as_json_schema() -> None:
    """Null where it may be, lists with their elements, notes as descriptions, enumerations by their type."""
    assert json_schema(SCHEMAS["CreateNoteModel"], IN_BUNDLE) == {
        "type": "object",
        "properties": {"resource": {"$ref": "#/$defs/ResourceReferenceModel"}, "text": {"type": "string"}},
        "required": ["resource", "text"],
    }
    fields = json_schema(SCHEMAS["ShipmentDTO"], IN_BUNDLE)["properties"]
    assert fields["orderItemIDs"] == {"type": ["array", "null"], "items": {"type": "string"}}
    assert fields["shipmentStatus"] == {"anyOf": [{"$ref": "#/$defs/ShipmentStatus"}, {"type": "null"}]}
    assert json_schema(SCHEMAS["ShipmentStatus"], IN_BUNDLE)["type"] == "integer"
    assert "type" not in json_schema(SCHEMAS["OrderItemStatus"], IN_BUNDLE)
