"""`ordersync contract`, and a worker that goes by what was imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml

from tests.support.commands import ordersync
from tests.support.programs import login_settings
from worker.ordermesh.contract import reference
from worker.ordermesh.contract.operations import OPERATIONS
from worker.ordermesh.schemas import SCHEMAS
from worker.sandbox import SandboxServer, ServedContract
from worker.sandbox.openapi.openapi import document

MOVED = {"orders.search": "/other/v3/findOrders", "orders.get": "/other/v3/one/{anId}"}


def vendor(folder: Path, contract: ServedContract, name: str = "vendor.json", **changes: Any) -> Path:
    """An OpenAPI document of a gateway with this contract, as a file."""
    content = document(contract, "https://api.example.com") | changes
    (folder / name).write_text(json.dumps(content) if name.endswith(".json") else yaml.safe_dump(content))
    return folder / name


def answer(folder: Path, *arguments: str, **settings: str) -> Any:
    """What `ordersync contract ... --json` prints; it goes well and complains of nothing."""
    done = ordersync("contract", *arguments, "--json", cwd=folder, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def refusal(folder: Path, *arguments: str, **settings: str) -> str:
    """The one thing that is said when a command cannot be done, with exit code 2."""
    done = ordersync("contract", *arguments, cwd=folder, **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr


# --- show -------------------------------------------------------------------------------------------------


def test_show(tmp_path: Path) -> None:
    """All 79 operations, without a login, Redis or a contract file; the same as data."""
    done = ordersync("contract", "show", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line for line in done.stdout.splitlines()[1:80]}
    assert list(rows) == list(OPERATIONS)
    for key, operation in OPERATIONS.items():
        assert f" {operation.method} " in rows[key]
        assert f" {operation.path} " in rows[key]
        assert (" documented " in rows[key]) is operation.documented
        assert rows[key].endswith("built in")
    assert "docs/reference/contract" in done.stdout
    shown = answer(tmp_path, "show")
    assert [entry["key"] for entry in shown["operations"]] == list(OPERATIONS)
    assert {entry["source"] for entry in shown["operations"]} == {"built in"}
    assert (shown["layers"], shown["login_case"], shown["prefixes"]) == ([], "camel", {})


def test_show_what_differs(tmp_path: Path) -> None:
    """Each value with the one that is built in, where it comes from, and the file."""
    vendor(tmp_path, ServedContract(moved=MOVED))
    (tmp_path / "contract.toml").write_text(
        'openapi = "vendor.json"\nlogin_case = "snake"\n[operations."notes.search"]\nfirst_page = 0\n'
    )
    found = answer(tmp_path, "show", "--diff", contract_file="contract.toml")
    told = [(item["place"], item["field"], item["built_in"], item["value"], item["source"]) for item in found]
    assert told == [
        ("login", "login_case", "camel", "snake", "set by hand"),
        ("orders.search", "path", "/order/v1/orders", MOVED["orders.search"], "OpenAPI document"),
        ("orders.get", "path", "/order/v1/orders/{orderId}", "/other/v3/one/{orderId}", "OpenAPI document"),
        ("notes.search", "first_page", 1, 0, "set by hand"),
    ]
    assert [item["file"] for item in found] == [
        "contract.toml",
        "vendor.json",
        "vendor.json",
        "contract.toml",
    ]
    text = ordersync("contract", "show", "--diff", cwd=tmp_path, contract_file="contract.toml").stdout
    assert len(text.splitlines()) == 5
    assert "/order/v1/orders  " in text
    assert "OpenAPI document: vendor.json" in text
    one = answer(tmp_path, "show", "--diff", "--operation", "orders.get", contract_file="contract.toml")
    assert [item["place"] for item in one] == ["orders.get"]
    assert answer(tmp_path, "show", "--diff") == []
    assert (
        ordersync("contract", "show", "--diff", cwd=tmp_path).stdout
        == "Nothing differs from the built-in contract.\n"
    )


def test_show_one_operation(tmp_path: Path) -> None:
    """All that is known of it: where it stands now, and the schemas down to their last part."""
    (tmp_path / "contract.toml").write_text('[operations."orders.search"]\npath = "/mine"\nfirst_page = 0\n')
    arguments = ("show", "--operation", "orders.search")
    done = ordersync("contract", *arguments, cwd=tmp_path, contract_file="contract.toml")
    assert done.returncode == 0
    assert "GET /mine" in done.stdout
    assert "set by hand; built in: GET /order/v1/orders" in done.stdout
    assert "first_page = 0" in done.stdout
    assert "\nSearchOrdersResponse" in done.stdout
    shown = answer(tmp_path, *arguments, contract_file="contract.toml")
    assert shown["title"] == OPERATIONS["orders.search"].title
    assert shown["in_force"]["path"] == "/mine"
    assert (
        shown["in_force"]["listing"] | {"first_page": 0, "wrapper": "orders"} == shown["in_force"]["listing"]
    )
    assert shown["schemas"][0]["name"] == "SearchOrdersResponse"
    assert "CoordinatesModel" in [
        schema["name"] for schema in answer(tmp_path, "show", "--operation", "orders.create")["schemas"]
    ]


def test_show_one_schema(tmp_path: Path) -> None:
    """Every schema of the seed can be looked up: its fields with their source, or that they are not documented."""
    done = ordersync("contract", "show", "--schema", "Reroute", cwd=tmp_path)
    assert done.returncode == 0
    assert "shipments.reroute, shipments.reroute_many" in done.stdout
    assert "shipmentId!  string              vendor:SC-reroute" in done.stdout
    assert "\nRerouteOrderItem\n" in done.stdout
    assert (
        "fields not documented"
        in ordersync("contract", "show", "--schema", "CancelOrderModel", cwd=tmp_path).stdout
    )
    shown = answer(tmp_path, "show", "--schema", "CoordinatesModel")
    assert "orders.create" in shown["operations"]
    assert [field["name"] for field in shown["schemas"][0]["fields"]] == ["longitude", "latitude"]
    assert "Did you mean Reroute?" in refusal(tmp_path, "show", "--schema", "Rerout")
    assert "cannot be combined with other options" in refusal(
        tmp_path, "show", "--schema", "Reroute", "--diff"
    )


def test_show_the_reference(tmp_path: Path) -> None:
    """The reference as one page, for those who have installed the package alone."""
    page = ordersync("contract", "show", "--reference", cwd=tmp_path).stdout
    assert page == reference.markdown()
    data = answer(tmp_path, "show", "--reference")
    assert (len(data["operations"]), len(data["schemas"])) == (len(OPERATIONS), len(SCHEMAS)) == (79, 242)


def test_show_what_cannot_be_shown(tmp_path: Path) -> None:
    """An operation that there is not, a file that cannot be used, a setting that cannot be used."""
    assert "Did you mean orders.search?" in refusal(tmp_path, "show", "--operation", "orders.serch")
    (tmp_path / "contract.toml").write_text("[lists]\nfirst_page = 'x'\n")
    assert "contract.toml cannot be used:\n  lists.first_page must be" in refusal(
        tmp_path, "show", contract_file="contract.toml"
    )
    assert "Set ORDERSYNC_CONTRACT_FILE" in refusal(tmp_path, "show", contract_file="nowhere.toml")
    assert "Known accounts: default" in refusal(tmp_path, "show", "--account", "other")


def test_show_with_many_accounts(tmp_path: Path) -> None:
    """One is named where their contracts differ."""
    login = "client_id = 'x'\nclient_secret = 'y'\n"
    (tmp_path / "eu.toml").write_text("[prefixes]\norder = ''\n")
    (tmp_path / "accounts.toml").write_text(f"[accounts.us.api]\n{login}[accounts.eu.api]\n{login}")
    settings = {"accounts_file": "accounts.toml"}
    assert answer(tmp_path, "show", "--diff", **settings) == []
    with (tmp_path / "accounts.toml").open("a") as file:
        file.write("[accounts.eu]\ncontract_file = 'eu.toml'\n")
    assert "--account with one of: us, eu" in refusal(tmp_path, "show", **settings)
    assert "Known accounts: us, eu" in refusal(tmp_path, "show", "--account", "asia", **settings)
    assert answer(tmp_path, "show", "--account", "eu", **settings)["prefixes"] == {"order": ""}


# --- import -----------------------------------------------------------------------------------------------


def test_import_reports(tmp_path: Path) -> None:
    """Without writing anything, and without settings that can be used."""
    file = vendor(tmp_path, ServedContract(moved=MOVED))
    content = json.loads(file.read_text())
    del content["paths"]["/note/v1/notes"]["get"]
    content["paths"]["/pets"] = {"get": {"summary": "All \x1b[31mpets"}}
    file.write_text(json.dumps(content))
    done = ordersync("contract", "import", "vendor.json", cwd=tmp_path, api__page_size="junk")
    assert (done.returncode, done.stderr) == (0, "")
    assert "matched  78 of 79 (78 by title)" in done.stdout
    assert "changed  2 of these" in done.stdout
    assert "/order/v1/orders -> /other/v3/findOrders" in done.stdout
    assert "notes.search  the document has no operation with this title" in done.stdout
    assert "GET  /pets  All \\x1b[31mpets" in done.stdout
    assert "--output contract.toml" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vendor.json"]
    report = answer(tmp_path, "import", "vendor.json")
    assert report["counts"] == {"operations": 79, "matched": 78, "changed": 2, "missing": 1, "unknown": 1}
    assert [entry["key"] for entry in report["matched"] if entry["changed"]] == list(MOVED)
    assert [entry["key"] for entry in report["missing"]] == ["notes.search"]
    assert [entry["path"] for entry in report["unknown"]] == ["/pets"]
    assert report["written"] is None


def test_import_writes_a_profile(tmp_path: Path) -> None:
    """Only what differs; it says the same as the document, and is not written over by mistake."""
    vendor(tmp_path, ServedContract(moved=MOVED, wrapper_key="rows"), "vendor.yaml")
    command = ("import", "vendor.yaml", "--output", "contract.toml")
    done = ordersync("contract", *command, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.endswith("set ORDERSYNC_CONTRACT_FILE=contract.toml\n")
    text = (tmp_path / "contract.toml").read_text()
    assert 'path = "/other/v3/findOrders"  # built in: /order/v1/orders\n' in text
    assert "orders.cancel" not in text
    profile = answer(tmp_path, "show", contract_file="contract.toml")
    direct = answer(tmp_path, "show", contract_file="vendor.yaml")
    names = ("path", "method", "listing")
    assert [[entry.get(name) for name in names] for entry in profile["operations"]] == [
        [entry.get(name) for name in names] for entry in direct["operations"]
    ]
    assert "contract.toml already exists" in refusal(tmp_path, *command)
    (tmp_path / "contract.toml").write_text("mine")
    assert answer(tmp_path, *command, "--force")["written"] == "contract.toml"
    assert (tmp_path / "contract.toml").read_text() == text


def test_import_when_nothing_differs(tmp_path: Path) -> None:
    """A profile is written all the same for a script that counts on it; it sets nothing."""
    vendor(tmp_path, ServedContract())
    assert "no setting is needed" in ordersync("contract", "import", "vendor.json", cwd=tmp_path).stdout
    ordersync("contract", "import", "vendor.json", "--output", "contract.toml", cwd=tmp_path)
    assert answer(tmp_path, "show", "--diff", contract_file="contract.toml") == []


def test_import_with_prefixes(tmp_path: Path) -> None:
    """A portal that lists paths without the gateway's prefix is told, and can be made good."""
    vendor(tmp_path, ServedContract(prefixless=("order", "note")))
    report = answer(tmp_path, "import", "vendor.json")
    assert report["unprefixed"] == ["order", "note"]
    assert "--add-prefixes" in ordersync("contract", "import", "vendor.json", cwd=tmp_path).stdout
    assert answer(tmp_path, "import", "vendor.json", "--add-prefixes")["counts"]["changed"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.json",), "nowhere.json cannot be read: No such file"),
        (("contract.toml",), "contract.toml is not an OpenAPI document"),
        (("bad.json",), "bad.json is not valid JSON"),
        (("vendor.json", "--output", "vendor.json", "--force"), "is the document itself"),
        (("vendor.json", "--output", "nowhere/contract.toml"), "cannot be written"),
        (("pets.json", "--output", "new.toml"), "none of the 79 operations"),
    ],
)
def test_import_what_cannot_be_used(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """Exit code 2, and nothing is written."""
    vendor(tmp_path, ServedContract())
    (tmp_path / "contract.toml").write_text('login_case = "snake"\n')
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "pets.json").write_text('{"openapi": "3.0.0", "paths": {"/pets": {"get": {}}}}')
    assert words in refusal(tmp_path, "import", *arguments)
    assert not (tmp_path / "new.toml").exists()


def test_a_document_of_another_api_is_a_report(tmp_path: Path) -> None:
    """Exit code 0: nothing of it is matched, and that is what it says."""
    (tmp_path / "pets.json").write_text('{"openapi": "3.0.0", "paths": {"/pets": {"get": {}}}}')
    assert answer(tmp_path, "import", "pets.json")["counts"]["matched"] == 0


# --- the worker -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["profile", "document", "account"])
def test_an_imported_document_moves_the_worker(tmp_path: Path, redis_url: str, by: str) -> None:
    """A gateway with other paths: its document is imported, and every order is read from there."""
    with SandboxServer(orders=120, contract=ServedContract(moved=MOVED, wrapper_key="rows")) as sandbox:
        (tmp_path / "vendor.json").write_text(
            httpx.get(f"{sandbox.url}/openapi.json").raise_for_status().text
        )
        done = ordersync("contract", "import", "vendor.json", "--output", "contract.toml", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        settings = login_settings(sandbox, redis_url, tmp_path / "data")
        sandbox.requests.clear()
        lost = ordersync("run", "--once", cwd=tmp_path, **settings)
        assert lost.returncode != 0  # without the file the worker does not find the orders
        assert sandbox.requests.count("orders.search", 200) == 0
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        sandbox.requests.clear()
        if by == "account":
            login = "\n".join(
                f"{name[5:]} = '{settings.pop(name)}'" for name in list(settings) if name[:5] == "api__"
            )
            (tmp_path / "accounts.toml").write_text(
                f"[accounts.default]\ncontract_file = 'contract.toml'\n[accounts.default.api]\n{login}\n"
            )
            settings["accounts_file"] = "accounts.toml"
        else:
            settings["contract_file"] = "contract.toml" if by == "profile" else "vendor.json"
        done = ordersync("run", "--once", "--json", cwd=tmp_path, **settings)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[0]["records"] == 120
        assert sandbox.requests.count("orders.search", 200) >= 2
        seen = {record.operation for record in sandbox.requests.last()}
        assert "unknown" not in seen, sandbox.requests.last()
        assert sandbox.requests.count("orders.get", 200) >= 1  # the probe's, by our name of the parameter
        assert httpx.get(sandbox.url + OPERATIONS["orders.search"].path).status_code in {404, 405}
    with redis.Redis.from_url(redis_url) as client:
        assert client.xlen("ordersync:{default}:stream:orders") == 120


def test_a_contract_file_that_cannot_be_used_ends_the_start(
    tmp_path: Path, redis_url: str, sandbox: SandboxServer
) -> None:
    """Before anything is asked of the gateway."""
    (tmp_path / "contract.toml").write_text('[operations."orders.search"]\npath = "orders"\n')
    settings = login_settings(sandbox, redis_url, tmp_path / "data", contract_file="contract.toml")
    done = ordersync("run", "--once", cwd=tmp_path, **settings)
    assert done.returncode == 2
    assert "operations.\"orders.search\".path: 'orders' must begin with a slash" in done.stderr
    assert sandbox.requests.count() == 0
