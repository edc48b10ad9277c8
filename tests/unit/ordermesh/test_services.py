"""The typed methods: one for each operation of the table, with its path and query parameters and no others."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from worker.clock import SystemClock
from worker.errors import PartialBulk, ServerError
from worker.ordermesh.contract.operations import OPERATIONS, Operation
from worker.ordermesh.contract.profile import ContractProfile, Listing, Route
from worker.ordermesh.http.auth import LoginRequest
from worker.ordermesh.http.reply import AuditReply, ListReply, Reply
from worker.ordermesh.services import TypedServices
from worker.ordermesh.services.group import ServiceGroup, query_of
from worker.telemetry import log as logs

pytestmark = pytest.mark.anyio

COMPOSED = {"orders.create_once"}
"""Methods that are more than one operation."""
BULKS = {key for key, each in OPERATIONS.items() if each.answer == "BulkResponse"}


@dataclass
class Sent:
    """One call that reached the client."""

    key: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Any


@dataclass
class Recorder:
    """Takes the place of the client: notes what it is asked and answers everything with `answer`."""

    answer: bytes = b"[]"
    profile: ContractProfile = field(default_factory=ContractProfile)
    sent: list[Sent] = field(default_factory=list)
    fail: dict[int, Exception] = field(default_factory=dict)
    """What the call with this number, counted from 0, raises."""

    async def call(
        self,
        key: str,
        *,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Reply:
        """Note it."""
        self.sent.append(Sent(key, path or {}, query or {}, body))
        if len(self.sent) - 1 in self.fail:
            raise self.fail[len(self.sent) - 1]
        return Reply(key, 200, self.answer, "application/json", None)

    async def log_in(self, request: LoginRequest) -> Reply:
        """Note it."""
        self.sent.append(Sent(request.operation, {}, request.query, request.body))
        return Reply(request.operation, 200, self.answer, "application/json", None)


def methods() -> dict[str, Any]:
    """Every public method of every group, by `group.method`."""
    services = TypedServices(Recorder(), SystemClock())
    return {
        f"{name}.{method}": function
        for name, group in vars(services).items()
        for method, function in inspect.getmembers(type(group), inspect.iscoroutinefunction)
        if not method.startswith("_")
    }


def snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name)


VALUES = {
    "extra": {"another": "1"},
    "most_in_bulk": 50,
    "order_ids": ["1", "2"],
    "body": {"id": "1"},
    "orders": [{"id": "1"}],
    "products": [{"id": "1"}],
    "reroutes": [{"id": "1"}],
}


def argument(parameter: inspect.Parameter) -> Any:
    """A value for every parameter, which tells where it came from."""
    name, type_ = parameter.name, str(parameter.annotation)
    if name in VALUES:
        return VALUES[name]
    if "datetime" in type_:
        return datetime(2026, 2, 27, tzinfo=UTC)
    if "bool" in type_:
        return True
    return 7 if "int" in type_ else f"<{name}>"


async def sent_by(key: str, recorder: Recorder) -> tuple[Sent, Any]:
    """Call the method of an operation with all its arguments."""
    group, name = key.split(".")
    method = getattr(getattr(TypedServices(recorder, SystemClock()), group), name)
    parameters = inspect.signature(method).parameters.values()
    positional = [argument(each) for each in parameters if each.kind is not each.KEYWORD_ONLY]
    keywords = {each.name: argument(each) for each in parameters if each.kind is each.KEYWORD_ONLY}
    result = await method(*positional, **keywords)
    (sent,) = recorder.sent
    return sent, result


def test_one_method_for_each_operation() -> None:
    """Not one of the 79 operations is without a method, and no method is without an operation."""
    assert len(OPERATIONS) == 79
    assert set(methods()) == set(OPERATIONS) | COMPOSED
    assert all(
        issubclass(type(group), ServiceGroup)
        for group in vars(TypedServices(Recorder(), SystemClock())).values()
    )


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda each: each.key)
async def test_each_passes_what_its_row_knows(operation: Operation) -> None:
    """Each method asks for its own operation, with exactly the parameters that the table has for it."""
    sent, result = await sent_by(operation.key, Recorder())
    has_extra = "extra" in inspect.signature(methods()[operation.key]).parameters
    assert sent.key == operation.key
    assert set(sent.path) == set(operation.path_parameters)
    page = {"page", "pageSize"} if operation.is_log else set()  # a gateway may serve logs in pages
    assert set(sent.query) == set(operation.query) | ({"another"} if has_extra else set()) | page
    assert has_extra == (operation.records is not None)
    takes_body = operation.request is not None and operation.method != "GET"
    assert (sent.body is not None) == takes_body
    for name, value in sent.path.items():
        # In the order of the path: an argument never stands in the place of another one.
        assert value == f"<{snake(name)}>" or (name == "id" and value.endswith("_id>"))
    for name, value in sent.query.items():
        if value.startswith("<"):
            assert value in {f"<{snake(name)}>", "<resource_format>"}
    if operation.records is not None:
        assert isinstance(result, ListReply)
    if operation.answer == "GetAuditLogResponse":
        assert isinstance(result, AuditReply)


@pytest.mark.parametrize("key", sorted(set(OPERATIONS) | COMPOSED))
def test_each_says_what_it_does(key: str) -> None:
    """Every method has a docstring, and says of an inferred path that it is one."""
    text = methods()[key].__doc__ or ""
    assert text.strip().endswith(".")
    if key in OPERATIONS:
        word = "documented" if OPERATIONS[key].documented else "nferred"
        assert word in text


async def test_arguments_that_are_left_out_are_not_sent() -> None:
    """A search without filters asks for a page of 50 and nothing else."""
    recorder = Recorder()
    await TypedServices(recorder, SystemClock()).orders.search()
    assert recorder.sent[0].query == {"page": "1", "pageSize": "50"}


async def test_pages_are_counted_from_0() -> None:
    """The profile says how pages are named and counted at the gateway."""
    listing = Listing(page_parameter="p", size_parameter="n", first_page=0)
    recorder = Recorder(profile=ContractProfile(lists={"notes.search": listing}))
    services = TypedServices(recorder, SystemClock())
    await services.notes.search(page=2, page_size=10)
    await services.orders.search(page=2, page_size=10)
    assert [each.query for each in recorder.sent] == [{"p": "2", "n": "10"}, {"page": "3", "pageSize": "10"}]


async def test_records_of_a_list() -> None:
    """The records as served and decoded, and the total; the wrapper may be the profile's."""
    recorder = Recorder(b'{"hits":[{"id": "1"},{"id":2.50}],"warnings":[],"totalCount":9}')
    recorder.profile = ContractProfile(listing=Listing(wrapper="hits"))
    found = await TypedServices(recorder, SystemClock()).variants.search()
    assert [bytes(record) for record in found.records] == [b'{"id": "1"}', b'{"id":2.50}']
    assert found.values == [{"id": "1"}, {"id": 2.5}]
    assert found.total == 9
    assert found.raw == recorder.answer


def test_query_values() -> None:
    """Booleans and times are written as JSON writes them; a time without a zone is nobody's time."""
    berlin = timezone(timedelta(hours=1))
    filters = {"a": None, "b": True, "c": 3, "d": "x", "e": datetime(2026, 2, 27, 1, tzinfo=berlin), "f": "y"}
    assert query_of(filters, {"f": "own"}) == {
        "b": "true",
        "c": "3",
        "d": "x",
        "e": "2026-02-27T00:00:00Z",
        "f": "own",
    }
    with pytest.raises(ValueError, match=r"createdFrom: .* has no time zone"):
        query_of({"createdFrom": datetime(2026, 2, 27)})  # noqa: DTZ001 - that is the point


async def test_a_body_that_is_expected_is_never_missing() -> None:
    """Where the operation has a request schema an empty object is sent, by the method that the profile says."""
    recorder = Recorder()
    services = TypedServices(recorder, SystemClock())
    await services.orders.cancel("o1")
    await services.orders.hold("o1")
    await services.merchant_catalogs.search_variants("c1")
    route = Route("POST", "/catalog/v1/merchantCatalog/{id}/variants/search")
    recorder.profile = ContractProfile(routes={"merchant_catalogs.search_variants": route})
    await services.merchant_catalogs.search_variants("c1")
    assert [each.body for each in recorder.sent] == [{}, None, None, {}]


async def test_logins_stay_out_of_the_logs() -> None:
    """What goes to a login and what comes back is hidden in every line from then on, and in no repr."""
    tokens = {"accessToken": "access-1234567", "refreshToken": "refresh-1234567", "expiresIn": 900}
    recorder = Recorder(msgspec.json.encode(tokens))
    services = TypedServices(recorder, SystemClock())
    reply = await services.users.login("sam@example.com", "password-1234567", source="shell")
    assert reply.value == tokens
    assert recorder.sent[0].query == {"source": "shell"}
    assert "1234567" not in repr(reply)
    await services.clients.token("client-abcdefg", "secret-1234567")
    await services.users.refresh("older-1234567")
    line = "access-1234567 refresh-1234567 password-1234567 secret-1234567 older-1234567 client-abcdefg"
    assert logs.redaction.text(line) == " ".join(["[hidden]"] * 5) + " client-abcdefg"


@pytest.mark.parametrize("key", sorted(BULKS))
async def test_long_lists_go_in_several_requests(key: str) -> None:
    """In order, none larger than allowed, and each result at its place in the whole list."""
    recorder = Recorder()
    group, name = key.split(".")
    method = getattr(getattr(TypedServices(recorder, SystemClock()), group), name)
    ids = [f"n{number}" for number in range(5)]
    items = ids if key == "orders.get_many" else [{"id": id_} for id_ in ids]
    reply = await method(items, most_in_bulk=2)
    if key == "orders.get_many":
        assert [each.query["ids"] for each in recorder.sent] == ["n0,n1", "n2,n3", "n4"]
    else:
        sent = [[item["id"] for item in each.body["bulk"]] for each in recorder.sent]
        assert sent == [["n0", "n1"], ["n2", "n3"], ["n4"]]
    assert [item.position for item in reply.items] == [0, 1, 2, 3, 4]
    assert len(reply.replies) == 3


async def test_default_size_of_a_bulk_request() -> None:
    """Fifty items at most, since no limit is documented; no items, no request."""
    recorder = Recorder()
    services = TypedServices(recorder, SystemClock())
    await services.orders.create_many([{"safeId": str(number)} for number in range(101)])
    assert [len(each.body["bulk"]) for each in recorder.sent] == [50, 50, 1]
    assert (await services.orders.create_many([])).items == ()
    assert len(recorder.sent) == 3
    with pytest.raises(ValueError, match="1 or more"):
        await services.orders.create_many([{}], most_in_bulk=0)


async def test_a_bulk_request_that_fails_half_way() -> None:
    """The error holds what was answered before, says where to look, and nothing after it is sent."""
    refused = ServerError("orders.create_many", 500, "oops")
    recorder = Recorder(b'[{"index":0,"statusCode":201},{"index":1,"statusCode":201}]', fail={1: refused})
    services = TypedServices(recorder, SystemClock())
    with pytest.raises(
        PartialBulk, match=r"2 of 5 .* positions 2 to 3 failed: .*oops.* from position 4"
    ) as caught:
        await services.orders.create_many([{}] * 5, most_in_bulk=2)
    error = caught.value
    assert [(item.position, item.ok) for item in error.items] == [(0, True), (1, True)]
    assert (error.failed, error.unsent, error.total, error.error) == (2, 4, 5, refused)
    assert error.code == "partial_bulk"
    assert len(recorder.sent) == 2


async def test_the_first_bulk_request_that_fails() -> None:
    """Where nothing was answered before, the error is the one that it is."""
    recorder = Recorder(fail={0: ServerError("orders.create_many", 500, "oops")})
    with pytest.raises(ServerError):
        await TypedServices(recorder, SystemClock()).orders.create_many([{}] * 5, most_in_bulk=2)
