"""`run --once`: everything is read from the beginning, and deletions are waited for."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import pytest

from tests.integration.capture.scan.test_first_scans import once_before
from tests.support.commands import ordersync
from tests.support.gateway import Gateway, Serving
from tests.support.polling import after_pages
from tests.support.programs import login_settings
from tests.support.worker import Bench, BenchMaker
from worker.sandbox import SandboxServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(sandbox: SandboxServer, redis_url: str, tmp_path: Path) -> dict[str, str]:
    return login_settings(sandbox, redis_url, tmp_path, api__page_size="5")


async def absent(b: Bench) -> str:
    (identifier,) = await b.store.all_absent()
    return identifier


async def test_it_starts_over(bench: BenchMaker, tmp_path: Path, settings: dict[str, str]) -> None:
    """A scan that was interrupted on page 7 of 10 is not resumed: the change on its first page is published."""
    async with bench(page_size=5) as b:
        await b.poll()
        b.sandbox.store.change(b.sandbox.store.ids()[33])
        await b.poll(stop=after_pages(7))
        b.sandbox.store.change(b.sandbox.store.ids()[2])
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        assert (done.returncode, "complete: 50 records read, 1 events" in done.stdout) == (0, True), (
            done.stdout
        )


async def test_after_a_pause(bench: BenchMaker, tmp_path: Path, settings: dict[str, str]) -> None:
    """`pause`, `resume`, `run --once`: nothing that changed in between waits."""
    async with bench(page_size=5) as b:
        await b.poll()
        b.sandbox.store.change(b.sandbox.store.ids()[33])
        await b.poll(stop=after_pages(7))
        assert ordersync("pause", "orders", "--reason", "test", cwd=tmp_path, **settings).returncode == 0
        changed = [b.sandbox.store.ids()[number] for number in range(5)]
        for each in changed:
            b.sandbox.store.change(each)
        assert ordersync("resume", "orders", cwd=tmp_path, **settings).returncode == 0
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        assert (done.returncode, "5 updated" in done.stdout) == (0, True), done.stdout


async def test_an_older_state_is_named(redis_url: str, tmp_path: Path) -> None:
    """Where it cannot be read by id, a later full scan decides; until then it is neither unchanged nor kept quiet."""
    with Gateway(orders=6) as gateway:
        settings = gateway.settings(redis_url, tmp_path)
        gateway.faults.add("status", code=404, path=r"/orders/\w+$")
        assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
        one = gateway.history.ids("orders")[:1]
        gateway.history.change("orders", one, at=time.time() - 86_400)
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        assert "0 events published" in done.stdout
        assert "5 unchanged" in done.stdout
        assert "1 record has changed without a later time, not published until" in done.stdout
        done = ordersync("run", "--once", "--json", cwd=tmp_path, **settings)
        (run,) = json.loads(done.stdout)
        assert (run["updated"], run["older_undecided"]) == (0, 1)
        gateway.history.change("orders", one)
        done = ordersync("run", "--once", "--json", cwd=tmp_path, **settings)
        (run,) = json.loads(done.stdout)
        assert (run["updated"], "older_undecided" in run) == (1, False)


async def test_deletions_are_waited_for(bench: BenchMaker, tmp_path: Path, settings: dict[str, str]) -> None:
    """Without waiting they are named with the time that is left; with it they are published."""
    async with bench() as b:
        await b.poll()
        b.sandbox.store.delete(b.sandbox.store.ids()[3])
        done = ordersync("run", "--once", "--no-wait", cwd=tmp_path, **settings)
        assert (done.returncode, "1 deletion to be confirmed in 300 s" in done.stdout) == (0, True), (
            done.stdout
        )
        done = ordersync("run", "--once", "--no-wait", "--json", cwd=tmp_path, **settings)
        (fields,) = json.loads(done.stdout)
        assert fields["deletes_unconfirmed"] == 1
        assert 250 < fields["confirmed_in_s"] <= 300
        settings |= {"poll__confirm_deletes": "0.3"}
        b.sandbox.store.delete(b.sandbox.store.ids()[4])
        await b.redis.zadd(b.account.keys.refresh_queue("orders"), {f"id:{await absent(b)}": 1})
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        assert (done.returncode, "2 deleted" in done.stdout) == (0, True), done.stdout
        assert "to be confirmed" not in done.stdout
        assert [event.action for event in await b.events()][-2:] == ["deleted", "deleted"]


async def test_without_single_reads_another_scan_confirms(
    bench: BenchMaker, tmp_path: Path, settings: dict[str, str]
) -> None:
    """Categories cannot be read by id: two scans, some time apart, have to miss one."""
    settings |= {"poll__intervals": '{"categories": 1}', "poll__confirm_deletes": "5"}
    async with bench() as b:
        assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
        categories = b.sandbox.world.categories
        categories.remove(categories.ids()[0])
        done = ordersync("run", "--once", "--no-wait", cwd=tmp_path, **settings)
        assert "1 deletion to be confirmed in " in done.stdout
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        assert (done.returncode, "1 deleted" in done.stdout) == (0, True), done.stdout


async def test_deletions_that_are_held_back_are_exit_1(redis_url: str, tmp_path: Path) -> None:
    """They are printed with the summary, and the error says what to do."""
    with SandboxServer(orders=120) as sandbox:
        settings = login_settings(sandbox, redis_url, tmp_path)
        assert ordersync("run", "--once", cwd=tmp_path, **settings).returncode == 0
        for victim in sandbox.store.ids()[:52]:
            sandbox.store.delete(victim)
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        assert done.returncode == 1
        assert "deletions of 52 records are held back" in done.stdout
        assert done.stderr.index("contract probe") < done.stderr.index("--accept-deletes")


@pytest.mark.parametrize("gives_up", [False, True])
async def test_it_goes_on_until_no_order_can_be_missing(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, gives_up: bool
) -> None:
    """An order slips by in the first scan: another one finds it. Without patience left, the reason is an error."""
    if gives_up:
        monkeypatch.setattr("worker.cli.run.once.PATIENCE", 0.0)
        monkeypatch.setattr("worker.cli.run.once.PATIENT_SCANS", 0)
    with Gateway(orders=32, serving=Serving(order="modified")) as gateway:
        first = gateway.history.ids("orders")[:1]
        gateway.serving.before_page = once_before(5, lambda: gateway.history.change("orders", first))
        settings = gateway.settings(redis_url, tmp_path, api__page_size="5", api__max_concurrency="1")
        done = ordersync("run", "--once", cwd=tmp_path, **settings)
        if gives_up:
            assert (done.returncode, "may not be known yet" in done.stderr) == (1, True), done.stdout
        else:
            assert done.returncode == 0, done.stderr
            assert "complete: 32 records read" in done.stdout
            assert "33 events published (32 snapshot, 0 created, 1 updated" in done.stdout


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_file_that_all_can_read_is_named(settings: dict[str, str], mode: int) -> None:
    """The log says which, and what to type; where only its owner can read it, nothing."""
    secret = settings.pop("api__client_secret")
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / ".env"
        file.write_text(f"ORDERSYNC_API__CLIENT_SECRET={secret}\n")
        file.parent.chmod(0o755)
        file.chmod(mode)
        done = ordersync("run", "--once", "--no-wait", cwd=file.parent, **settings)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if '"settings_exposed"' in line]
    told = [(line["level"], line["file"], line["advice"]) for line in lines]
    advice = f"if it contains secrets: chmod 0600 {file}"
    assert told == ([("warning", str(file), advice)] if mode & 0o004 else [])
