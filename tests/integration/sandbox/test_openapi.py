"""The sandbox against its own OpenAPI document: valid, and kept by every operation whatever it is sent."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from jsonschema_rs import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.sandbox_api import SandboxApi
from tests.support.waiting import PATIENCE
from worker.ordermesh.contract.operations import OPERATIONS
from worker.sandbox import CLIENT_ID, CLIENT_SECRET, PASSWORD, USERNAME, SandboxServer, ServedContract
from worker.sandbox.data.orders import FACILITIES
from worker.sandbox.openapi.openapi import document
from worker.sandbox.state.records import Records

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
SAME_FIELDS = ["merchant_catalogs.create", "merchant_catalogs.update", "variants.update"]
"""Their bodies have the fields of merchant_catalogs.patch and variants.create: one time is enough."""
BULK = [key for key in OPERATIONS if key.endswith("_many") and OPERATIONS[key].method != "GET"]
SCHEMA = schemathesis.openapi.from_dict(
    document(),
    config=schemathesis.Config.from_dict(
        {
            "seed": 3,
            "generation": {
                "deterministic": True,
                "database": "none",
                "max-examples": 4,
                "with-security-parameters": False,
            },
            "phases": {
                "examples": {"enabled": False},
                "coverage": {"enabled": True, "unexpected-methods": []},
            },
            # The boundary values of items in bulk are those of the operations for single records.
            "operations": [
                {"include-operation-id": key, "phases": {"coverage": {"enabled": False}}}
                for key in [*BULK, *SAME_FIELDS]
            ],
        }
    ),
)
"""The boundary values of every parameter and field, and a few random requests for each operation."""

CONTRACTS = {
    "default": ServedContract(),
    "bare lists": ServedContract(wrapper_key=None, audit_shape="bare", total=None),
    "other wrapper": ServedContract(wrapper_key="data", page_base=0, total="count", paging=False),
    "other paths": ServedContract(
        prefixless=("order", "note"),
        moved={"orders.get": "/sales/{number}", "shipments.search": "/shipment/v1/shipments/search"},
    ),
    "capped": ServedContract(max_page_size=20, refuse_large=True, lenient_pages=True, login_case="snake"),
}
every_contract = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS.keys())


GONE = "gone"
NOTHING = {"id": GONE, "orderId": GONE, "vendorId": GONE, "productId": GONE, "packages": []}


@dataclass(slots=True)
class Known:
    """Ids that exist, so that requests get further than to a 404."""

    server: SandboxServer
    rng: Random = field(default_factory=lambda: Random(7))

    def ids(self, operation: str) -> dict[str, Any]:
        """Values for the parameters of an operation's path, and for the fields of these names in its body."""
        world = self.server.world
        service = operation.partition(".")[0]
        # What is deleted is never the last of its kind: other operations need some.
        least = 1 if OPERATIONS[operation].method == "DELETE" else 0
        packed = service == "packages" and operation != "packages.create"
        shipment = self._shipment(packed=packed, least=least * 20)
        order = world.orders.read(self.rng.choice(world.orders.ids())) or {}
        if operation == "shipments.for_order_item":
            order = world.orders.read(shipment["orderId"]) or order
        variant = world.variants.get(self._one(world.variants, least * 80)) or NOTHING
        own = {
            "notes": self._one(world.notes, least),
            "categories": self._one(world.categories, least),
            "merchant_catalogs": self._one(world.merchant_catalogs, least),
        }
        item_id = self.rng.choice(order["items"])["id"]
        return {
            "orderId": shipment["orderId"] if operation.startswith("shipments.for_order") else order["id"],
            "safeId": order["safeId"],
            "itemId": item_id,
            "orderItemId": item_id,
            "noteId": own["notes"],
            "productId": variant["productId"],
            "variantId": variant["id"],
            "shipmentId": shipment["id"],
            "vendorId": shipment["vendorId"],
            "packageId": shipment["packages"][0]["id"] if shipment["packages"] else GONE,
            "id": own.get(service, order["id"]),
            "ids": order["id"],
        }

    def _one(self, records: Records, least: int) -> str:
        return self.rng.choice(records.ids()) if len(records) > least else GONE

    def _shipment(self, *, packed: bool, least: int) -> dict[str, Any]:
        shipments = self.server.world.shipments
        left = self.rng.sample(shipments.ids(), len(shipments))
        for shipment_id in left if len(left) > least else []:
            shipment = shipments.get(shipment_id) or {}
            if not packed or shipment["packages"]:
                return shipment
        return NOTHING

    def body(self, operation: str, body: Any) -> Any:
        """A body with ids that exist, and with values that make sense, at whatever depth they are asked for."""
        ids = self.ids(operation)
        ids |= {
            "resource": {"id": ids["orderId"], "type": "order"},
            "facilityId": self.rng.choice(FACILITIES)[0],
            "currencyCode": "USD",
            "languageCode": "en",
            "quantity": 1,
            "amount": 0.5,
        }
        ids |= {
            "clientId": CLIENT_ID,
            "clientSecret": CLIENT_SECRET,
            "username": USERNAME,
            "password": PASSWORD,
        }
        if operation.startswith(("merchant_catalogs.", "orders.")):
            variants = self.server.world.variants
            ids["sku"] = (variants.get(self.rng.choice(variants.ids())) or {})["sku"]
        # What is made anew has a safe id of its own.
        return _placed(body, {name: ids[name] for name in ids if name != "safeId"})


def _placed(body: Any, ids: dict[str, Any]) -> Any:
    if isinstance(body, list):
        return [_placed(each, ids) for each in body]
    if not isinstance(body, dict):
        return body
    return {name: ids[name] if name in ids else _placed(value, ids) for name, value in body.items()}


@pytest.fixture(scope="module")
def server() -> Iterator[SandboxServer]:
    # Thousands of requests: their every step is not worth writing down.
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    with SandboxServer(orders=60) as running:
        # Most of the orders that are there are done; these can still be changed.
        running.store.create(200)
        yield running


@pytest.fixture(scope="module")
def known(server: SandboxServer) -> Known:
    return Known(server)


@pytest.fixture(scope="module")
def session(server: SandboxServer) -> Iterator[requests.Session]:
    login = {"clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET}
    with requests.Session() as kept:
        answer = kept.post(server.url + OPERATIONS["clients.token"].path, json=login, timeout=PATIENCE)
        kept.headers["authorization"] = f"Bearer {answer.json()['accessToken']}"
        yield kept


@SCHEMA.parametrize()
def test_every_operation_keeps_the_document(
    case: schemathesis.Case[Any], server: SandboxServer, session: requests.Session, known: Known
) -> None:
    """No 500, no undocumented status, type or field, and nothing accepted that breaks the schema of the request.

    Ids of requests that are meant to be good are replaced by ones that exist.
    """
    operation = OPERATIONS[case.operation.definition.raw["operationId"]]
    checks = CHECKS
    assert case.meta is not None
    if case.meta.generation.mode.is_positive:
        ids = known.ids(operation.key)
        if case.path_parameters:
            case.path_parameters = {name: ids[name] for name in case.path_parameters}
        if "ids" in case.query:
            case.query["ids"] = ids["ids"]
        if isinstance(case.body, dict | list):
            case.body = known.body(operation.key, case.body)
    elif operation.key in BULK:
        # Items of a bulk request are refused one by one, in an answer that is a success.
        checks = [each for each in CHECKS if each is not negative_data_rejection]
    case.call_and_validate(base_url=server.url, session=session, checks=checks)


@every_contract
def test_the_document_is_valid(contract: ServedContract) -> None:
    """Under every contract an OpenAPI 3.1 document with all operations, under their keys and the vendor's titles."""
    made = document(contract, "http://127.0.0.1:8099")
    validate(made, cls=OpenAPIV31SpecValidator)
    described = {one["operationId"]: one for each in made["paths"].values() for one in each.values()}
    assert {key: one["summary"] for key, one in described.items()} == {
        key: operation.title for key, operation in OPERATIONS.items()
    }
    assert made["servers"] == [{"url": "http://127.0.0.1:8099"}]


@every_contract
def test_every_read_keeps_the_document_of_its_contract(contract: ServedContract) -> None:
    """Paths, parameters and answers are where the document of the contract says, for every operation that reads."""
    made = document(contract)
    with SandboxServer(orders=30, contract=contract) as server:
        known = Known(server)
        login = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        token = httpx.post(server.url + OPERATIONS["clients.token"].path, json=login).json()["accessToken"]
        with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {token}"}) as client:
            for path, method, described in _described(made):
                if method != "get":
                    continue
                ids = known.ids(described["operationId"])
                values = {
                    each["name"]: ids.get(each["name"], ids["orderId"])
                    for each in described["parameters"]
                    if each["in"] == "path"
                }
                query = {"ids": ids["ids"]} if described["operationId"] == "orders.get_many" else None
                answer = client.get(path.format(**values), params=query)
                assert answer.status_code == 200, (path, answer.text)
                _check(made, described, answer)


def test_the_sandbox_serves_its_document() -> None:
    """For people and for imports: without a token, with the address of the server and the contract in force."""
    with SandboxServer(orders=1, contract=CONTRACTS["other paths"]) as server:
        served = httpx.get(f"{server.url}/openapi.json").json()
    assert served == document(CONTRACTS["other paths"], server.url)
    assert "/sales/{number}" in served["paths"]
    assert "/v1/orders" in served["paths"]
    assert "/note/v1/notes" not in served["paths"]


def test_the_document_follows_the_contract() -> None:
    """Wrapper keys, page numbers, the spelling of logins and the shape of audit logs are those of the contract."""

    def described(name: str, key: str) -> Any:
        return next(one for _, _, one in _described(document(CONTRACTS[name])) if one["operationId"] == key)

    def answer(name: str, key: str) -> Any:
        return described(name, key)["responses"]["200"]["content"]["application/json"]["schema"]

    assert answer("default", "notes.search")["required"] == ["notes"]
    assert set(answer("default", "notes.search")["properties"]) == {"notes", "page", "pageSize", "total"}
    assert answer("bare lists", "notes.search")["type"] == "array"
    assert set(answer("other wrapper", "notes.search")["properties"]) == {"data", "count"}
    pages = {each["name"]: each["schema"] for each in described("capped", "notes.search")["parameters"]}
    assert (pages["page"]["minimum"], pages["pageSize"]["maximum"]) == (0, 20)
    login = described("capped", "clients.token")["requestBody"]["content"]["application/json"]["schema"]
    assert login["required"] == ["client_id", "client_secret"]
    for name, kind in (("default", "object"), ("bare lists", "array")):
        assert document(CONTRACTS[name])["components"]["schemas"]["AuditLogs"]["type"] == kind


def test_a_refused_body_names_every_field(server: SandboxServer) -> None:
    """All fields at fault in one answer, by their path, with the values that were sent."""
    body = {"items": [{"sku": "A", "quantity": "two"}, {"quantity": 1}], "client": {"ip": 4}, "meta": None}
    with SandboxApi(server) as api:
        answer = api.send("orders.create", body)
    assert answer.status_code == 400
    assert {each["propertyName"]: each["attemptedValue"] for each in answer.json()["errors"]} == {
        "items[0].quantity": "two",
        "items[1].sku": None,
        "client.ip": 4,
        "shippingAddress": None,
    }


def _described(made: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in made["paths"].items():
        for method, described in methods.items():
            yield path, method, described


def _check(made: dict[str, Any], described: dict[str, Any], answer: httpx.Response) -> None:
    """Holds a good answer against the schema that the document has for it."""
    (media_type, content), *_ = described["responses"]["200"]["content"].items()
    assert answer.headers["content-type"] == media_type
    if media_type == "application/json":
        schema = content["schema"] | {"components": made["components"]}
        errors = [each.message for each in Draft202012Validator(schema).iter_errors(answer.json())]
        assert errors == [], described["operationId"]
