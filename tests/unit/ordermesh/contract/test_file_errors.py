"""Contract files that cannot be used: every problem is named, with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.contract_files import SEARCH, VENDOR, written
from worker.errors import SettingsError
from worker.ordermesh.contract import file as contract_file
from worker.ordermesh.contract import yaml as yaml_reading
from worker.ordermesh.contract.file import load


def refusal(folder: Path, content: str | bytes, name: str = "contract.toml") -> str:
    """What is said of a file with this content, which names the file and ends the program with 2."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError) as caught:
        load(folder / name)
    assert caught.value.exit_status == 2
    assert str(caught.value).startswith(str(folder / name))
    return str(caught.value).removeprefix(str(folder / name))


# --- what is wrong with a profile -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[operations."orders.serch"]', 'operations."orders.serch": unknown operation. Did you mean orders.search?'),
        ('[operations."zzz"]', "unknown operation. To list them: ordersync contract show"),
        ('[operations]\n"orders.search" = "/o"', 'must be a table: [operations."orders.search"]'),
        ("operations = 1", "operations must be a table: [operations]"),
        ('prefix = "x"', "prefix is unknown here. Known names: openapi, login_case, prefixes, lists, operations. Did"),
        ('prefix = "x"', "Did you mean prefixes?"),
        ('[prefixes]\norders = ""', "prefixes.orders is unknown here. Known names: user, order, note, catalog, ship"),
        ('[prefixes]\norders = ""', "Did you mean order?"),
        ('[prefixes]\norder = "order"', 'prefixes.order must be "" or a path like "/order"'),
        ('[prefixes]\norder = "/order/"', "without a slash at its end"),
        ('[prefixes]\norder = "/{a}"', 'must be "" or a path'),
        ("[prefixes]\norder = 1", 'must be "" or a path'),
        ('[lists]\npage = "p"', "lists.page is unknown here"),
        ("[lists]\npage_parameter = 1", "lists.page_parameter must be a name in quotes, not 1"),
        ('[lists]\npage_parameter = ""', "must be a name in quotes"),
        ("[lists]\ncapped = 1", "lists.capped must be true or false, not 1"),
        ("[lists]\nfirst_page = true", "lists.first_page must be a whole number from 0"),
        ('[lists]\nfirst_page = "0"', "must be a whole number from 0"),
        ("[lists]\nfirst_page = -1", "must be a whole number from 0"),
        ("[lists]\nlargest_page = 0", "lists.largest_page must be a whole number from 1"),
        ('[lists]\nascending = "updatedAt"', "lists.ascending must be query parameters, like { sortBy"),
        ('[lists]\npage_parameter = "a\\nb"', 'must be a name in quotes, not "a\\nb"'),
        ("[lists]\nfirst_page = 2024-01-01", 'must be a whole number from 0, not "2024-01-01"'),
        (f"[lists]\nfirst_page = '{'x' * 100}'", f'not "{"x" * 59}...'),
        ("[lists]\nascending = { sortBy = 1 }", "must be query parameters"),
        ('[lists]\nlogin_case = "snake"', "lists.login_case must be at the top of the file. Move it before the first"),
        ('login_case = "Snake"', 'login_case must be one of "camel", "snake"'),
        ("login_case = ['snake']", "login_case must be one of"),
        ("openapi = 3", 'openapi must be the name of a file, like "vendor.json"'),
        ('[operations."orders.search"]\nmethod = "HEAD"', "method must be one of GET, POST, PUT, PATCH, DELETE"),
        ('[operations."orders.search"]\nmethod = 1', "method must be one of"),
        ('[operations."orders.search"]\npath = 1', "path must be a path in quotes, not 1. Built in: /order/v1/orders"),
        ('[operations."orders.search"]\npath = "o"', "path: 'o' must begin with a slash. Built in: /order/v1/orders"),
        ('[operations."orders.search"]\npath = "/o/{id}"', "has {id}, and orders.search needs no parameter"),
        ('[operations."orders.get"]\npath = "/o"', "has no parameter, and orders.get needs {orderId}"),
        ('[operations."packages.update"]\npath = "/{x}/{y}"',
         "{x} and {y} in /{x}/{y} cannot be matched to {shipmentId} and {packageId}"),
        ('[operations."orders.search"]\nurl = "/o"', 'operations."orders.search".url is unknown here'),
        ('[operations."orders.get"]\nwrapper = "x"',
         "is a field of a list, and orders.get does not return one. Remove it"),
        ('[operations."orders.get"]\nurl = "x"', "is unknown here. Known names: method, path."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    told = refusal(tmp_path, text)
    assert words in told
    assert told.startswith(" cannot be used:\n  ")


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    told = refusal(tmp_path, 'a = 1\nlogin_case = 1\n[lists]\nb = 1\n[operations."orders.get"]\npath = "x"\n')
    assert told.startswith(" cannot be used, 4 problems:\n")
    assert [line.split()[0] for line in told.splitlines()[1:]] == [
        "a", "login_case", "lists.b", 'operations."orders.get".path:',
    ]  # fmt: skip
    many = refusal(tmp_path, "".join(f"x{number} = 1\n" for number in range(1000)))
    assert len(many.splitlines()) == 22


@pytest.mark.parametrize(
    "text",
    [
        '[lists]\npage_parameter = "pageSize"',
        '[lists]\npage_parameter = "n"\n[operations."orders.search"]\nsize_parameter = "n"',
    ],
)
def test_one_name_for_two_parameters(tmp_path: Path, text: str) -> None:
    """They could not both be sent, wherever each of them comes from."""
    assert "page_parameter and size_parameter are both" in refusal(tmp_path, text)


# --- files that cannot be used ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b" \n", "is empty"),
        ("login_case = 'ä'".encode("latin-1"), "is not valid UTF-8"),
        (json.dumps(VENDOR).encode("utf-16"), "is not valid UTF-8"),
        ("login_case = ", "neither a contract profile (as TOML: Invalid value (at end of document)"),
        ("paths:\n  /a: {}\n", "nor an OpenAPI document"),
        ("[1, 2]", "neither a contract profile"),
        ("a = " + "[" * 100_000, "neither a contract profile"),
        ("a = " + "9" * 10_000, "neither a contract profile"),
        ('{"openapi": "3.0.0",}', "is not valid JSON"),
        ("{", "is not valid JSON"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 10_000 + "}", "is not valid JSON"),
        ("{}", "its top level has no `openapi`"),
        ("openapi: 3.0.0\n  a: b", "is not valid YAML"),
        ("openapi: 3.0.0\na: !!python/object:os.system {}", "is not valid YAML"),
        ("openapi: 3.0.0\na: " + "[" * 100_000, "levels deep"),
        ("openapi: 3.0.0\na:\n  " + "- " * 100_000, "levels deep"),
        ("openapi: 3.0.0\na: 2024-99-99", "is not valid YAML"),
        ("openapi: 3.0.0\n? [a]\n: b", "is not valid YAML"),
        ("openapi: 3.0.0\n---\nopenapi: 3.0.0", "is not valid YAML"),
        ("openapi: 3.0.0\na: *nowhere", "is not valid YAML"),
        ("openapi: 3.0.0\npaths: {}", "describes no operation"),
        ("openapi: 3.0.0\npaths: {/pets: {get: {summary: Pets}}}", "none of the 79 operations"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used(tmp_path: Path, content: str | bytes, words: str) -> None:
    """No file takes the program down, or holds it up."""
    assert words in refusal(tmp_path, content)


def test_merge_keys_that_multiply(tmp_path: Path) -> None:
    """Ten lines that would come to ten thousand million entries; honest ones are merged."""
    lines = ["openapi: 3.0.0", "x0: &x0 {a: 1, b: 2}"]
    lines += [f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 10)}]}}" for n in range(1, 11)]
    assert "merge keys add up to more than 100,000" in refusal(tmp_path, "\n".join(lines))
    assert yaml_reading.load_yaml("a: &a {b: 1}\nc: {<<: *a, d: 2}")["c"] == {"b": 1, "d": 2}
    large = "\n".join(f"k{n}: {{a: {n}}}" for n in range(60_000))
    assert len(yaml_reading.load_yaml(large)) == 60_000


def test_a_document_that_holds_itself(tmp_path: Path) -> None:
    text = f"openapi: 3.0.0\npaths: &p\n  /o:\n    get: &g {{summary: '{SEARCH.title}', responses: *g}}\n  /p: *p\n"
    assert written(tmp_path, text).profile.path("orders.search") == "/o"


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not there, is a folder, or has no end."""
    for file, words in {
        tmp_path / "nowhere.toml": "cannot be read: No such file or directory",
        tmp_path: "cannot be read: Is a directory",
    }.items():
        with pytest.raises(SettingsError, match=words):
            load(file)
    monkeypatch.setattr(contract_file, "LARGEST_FILE", 1024 * 1024)
    with pytest.raises(SettingsError, match="larger than 1 MiB"):
        load(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nowhere.json", None, "nowhere.json cannot be read: No such file"),
        ("other.toml", 'login_case = "snake"', "other.toml is not an OpenAPI document"),
        ("bad.json", "{", "bad.json is not valid JSON"),
        ("pets.json", '{"openapi": "3.0.0", "paths": {"/p": {"get": {}}}}', "none of the 79 operations"),
    ],
)
def test_a_document_under_a_profile_that_cannot_be_used(
    tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    """The message names the document, not the profile."""
    if content is not None:
        (tmp_path / name).write_text(content)
    (tmp_path / "contract.toml").write_text(f'openapi = "{name}"')
    with pytest.raises(SettingsError, match=words):
        load(tmp_path / "contract.toml")
