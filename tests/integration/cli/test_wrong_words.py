"""Names that are not known get the nearest known one, and options that would have no effect are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ordersync_consumer import SettingsError
from ordersync_consumer.resources import check_resource
from tests.support.commands import ordersync
from tests.support.programs import login_settings
from tests.support.servers import free_port
from tests.support.worker import BenchMaker
from worker.app import announce
from worker.ordermesh.contract.operations import OPERATIONS
from worker.reporting import reporter
from worker.sandbox import FaultRule


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("statsu", "No such command 'statsu'. Did you mean status?"),
        ("contract prob", "No such command 'prob'. Did you mean probe?"),
        ("groups dorp", "Did you mean 'drop'?"),
        ("tail order", "Unknown resource 'order'. Did you mean orders?"),
        ("tail Shipment_Audits", "Did you mean shipment_audit?"),
        ("schema asynapi", "Did you mean asyncapi?"),
        ("run --json", "--json has no effect without --once"),
        ("run --orders 5", "--orders has no effect without --sandbox"),
        ("run --no-wait", "--no-wait has no effect without --once"),
        ("status --every 3", "--every has no effect without --watch"),
        ("erase x --dry-run --yes", "--yes has no effect with --dry-run"),
        ("erase x --offline --resource notes", "--offline has no effect without --resource orders"),
        ("resync orders --all --dry-run --by me", "--by has no effect with --dry-run"),
        ("resync orders --accept-deletes --json", "Leave out the other options"),
        ("contract import x.json --force", "--force has no effect without --output"),
        ("contract probe --kept --accept", "--accept has no effect with --kept"),
        ("contract show --reference --account a", "--account has no effect with --reference"),
        ("groups --json drop x", "--json has no effect with `groups drop`"),
        ("tail --from 0 -n 3", "--from and --last say both where to start"),
        (
            "tail --from yesterday",
            "neither a time (2026-03-02T10:00:00Z) nor an age (30min, 2h, 3d), nor the id",
        ),
        ("tail --from 2126-01-01", "is in the future. For new events alone: --last 0"),
        ("tail --last x", "'x' is not a valid integer."),
        ("doctor --timeout x", "'x' is not a valid number."),
        ("pause", "Missing option --reason TEXT: Reason of the pause"),
        ("forward --group g", "Missing option --to URL: Address that gets the events"),
        ("timeline", "Missing argument 'ID'."),
    ],
)
def test_what_is_typed(words: str, said: str, tmp_path: Path) -> None:
    """A slip of the hand ends with exit code 2, and says what was meant."""
    done = ordersync(*words.split(), cwd=tmp_path, data_dir=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize("words", ["", "dead", "contract", "config", "accounts"])
def test_a_group_without_a_command(words: str, tmp_path: Path) -> None:
    """Prints its help once, and calls it no error."""
    done = ordersync(*words.split(), cwd=tmp_path, data_dir=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("Usage: ordersync") == 1
    assert "Error" not in done.stderr


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        (
            "poll__presett",
            "all",
            "ORDERSYNC_POLL__PRESETT is not a setting. Did you mean ORDERSYNC_POLL__PRESET?",
        ),
        ("poll__intervals", '{"order": 5}', "Unknown resource 'order'. Did you mean orders?"),
    ],
)
def test_settings(setting: str, value: str, said: str, tmp_path: Path) -> None:
    """A setting, or a name in it."""
    done = ordersync("config", "show", cwd=tmp_path, **{setting: value})
    assert done.returncode == 2
    assert said in done.stderr


def test_a_setting_in_the_file_of_accounts(tmp_path: Path) -> None:
    """The file of accounts has the same names."""
    file = tmp_path / "accounts.toml"
    file.write_text('[accounts.a]\napi = {clientid = "x"}\n')
    done = ordersync("config", "show", cwd=tmp_path, accounts_file=str(file))
    if done.returncode == 0:  # the command shows the address of the file
        done = ordersync("run", cwd=tmp_path, accounts_file=str(file), data_dir=str(tmp_path))
    assert done.returncode == 2
    assert "clientid is not a setting. Did you mean client_id?" in done.stderr


def test_the_kit() -> None:
    """The kit of consumers suggests the nearest name, too."""
    with pytest.raises(SettingsError, match=r"Did you mean shipments\?"):
        check_resource("shipmnts")


@pytest.mark.anyio
async def test_what_redis_knows(bench: BenchMaker, redis_url: str, tmp_path: Path) -> None:
    """An account, a group, and a resync of what nobody polls."""
    async with bench() as b:
        await announce(b.services)
        await b.poll()
        await b.account.groups.create("orders", "warehouse", "0")
        await reporter(b.services)()
        done = ordersync("groups", "--account", "defualt", cwd=tmp_path, redis__url=redis_url)
        assert "Unknown account 'defualt' in this Redis. Did you mean default?" in done.stderr
        done = ordersync("groups", "show", "warehose", cwd=tmp_path, redis__url=redis_url)
        assert "Did you mean warehouse?" in done.stderr
        for typed in (("groups", "drop", "warehose", "--yes"), ("replay", "--group", "warehose", "orders")):
            done = ordersync(*typed, cwd=tmp_path, redis__url=redis_url)
            assert done.returncode == 2
            assert "Did you mean warehouse?" in done.stderr
        for words, consequence in (
            ("--all", "later changes are not published"),
            ("--accept-deletes", "no next full"),
        ):
            done = ordersync("resync", "notes", words, cwd=tmp_path, redis__url=redis_url)
            assert "default/notes is not polled by any live worker: " in done.stderr
            assert consequence in done.stderr


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (404, "OrderMesh does not know it either"),
        (403, "did not say whether it knows it"),
        (0, "was not asked"),
    ],
)
@pytest.mark.anyio
async def test_an_order_that_nobody_knows(
    bench: BenchMaker, redis_url: str, tmp_path: Path, code: int, said: str
) -> None:
    """What `timeline` says of OrderMesh is what OrderMesh has said: a refusal is no answer."""
    async with bench() as b:
        await announce(b.services)
        await b.poll()
        if code:
            b.sandbox.faults.replace(
                [
                    FaultRule("status", operation=name, code=code)
                    for name in OPERATIONS
                    if name.startswith("orders.")
                ]
            )
        words = () if code else ("--offline",)
        done = ordersync(
            "timeline", "nobody", *words, cwd=tmp_path, **login_settings(b.sandbox, redis_url, tmp_path)
        )
        assert said in done.stderr


@pytest.mark.anyio
async def test_no_connection_is_said_in_words(bench: BenchMaker) -> None:
    """No words of a library: which address, and what the system says."""
    async with bench(attempts=1) as b:
        b.account.client._api = b.account.client._api.model_copy(
            update={"base_url": f"http://127.0.0.1:{free_port()}"}
        )
        run = await b.poll()
    assert "cannot be reached (no connection: Connection refused)" in run.error
