"""The probe tells the truth of each contract, and the worker reads everything under each of them."""

from typing import Any

import msgspec
import pytest

from tests.support.campaign import worker_at
from tests.support.faulty_gateway import LIST_PATH, Liar, orders, watching
from tests.support.gateway import Gateway
from tests.support.worker import BenchMaker
from worker.capture.probe.client import ProbeClient
from worker.capture.probe.filters import NO_VALUE
from worker.capture.probe.pagination import find_reach
from worker.capture.probe.registry import PROBE_AGAIN
from worker.capture.probe.samples import SamplePage
from worker.capture.registry import ORDERS, RESOURCES
from worker.capture.state.run import Outcome
from worker.ordermesh.contract.findings import Capabilities
from worker.ordermesh.contract.profile import ContractProfile, Route
from worker.redis.connections import answer
from worker.sandbox import FaultRule, SandboxServer, ServedContract

pytestmark = pytest.mark.anyio

VARIANTS: dict[str, tuple[ServedContract, dict[str, Any]]] = {
    "as expected": (
        ServedContract(),
        {"path": "/order/v1/orders", "first_page": 1, "wrapper": "orders", "total": 230, "since": None},
    ),
    "another wrapper": (ServedContract(wrapper_key="data"), {"wrapper": "data"}),
    "a bare list": (ServedContract(wrapper_key=None), {"wrapper": "", "total": None}),
    "pages from 0": (ServedContract(page_base=0), {"first_page": 0}),
    "pages from 0, nothing told": (
        ServedContract(page_base=0, wrapper_key=None, total=None, paging=False),
        {"first_page": 0, "total": None},
    ),
    "page 0 is page 1": (ServedContract(lenient_pages=True), {"first_page": 1}),
    "a page size cap": (ServedContract(max_page_size=20), {"largest_page": 20}),
    "a cap without a total": (ServedContract(max_page_size=20, total=None), {"largest_page": 20}),
    "large pages refused": (ServedContract(max_page_size=60, refuse_large=True), {"largest_page": 50}),
    "small pages alone": (ServedContract(max_page_size=12, refuse_large=True), {"largest_page": 10}),
    "very small pages alone": (ServedContract(max_page_size=7, refuse_large=True), {"largest_page": 5}),
    "a record a page, from 0": (
        ServedContract(max_page_size=1, refuse_large=True, page_base=0),
        {"largest_page": 1, "first_page": 0},
    ),
    "no total": (ServedContract(total=None), {"total": None, "total_field": None}),
    "another name for the total": (ServedContract(total="totalCount"), {"total_field": "totalCount"}),
    "newest first": (ServedContract(descending=True), {"since": None}),
    "filter honoured": (ServedContract(since_honoured=True), {"since": "updatedFrom"}),
    "filter honoured, newest first": (
        ServedContract(since_honoured=True, descending=True, max_page_size=30),
        {"since": "updatedFrom", "largest_page": 30},
    ),
    "sort honoured": (
        ServedContract(sort_honoured=True),
        {
            "ascending": {"sortBy": "updatedAt", "sortDirection": "asc"},
            "descending": {"sortBy": "updatedAt", "sortDirection": "desc"},
            "since": None,
        },
    ),
    "without a prefix": (ServedContract(prefixless=("order",)), {"path": "/v1/orders", "prefix": ""}),
    "a likely other path": (
        ServedContract(moved={"orders.search": "/order/v1/orders/search"}),
        {"path": "/order/v1/orders/search", "prefix": None},
    ),
    "both": (
        ServedContract(prefixless=("order",), moved={"orders.search": "/v1/orders/search"}),
        {"path": "/v1/orders/search", "prefix": ""},
    ),
    "snake case login": (ServedContract(login_case="snake"), {"path": "/order/v1/orders"}),
    "camel case login": (ServedContract(login_case="camel"), {"path": "/order/v1/orders"}),
    "other audit logs": (
        ServedContract(audit_shape="bare"),
        {"audit_shape": "a bare list, entries with auditId, createdAt, eventType, performedBy, data"},
    ),
}


def told(found: Capabilities, names: Any) -> dict[str, Any]:
    return {name: getattr(found, name) for name in names}


@pytest.mark.parametrize("variant", VARIANTS)
async def test_each_contract(bench: BenchMaker, variant: str) -> None:
    """The probe finds what is there, within its share of requests, and a poll publishes every order."""
    contract, expected = VARIANTS[variant]
    with SandboxServer(orders=230, contract=contract) as sandbox:
        sandbox.store.change(12)
        async with bench(sandbox, probe=True) as b:
            found = await b.account.capabilities.probe(ORDERS)
            assert found.state == "found"
            assert told(found, expected) == expected
            assert found.requests <= 35
            assert found.single.supported
            assert found.audit.supported
            run = await b.poll()
            if not run.total:  # orders have changed just before, so another scan has to find nothing
                assert (run.outcome, run.error_code) == ("partial", "unproven")
                run = await b.poll(complete=True)
            assert (run.outcome, run.records) == ("complete", 230)
            assert {event.subject for event in await b.events()} == set(sandbox.store.truth())


@pytest.mark.parametrize("orders", [1, 9, 10, 11, 20])
@pytest.mark.parametrize("total", ["total", None])
@pytest.mark.parametrize("page_base", [0, 1])
async def test_few_orders(bench: BenchMaker, page_base: int, total: str | None, orders: int) -> None:
    """However few there are, none of them is behind a page that is never asked for."""
    with SandboxServer(orders=orders, contract=ServedContract(page_base=page_base, total=total)) as sandbox:
        async with bench(sandbox, probe=True) as b:
            run = await b.poll()
            assert (run.outcome, run.records) == ("complete", orders)


@pytest.mark.parametrize("orders", [0, 1, 6])
async def test_large_pages_are_refused_however_few_there_are(bench: BenchMaker, orders: int) -> None:
    """A server that refuses a page size does so for a short list too: the poll asks for what is taken."""
    contract = ServedContract(max_page_size=25, refuse_large=True)
    with SandboxServer(orders=orders, contract=contract) as sandbox:
        async with bench(sandbox, probe=True) as b:
            run = await b.poll()
            assert (run.outcome, run.records) == ("complete", orders)
            assert (await b.account.capabilities.load())["orders"].largest_page == 25


@pytest.mark.parametrize("total", ["total", None])
async def test_pages_that_are_not_turned_end_no_list(bench: BenchMaker, total: str | None) -> None:
    """A first page that comes for every number is not taken for a last page that is repeated: nothing is claimed."""
    contract = ServedContract(ignore_page=True, total=total)
    with SandboxServer(orders=130, contract=contract) as sandbox:
        async with bench(sandbox, probe=True) as b:
            run = await b.poll()
            assert (run.outcome, run.error_code) == ("failed", "unreadable_answer")
            assert (await b.account.capabilities.load())["orders"].past_end == ""


async def test_an_empty_list_is_looked_at_again(bench: BenchMaker) -> None:
    """An empty list does not say that its pages count from 0: the first order is found all the same."""
    with SandboxServer(orders=0, contract=ServedContract(page_base=0, total=None)) as sandbox:
        async with bench(sandbox, probe=True) as b:
            assert (await b.poll()).records == 0
            assert (await b.account.capabilities.load())["orders"].state == "empty"
            (order,) = sandbox.store.create()
            await b.poll()
            assert [event.subject for event in await b.events()] == [order]
            assert (await b.account.capabilities.load())["orders"].first_page == 0


async def test_the_probe_is_made_once(bench: BenchMaker) -> None:
    """A second poll, and another worker, use what is known."""
    with SandboxServer(orders=30) as sandbox:
        async with bench(sandbox, probe=True) as b:
            first = await b.poll()
            asked = sandbox.requests.count("orders.search")
            assert (await b.poll()).usage.requests == first.usage.requests
        async with bench(sandbox, probe=True) as other:
            await other.poll()
        assert sandbox.requests.count("orders.search") == asked + 2 * first.usage.requests


async def test_what_does_not_depend_on_each_other_is_requested_at_the_same_time(
    bench: BenchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three pages of a round are, and later those for filter, sort and choices."""
    under_way, most, unnumbered = set[object](), list[int](), ProbeClient.unnumbered

    async def watched(self: ProbeClient, *args: Any, **options: Any) -> Any:
        request = object()
        under_way.add(request)
        most.append(len(under_way))
        try:
            return await unnumbered(self, *args, **options)
        finally:
            under_way.remove(request)

    monkeypatch.setattr(ProbeClient, "unnumbered", watched)
    with SandboxServer(orders=30) as sandbox:
        async with bench(sandbox, probe=True) as b:
            await b.account.capabilities.probe(ORDERS)
            largest = [one.query for one in sandbox.requests.last() if NO_VALUE in one.query]
    assert most[:7] == [1, 1, 2, 3, 1, 2, 3]
    assert max(most) > 3
    assert len(largest) == 2
    assert all("pageSize=10" in query for query in largest), "a sample shows that a value is ignored"


async def test_what_is_old_is_probed_again(bench: BenchMaker) -> None:
    """After a day it is looked at again; if the gateway cannot be asked then, what is known still counts."""
    with SandboxServer(orders=30) as sandbox:
        async with bench(sandbox, probe=True, attempts=1) as b:
            known = await b.account.capabilities.probe(ORDERS)
            old = msgspec.structs.replace(known, at=known.at - PROBE_AGAIN - 1)
            await answer(b.redis.hset(b.account.keys.contract, "orders", msgspec.json.encode(old).decode()))
            # What the accounts of the gateway share is as old.
            await b.account.capabilities.gateway.doubt("orders", fingerprint=known.configured)
            sandbox.faults.replace(
                (FaultRule(operation="orders.search", action="status", code=503, times=1),)
            )
            assert (await b.poll()).outcome == "complete"
            assert (await b.account.capabilities.load())["orders"].at == old.at
            await b.poll()
            assert (await b.account.capabilities.load())["orders"].at > known.at


async def test_another_profile_is_another_belief(bench: BenchMaker) -> None:
    """What was found from another contract file is not used."""
    with SandboxServer(orders=5) as sandbox:
        async with bench(sandbox, probe=True) as b:
            await b.account.capabilities.probe(ORDERS)
            assert await b.account.capabilities.load()
            b.account.capabilities.store.fingerprint = "another"
            assert not await b.account.capabilities.load()


async def test_what_another_hand_wrote_is_passed_over(bench: BenchMaker) -> None:
    """An entry that cannot be read is no reason to stop: it is asked for anew."""
    with SandboxServer(orders=5) as sandbox:
        async with bench(sandbox, probe=True) as b:
            await answer(b.redis.hset(b.account.keys.contract, "orders", "{not json"))
            assert (await b.poll()).outcome == "complete"


async def test_no_list_anywhere(bench: BenchMaker) -> None:
    """Where no path answers, the poll says which were tried and what to do, and finds it once it is there."""
    moved = ServedContract(moved={"orders.search": "/elsewhere/orders"})
    with SandboxServer(orders=5, contract=moved) as sandbox:
        async with bench(sandbox, probe=True) as b:
            run = await b.poll()
            assert (run.outcome, run.error_code) == ("failed", "contract_mismatch")
            assert "/order/v1/orders, /v1/orders" in run.error
            assert "ordersync contract import" in run.error
            assert (await b.cursor()).failures == 1


async def test_a_list_that_moves_is_looked_for(bench: BenchMaker) -> None:
    """A path that answered and is gone fails one poll; the next one finds the new path."""
    with (
        SandboxServer(orders=20) as before,
        SandboxServer(orders=20, contract=ServedContract(prefixless=("order",))) as after,
    ):
        async with bench(before, probe=True) as b:
            assert (await b.poll()).outcome == "complete"
            b.account.client._api = b.account.client._api.model_copy(update={"base_url": after.url})
            await b.account.client._sender.http.aclose()
            b.account.client._sender.http = b.account.client._sender.make_http()
            failed = await b.poll()
            assert (failed.outcome, failed.error_code) == ("failed", "not_found")
            assert (await b.poll()).outcome == "complete"


async def test_forbidden(bench: BenchMaker) -> None:
    """A token that may not read the orders is told so, and polls go on once it may."""
    with SandboxServer(orders=20) as sandbox:
        sandbox.auth.permit({"shipment": {"get"}})
        async with bench(sandbox, probe=True) as b:
            run = await b.poll()
            assert (run.outcome, run.error_code) == ("failed", "forbidden")
            sandbox.auth.permit({"order": {"get"}})
            assert (await b.poll()).outcome == "complete"


async def test_a_path_set_by_hand_is_not_guessed_at(bench: BenchMaker) -> None:
    """What a person has set is asked and nothing else; if it does not answer, the error names it."""
    with SandboxServer(orders=20) as sandbox:
        async with bench(sandbox, probe=True) as b:
            b.account.capabilities.store.configured = ContractProfile(
                routes={"orders.search": Route("GET", "/wrong/path")}
            )
            found = await b.account.capabilities.probe(ORDERS)
            assert (found.state, found.tried) == ("missing", ("/wrong/path",))


@pytest.mark.parametrize("name", RESOURCES)
@pytest.mark.parametrize(
    "contract", [ServedContract(), ServedContract(page_base=0, wrapper_key="items", since_honoured=True)]
)
async def test_every_resource(bench: BenchMaker, name: str, contract: ServedContract) -> None:
    """Each resource is found, and read as a whole."""
    with SandboxServer(orders=80, contract=contract) as sandbox:
        async with bench(sandbox, probe=True) as b:
            resource = RESOURCES[name]
            found = await b.account.capabilities.probe(resource)
            assert found.state == "found"
            assert found.first_page == contract.page_base
            assert found.single.supported is (resource.single is not None)
            assert found.audit.supported
            run = await b.account.poller.poll(resource)
            assert run.outcome == "complete"
            assert run.published == run.records == found.total


async def test_a_failing_server_is_not_judged(bench: BenchMaker) -> None:
    """A gateway that is down says nothing of the contract: nothing is kept."""
    with SandboxServer(orders=5) as sandbox:
        sandbox.faults.replace((FaultRule(operation="orders.search", action="status", code=503),))
        async with bench(sandbox, probe=True, attempts=1) as b:
            run = await b.poll()
            assert (run.outcome, run.error_code) == ("failed", "server_error")
            assert not await b.account.capabilities.load()


async def test_a_sort_that_cannot_be_followed_to_a_witness_is_not_told(bench: BenchMaker) -> None:
    """That the server shows no more than the beginning of a list says nothing of how it sorts."""
    contract = ServedContract(
        result_cap=120, refuse_deep=True, since_honoured=True, sort_honoured=True, descending=True
    )
    with SandboxServer(orders=230, contract=contract) as sandbox:
        sandbox.store.change(10)
        async with bench(sandbox) as b:
            found = await b.account.capabilities.probe(ORDERS)
    assert (found.reach.supported, found.since, found.sorting.supported) == (False, "updatedFrom", None)
    told = "the page with the last of 230 records was refused (status 400: There are no results after the last page.)"
    assert found.reach.why == told


async def test_a_first_page_that_was_empty_for_a_moment_tells_no_end(bench: BenchMaker) -> None:
    """Records are needed to say where the last of them stands."""
    async with bench() as b:
        asker = ProbeClient(b.account.client, ORDERS, b.account.capabilities.store.configured)
        found = await find_reach(asker, SamplePage((), "orders", "total", 230))
    assert (found["reach"].supported, asker.usage.requests) == (None, 0)


async def test_a_record_that_is_deleted_during_the_probe_is_no_finding(redis_url: str) -> None:
    """The first record that is asked for by its id goes just then; that records can be read is found with another."""
    with Gateway(orders=60) as gateway:
        deleted: list[str] = []

        def delete(path: str) -> None:
            record = path.rpartition("/")[2]
            if not deleted and record in gateway.history.lines["orders"]:
                deleted.extend(gateway.history.delete("orders", [record]))

        gateway.watch = delete
        async with worker_at(gateway, redis_url, page_size=20) as worker:
            await worker.poll()
            found = (await worker.account.capabilities.load())["orders"]
        assert deleted
        assert found.single.supported


@pytest.mark.parametrize(
    "refusal", [{"success": False, "orders": [], "message": "page must be >= 1"}, {"message": "bad page"}]
)
async def test_page_0_that_is_refused_in_words(redis_url: str, refusal: dict[str, Any]) -> None:
    """With the status 200. It is no fault of the list, which begins with page 1; if page 1 is refused so, it is one."""
    refused = {"0"}

    def refuse(path: str, query: dict[str, str]) -> tuple[int, Any] | None:
        return (200, refusal) if path == LIST_PATH and query.get("page") in refused else None

    liar = Liar(records=orders(250), interfere=refuse)
    async with watching(liar, redis_url) as watch:
        refused.add("1")
        assert (await watch.poll()).outcome is Outcome.FAILED
        refused.remove("1")
        watch.clock.offset += 3600
        run = await watch.poll()
        assert (run.outcome, run.snapshot, await watch.missing()) == (Outcome.COMPLETE, 250, [])
        found = await watch.found()
        assert found is not None
        assert found.first_page == 1
