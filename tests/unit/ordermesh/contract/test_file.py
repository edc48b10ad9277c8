"""The contract file: what it may be, what it sets, in which order, and how it tells what is wrong with it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.contract_files import SEARCH, VENDOR, written
from tests.support.documentation import block
from tests.support.surroundings import without_settings
from tests.support.waiting import PATIENCE
from worker.config import settings
from worker.errors import SettingsError
from worker.ordermesh.contract.configured import contract_of
from worker.ordermesh.contract.file import render
from worker.ordermesh.contract.layers import LISTING_FIELDS, Contract, Layer, stack
from worker.ordermesh.contract.operations import OPERATIONS, SERVICES
from worker.ordermesh.contract.profile import ContractProfile, Listing, Route


def differences(contract: Contract) -> dict[tuple[str, str], tuple[Any, Any, str]]:
    """What differs, by place and field: built in, in force, and the name of the file."""
    return {
        (item.place, item.field): (item.built_in, item.value, Path(item.file).name)
        for item in contract.differences
    }


# --- what a file may set ----------------------------------------------------------------------------------


def test_no_file() -> None:
    """What is built in, and nothing that differs."""
    assert contract_of(None) == Contract(ContractProfile())
    assert contract_of(None).source_of("orders.search") == "built in"


def test_every_part_of_a_profile(tmp_path: Path) -> None:
    contract = written(
        tmp_path,
        """
        login_case = "snake"
        [prefixes]
        order = ""
        note = "/mesh/note"
        [lists]
        page_parameter = "pageNumber"
        first_page = 0
        [operations."orders.search"]
        method = "post"
        path = "/v1/orders/search"
        wrapper = "data"
        largest_page = 200
        ascending = { sortBy = "updatedAt", sortDirection = "asc" }
        [operations."notes.get"]
        path = "/n/{id}"
        """,
    )
    profile = contract.profile
    assert profile.login_case == "snake"
    assert profile.path("orders.list") == "/v1/orders/list"
    assert profile.path("notes.search") == "/mesh/note/v1/notes"
    assert profile.path("notes.get", {"noteId": "1"}) == "/n/1"
    assert profile.route("orders.search") == Route("POST", "/v1/orders/search")
    assert profile.page_query("notes.search", 0, 10) == {"pageNumber": "0", "pageSize": "10"}
    assert profile.list_of("orders.search") == Listing(
        page_parameter="pageNumber", first_page=0, wrapper="data", largest_page=200,
        ascending={"sortBy": "updatedAt", "sortDirection": "asc"},
    )  # fmt: skip
    assert profile.route("products.list") == ContractProfile().route("products.list")
    found = differences(contract)
    assert found["orders.search", "wrapper"] == ("orders", "data", "contract.toml")
    assert found["prefixes", "order"] == ("/order", "", "contract.toml")
    assert found["orders.list", "path"] == ("/order/v1/orders/list", "/v1/orders/list", "contract.toml")
    assert found["lists", "first_page"] == (1, 0, "contract.toml")
    assert found["login", "login_case"] == ("camel", "snake", "contract.toml")
    assert contract.source_of("orders.search") == "set by hand"
    assert contract.source_of("products.list") == "built in"


EXAMPLES: dict[str, Any] = {
    "str": "name", "str | None": "name", "int": 0, "int | None": 50, "Mapping[str, str]": {"a": "b"},
    "bool": True, "Trust": "untrusted",
}  # fmt: skip


@pytest.mark.parametrize("name", LISTING_FIELDS)
def test_every_field_of_a_list_can_be_set(tmp_path: Path, name: str) -> None:
    """For all lists, or for one; a field that `Listing` gets can be set without more ado."""
    value = EXAMPLES[LISTING_FIELDS[name]]
    text = render({"orders.search": {name: value}}, "")
    assert getattr(written(tmp_path, text).profile.list_of("orders.search"), name) == value
    for_all = text.replace('operations."orders.search"', "lists")
    assert getattr(written(tmp_path, for_all).profile.list_of("notes.search"), name) == value


def test_a_value_that_is_built_in_is_no_difference(tmp_path: Path) -> None:
    contract = written(
        tmp_path,
        f'[lists]\npage_parameter = "page"\n[operations."orders.search"]\npath = "{SEARCH.path}"\nwrapper = "orders"\n',
    )
    assert contract.differences == ()


@pytest.mark.parametrize("service", SERVICES)
def test_every_prefix_can_be_set(tmp_path: Path, service: str) -> None:
    """Of each service in the table of operations."""
    profile = written(tmp_path, f'[prefixes]\n{service} = "/mesh"').profile
    assert profile.prefixes == {service: "/mesh"}


def test_keys_without_quotes(tmp_path: Path) -> None:
    """TOML reads `orders.search` as a table in a table; it can mean nothing else."""
    assert written(tmp_path, '[operations.orders.search]\npath = "/o"').profile.path("orders.search") == "/o"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[operations."orders.search"]\nmethod = "DELETE"', "orders.search only reads, so its method cannot be DELETE"),
        ('[operations."orders.search"]\nmethod = "POST"', "POST /order/v1/orders is the path of orders.create"),
        ('[prefixes]\norder = ""\n[operations."orders.search"]\nmethod = "POST"\npath = "/v1/orders"', "orders.create"),
        ('[operations."notes.get"]\nmethod = "DELETE"', "notes.get only reads, so its method cannot be DELETE"),
        ('[operations."notes.get"]\nmethod = "POST"', "notes.get only reads, so its method cannot be POST"),
        ('[operations."notes.create"]\nmethod = "GET"', "notes.create changes data, so its method cannot be GET"),
        ('[operations."orders.get"]\npath = "/o/%2e%2e/{id}"', "contains a percent-encoded dot or slash"),
    ],
)  # fmt: skip
def test_what_reads_never_writes(tmp_path: Path, content: str, message: str) -> None:
    """A contract file cannot make a read, which is sent at will and again, change anything."""
    with pytest.raises(SettingsError, match=re.escape(message)):
        written(tmp_path, content)


def test_a_search_may_be_a_post(tmp_path: Path) -> None:
    """At a path of its own."""
    contract = written(tmp_path, '[operations."orders.search"]\nmethod = "POST"\npath = "/v1/orders/search"')
    assert contract.profile.route("orders.search") == Route("POST", "/v1/orders/search")


def test_a_path_set_alone_does_not_move_with_a_prefix_found_later(tmp_path: Path) -> None:
    """Also where it is the built-in one: a person has said so."""
    contract = written(tmp_path, f'[operations."orders.search"]\npath = "{SEARCH.path}"')
    found = msgspec.structs.replace(contract.profile, prefixes={"order": ""})
    assert (found.path("orders.search"), found.path("orders.list")) == (SEARCH.path, "/v1/orders/list")


# --- layers -----------------------------------------------------------------------------------------------


def test_a_profile_over_a_document(tmp_path: Path) -> None:
    """Value by value; the document is found beside the profile, wherever the program runs."""
    (tmp_path / "vendor.json").write_text(json.dumps(VENDOR))
    contract = written(
        tmp_path,
        'openapi = "vendor.json"\n[operations."orders.search"]\nmethod = "POST"\n'
        '[operations."notes.search"]\npath = "/mine"\n',
    )
    assert contract.profile.route("orders.search") == Route("POST", "/v2/orders")
    assert contract.profile.path("notes.search") == "/mine"
    found = differences(contract)
    assert found["orders.search", "path"] == ("/order/v1/orders", "/v2/orders", "vendor.json")
    assert found["orders.search", "size_parameter"] == ("pageSize", "limit", "vendor.json")
    assert found["orders.search", "method"] == ("GET", "POST", "contract.toml")
    assert [layer.source for layer in contract.layers] == ["OpenAPI document", "set by hand"]
    assert contract.source_of("orders.search") == "set by hand"


def test_a_prefix_set_by_hand_moves_the_paths_of_the_document(tmp_path: Path) -> None:
    """Of those that lack it as of those that have another one; what is set for all lists wins as well."""
    (tmp_path / "vendor.json").write_text(json.dumps(VENDOR))
    contract = written(
        tmp_path,
        'openapi = "vendor.json"\n[prefixes]\norder = "/order"\n[lists]\nsize_parameter = "take"\n',
    )
    assert contract.profile.path("orders.search") == "/order/v2/orders"
    assert contract.profile.path("orders.list") == "/order/v1/orders/list"
    assert contract.profile.path("notes.search") == "/v2/notes"
    assert contract.profile.list_of("orders.search").size_parameter == "take"
    assert ("orders.search", "size_parameter") not in differences(contract)


ROUTES = st.fixed_dictionaries(
    {}, optional={"method": st.sampled_from(["GET", "PUT"]), "path": st.sampled_from(["/a", "/order/b"])}
)
LISTS = st.fixed_dictionaries(
    {}, optional={"page_parameter": st.sampled_from("pqr"), "first_page": st.integers(0, 1)}
)
LAYERS = st.builds(
    Layer,
    st.sampled_from(["OpenAPI document", "set by hand"]),
    st.just("file"),
    prefixes=st.dictionaries(st.just("order"), st.sampled_from(["", "/x", "/order"])),
    lists=LISTS,
    operations=st.fixed_dictionaries(
        {}, optional={"orders.search": st.builds(lambda a, b: a | b, ROUTES, LISTS)}
    ),
)


@given(layers=st.lists(LAYERS, max_size=4))
def test_the_later_layer_wins(layers: list[Layer]) -> None:
    """Whatever the layers: each value in force is that of the last one that says anything of it."""
    profile = stack(layers).profile
    for name in ("page_parameter", "first_page"):
        said = [
            value
            for layer in layers
            for value in (layer.lists.get(name), layer.operations.get("orders.search", {}).get(name))
            if value is not None
        ]
        assert getattr(profile.list_of("orders.search"), name) == (said or [getattr(Listing(), name)])[-1]
        general = [layer.lists[name] for layer in layers if name in layer.lists]
        assert getattr(profile.list_of("notes.search"), name) == (general or [getattr(Listing(), name)])[-1]
    path = SEARCH.path
    for layer in layers:
        if "order" in layer.prefixes:
            path = layer.prefixes["order"] + path.removeprefix("/order")
        path = layer.operations.get("orders.search", {}).get("path", path)
    methods = [one["method"] for layer in layers for one in layer.operations.values() if "method" in one]
    assert profile.route("orders.search") == Route((methods or ["GET"])[-1], path)
    # What is told to differ is what differs.
    told = {(item.place, item.field): item.value for item in stack(layers).differences}
    assert told.get(("orders.search", "path"), SEARCH.path) == path


@given(
    operations=st.dictionaries(
        st.sampled_from([key for key, one in OPERATIONS.items() if one.paged and not one.path_parameters]),
        st.fixed_dictionaries(
            {"path": st.from_regex(r"/[a-z0-9._~!$&'()*+,;=:@%-]{1,12}[a-z]", fullmatch=True)},
            optional={
                "method": st.sampled_from(["GET", "POST"]),
                "wrapper": st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1),
                "page_parameter": st.text(st.characters(codec="utf-8"), min_size=1).filter(str.isprintable),
                "first_page": st.integers(0, 1),
                "largest_page": st.integers(1, 1_000_000),
                "descending": st.dictionaries(*[st.text("ab \"\\'=#[]\x20\xe4", min_size=1)] * 2, min_size=1),
            },
        ),
        max_size=4,
    )
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_is_written_is_what_is_read(tmp_path: Path, operations: dict[str, dict[str, Any]]) -> None:
    """A profile that was written out says the same as what it was written from."""
    contract = written(tmp_path, render(operations, "a header\n\nwith \u00e4 and # in it"))
    assert contract.layers[0].operations == operations
    assert contract.profile == stack([Layer("OpenAPI document", "", operations=operations)]).profile


# --- which of the two a file is ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vendor.json", "vendor.yaml", "vendor.toml", "vendor"])
@pytest.mark.parametrize(
    "text",
    [
        json.dumps(VENDOR),
        "\ufeff" + json.dumps(VENDOR, indent=1),
        yaml.safe_dump(VENDOR),
        "# exported\n---\n" + yaml.safe_dump(VENDOR, sort_keys=True),
        json.dumps(VENDOR).replace('"openapi": "3.0.3"', '"swagger": "2.0"'),
        "'swagger' : '2.0'\n" + yaml.safe_dump({"paths": VENDOR["paths"]}),
    ],
)
def test_the_content_says_what_a_file_is(tmp_path: Path, name: str, text: str) -> None:
    """Not its name."""
    assert written(tmp_path, text, name).profile.path("orders.search") == "/v2/orders"


def test_a_profile_by_another_name(tmp_path: Path) -> None:
    """A comment that mentions `openapi:` makes no document of it."""
    text = '# openapi: see below\nlogin_case = "snake"\n'
    assert written(tmp_path, text, "contract.json").profile.login_case == "snake"


def test_yaml_is_imported_for_yaml_alone(tmp_path: Path) -> None:
    """A worker with a TOML profile, or a JSON document, starts without it."""
    (tmp_path / "vendor.json").write_text(json.dumps(VENDOR))
    (tmp_path / "contract.toml").write_text('openapi = "vendor.json"\n')
    script = (
        "import sys, pathlib\nfrom worker.ordermesh.contract.file import load\n"
        "assert load(pathlib.Path(sys.argv[1])).differences\nprint('yaml' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "contract.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == ("False\n", "")


# --- settings ---------------------------------------------------------------------------------------------


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A folder without `.env`, a login, and nothing else set."""
    without_settings(monkeypatch, tmp_path)
    monkeypatch.setenv("ORDERSYNC_API__CLIENT_ID", "client")
    monkeypatch.setenv("ORDERSYNC_API__CLIENT_SECRET", "secret")
    return monkeypatch


def test_the_setting(surroundings: pytest.MonkeyPatch) -> None:
    """Of the one account; an empty variable counts as not set, and `~` is the home folder."""
    surroundings.setenv("ORDERSYNC_CONTRACT_FILE", "")
    assert [account.contract_file for account in settings.load().accounts()] == [None]
    surroundings.setenv("ORDERSYNC_CONTRACT_FILE", "~/contract.toml")
    (account,) = settings.load().accounts()
    assert account.contract_file == Path.home() / "contract.toml"


def test_many_accounts_may_have_their_own(surroundings: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Relative to the accounts file; else that of the environment; "" for none."""
    (tmp_path / "etc").mkdir()
    login = 'client_id = "c"\nclient_secret = "s"\n'
    (tmp_path / "etc" / "accounts.toml").write_text(
        f'[accounts.own]\ncontract_file = "own.toml"\n[accounts.own.api]\n{login}'
        f"[accounts.shared.api]\n{login}"
        f'[accounts.none]\ncontract_file = ""\n[accounts.none.api]\n{login}'
    )
    surroundings.setenv("ORDERSYNC_ACCOUNTS_FILE", "etc/accounts.toml")
    surroundings.setenv("ORDERSYNC_CONTRACT_FILE", "all.toml")
    assert {account.name: account.contract_file for account in settings.load().accounts()} == {
        "own": Path("etc/own.toml"), "shared": Path("all.toml"), "none": None,
    }  # fmt: skip


# --- the documentation ------------------------------------------------------------------------------------


def test_the_example_of_the_guide(tmp_path: Path) -> None:
    """It is a profile as it stands, and does what its comments say."""
    text = block("docs/guide/contract.md", "toml")
    (tmp_path / "vendor.json").write_text(json.dumps(VENDOR))
    profile = written(tmp_path, text).profile
    assert (profile.login_case, profile.prefixes) == ("snake", {"order": ""})
    assert profile.path("orders.search") == "/v1/orders/search"
    assert profile.path("orders.get", {"orderId": "1"}) == "/v1/orders/1"
    assert profile.path("notes.search") == "/v2/notes"
    assert profile.list_of("products.search") == Listing(page_parameter="pageNumber", first_page=0)
    assert profile.list_of("notes.search").next_in == "nextLink"
    assert profile.list_of("orders.search").since_parameter == "updatedFrom"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('next_in = "header:"', "is not a header"),
        ('next_in = "header:a b"', "is not a header"),
        ('next_in = "next"\nnext_parameter = "header:Authorization"', "is not a header"),
        ('next_in = "next"\nnext_parameter = "header:Host"', "is not a header"),
    ],
)
def test_a_continuation_that_cannot_be_used(tmp_path: Path, text: str, problem: str) -> None:
    """A token of the list must never stand in the place of the login."""
    with pytest.raises(SettingsError, match=problem):
        written(tmp_path, f'[operations."orders.search"]\n{text}\n')
