"""Every surface names a filter that the gateway honours no longer, until it holds again or a person accepts it."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from anyio import to_thread
from jsonschema_rs import Draft202012Validator

from tests.support.faulty_gateway import (
    FILTER,
    Liar,
    Watch,
    believed,
    by_creation,
    order,
    orders,
    reads_all,
    since_modified,
    watching,
)
from tests.support.page import page_of
from tests.support.paths import ROOT
from tests.support.programs import ordersync_process
from worker.admin.status import StatusCollector
from worker.admin.verdict import advice
from worker.app import announce
from worker.capture.causes import Cause
from worker.capture.registry import RESOURCES
from worker.cli.common.output import rendered
from worker.cli.render.status import screen
from worker.config.settings import Settings
from worker.reporting import reporter
from worker.telemetry.status_metrics import samples

pytestmark = pytest.mark.anyio

SCHEMA = Draft202012Validator(
    json.loads((ROOT / "deploy" / "status.schema.json").read_text(encoding="utf-8"))
)
TYPE = "To test it again: ordersync contract probe"


async def row_of(watch: Watch) -> dict[str, Any]:
    """Return the row of the orders, which keeps to the schema."""
    rows = await StatusCollector(watch.place.redis, Settings()).rows()
    SCHEMA.validate(rows)
    return next(row for row in rows if row["resource"] == "orders")


async def lose_the_filter(watch: Watch) -> None:
    """The filter goes by the creation from now on, and a full scan finds a change that it left out."""
    await announce(watch.place)
    await reads_all(watch)
    assert (await row_of(watch))["capabilities_withdrawn"] == []
    await leave_a_change_out(watch)
    await watch.poll(complete=True)
    assert await believed(watch) is None


async def leave_a_change_out(watch: Watch) -> None:
    """Let the filter go by the creation from now on, and leave out a change."""
    watch.liar.keeps = by_creation
    watch.liar.change(10)
    watch.liar.records.append(order(900, int(watch.clock.now() * 1000)))
    await watch.poll()


async def test_no_other_worker_reads_by_it_before_it_is_disabled(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full scan that the schedule begins holds its lease until what it has found of the filter is stored."""
    liar = Liar(records=orders(230), keeps=since_modified)
    async with watching(liar, redis_url) as watch:
        await reads_all(watch)
        await leave_a_change_out(watch)
        withdrawals, other = watch.account.capabilities.withdrawals, list[str]()
        disable = withdrawals.disable_active

        async def meanwhile(*arguments: Any) -> None:
            other.append((await watch.poll()).outcome)
            await disable(*arguments)

        monkeypatch.setattr(withdrawals, "disable_active", meanwhile)
        context = watch.account.poller.context
        context.account = msgspec.structs.replace(context.account, complete_every=0.0)
        assert "sweep" in (await watch.poll()).plan
        assert await believed(watch) is None
        assert other == ["held"]


async def test_every_surface_names_it(redis_url: str) -> None:
    """Row, screen, page, heartbeat and metrics, with since when, why, what it costs and what to type."""
    liar = Liar(records=orders(230), keeps=since_modified)
    async with watching(liar, redis_url) as watch:
        await lose_the_filter(watch)
        row = await row_of(watch)
        (item,) = row["capabilities_withdrawn"]
        assert (item["capability"], item["parameter"]) == ("filter", FILTER)
        text = f"the gateway no longer honours its filter by modification ({FILTER}), noticed "
        assert item["text"].startswith(text)
        assert "did not return a change that a full scan has found" in item["text"]
        assert "Nothing is missed, but polls need more requests without it, up to 3 each" in item["text"]
        assert item["text"].endswith(TYPE)
        assert (row["health"], row["cause_code"]) == ("degraded", Cause.CAPABILITY_WITHDRAWN)
        assert row["cause"] == item["text"]
        assert advice(row, name_account=False)[0] == "ordersync contract probe orders"
        assert "\n".join(map(rendered, screen([row]))).count(item["text"]) == 1
        values = {(name, *labels): value for name, labels, value in samples([row])}
        assert values["capability_withdrawn", row["account"], "orders", "filter"] == 1
        assert values["cause", row["account"], "orders", "degraded", "capability_withdrawn"] == 1
        (beat,) = [beat for beat in await reporter(watch.place)() if beat.resource == "orders"]
        assert (beat.health, beat.code) == ("degraded", "capability_withdrawn")
        assert beat.cause.startswith(text)
        async with page_of(redis_url) as served, httpx.AsyncClient(trust_env=False) as browser:
            assert text in (await browser.get(served.url)).text
        # Another cause does not hide it.
        other = row | {"cause": "another", "cause_code": "group_late"}
        assert item["text"] in "\n".join(map(rendered, screen([other])))


async def test_it_ends_when_the_filter_holds_again(redis_url: str) -> None:
    """A probe that finds it ignored keeps the notice and its time; one that finds it honoured ends it."""
    liar = Liar(records=orders(230), keeps=since_modified)
    async with watching(liar, redis_url) as watch:
        await lose_the_filter(watch)
        (before,) = (await row_of(watch))["capabilities_withdrawn"]
        await watch.account.capabilities.probe(RESOURCES["orders"])
        (after,) = (await row_of(watch))["capabilities_withdrawn"]
        assert after["since"] == before["since"]
        liar.keeps = since_modified
        await watch.account.capabilities.probe(RESOURCES["orders"])
        assert await believed(watch) == FILTER
        row = await row_of(watch)
        assert (row["capabilities_withdrawn"], row["health"]) == ([], "ok")


async def test_a_person_may_accept_it(redis_url: str, tmp_path: Path) -> None:
    """The command names what was honoured; with --accept the loss is the contract, also for later probes."""
    liar = Liar(records=orders(230), keeps=since_modified)
    async with watching(liar, redis_url) as watch:
        await lose_the_filter(watch)
        settings = {"redis__url": redis_url, "api__base_url": liar.url, "api__requests_per_second": "1000"}
        settings |= {"api__client_id": "made-up", "api__client_secret": "made-up"}
        probe = partial(ordersync_process, "contract", "probe", "orders", cwd=tmp_path, **settings)
        done = await to_thread.run_sync(probe)
        assert f"-> the filter by modification ({FILTER}) was honoured until " in done.stdout
        assert "if the gateway has lost it for good: ordersync contract probe orders --accept" in done.stdout
        assert (await row_of(watch))["cause_code"] == Cause.CAPABILITY_WITHDRAWN
        done = await to_thread.run_sync(
            partial(ordersync_process, "contract", "probe", "orders", "--accept", cwd=tmp_path, **settings)
        )
        assert done.returncode == 0
        assert "was honoured until" not in done.stdout
        await watch.account.capabilities.probe(RESOURCES["orders"])
        row = await row_of(watch)
        assert (row["capabilities_withdrawn"], row["health"]) == ([], "ok")


@pytest.mark.slow
async def test_it_may_be_accepted_for_all_accounts(redis_url: str, tmp_path: Path) -> None:
    """One account of the gateway is probed, and the others take that over, with what one alone may not read."""
    liar = Liar(records=orders(230), keeps=since_modified)
    names = ("one", "two", "three")
    async with watching(liar, redis_url):
        file = tmp_path / "accounts.toml"
        file.write_text(
            "".join(
                f'[accounts.{name}.api]\nbase_url = "{liar.url}"\nclient_id = "made-up"\n'
                'client_secret = "made-up"\nrequests_per_second = 1000\n'
                for name in names
            )
        )
        file.chmod(0o600)

        async def probe(*words: str) -> subprocess.CompletedProcess[str]:
            settings = {"redis__url": redis_url, "accounts_file": str(file)}
            return await to_thread.run_sync(
                partial(ordersync_process, "contract", "probe", "orders", *words, cwd=tmp_path, **settings)
            )

        async def reported(name: str) -> list[str]:
            done = await probe("--account", name, "--kept", "--json")
            (found,) = json.loads(done.stdout)
            return [item["capability"] for item in found["withdrawn"]]

        for name in names:
            await probe("--account", name)
        liar.keeps = by_creation
        for name in names:
            await probe("--account", name)
        assert [await reported(name) for name in names] == [["filter"]] * 3
        done = await probe("--accept")
        assert "To accept for all of them: --all-accounts" in done.stderr
        before = len(liar.asked)
        done = await probe("--accept", "--all-accounts")
        assert done.returncode == 0, done.stderr
        assert "orders: accepted for 2 more accounts of this gateway" in done.stdout
        sent = len(liar.asked) - before
        assert [await reported(name) for name in names] == [[]] * 3
        before = len(liar.asked)
        await probe("--account", "three")
        assert await reported("three") == []
        assert sent == len(liar.asked) - before  # as many as for one account


async def test_a_probe_that_notices_it(redis_url: str) -> None:
    """The daily probe that no longer sees the filter honoured is told like a read that does."""
    liar = Liar(records=orders(230), keeps=since_modified)
    async with watching(liar, redis_url) as watch:
        await announce(watch.place)
        await reads_all(watch)
        liar.keeps = by_creation
        await watch.account.capabilities.probe(RESOURCES["orders"])
        (item,) = (await row_of(watch))["capabilities_withdrawn"]
        assert item["parameter"] == FILTER
        known = await watch.found()
        assert known is not None
        assert msgspec.to_builtins(known.withdrawn)[0]["why"] in item["text"]
