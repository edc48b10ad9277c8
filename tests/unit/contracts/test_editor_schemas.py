"""The schemas for editors say of a file what the program says that reads it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests.support.documentation import blocks
from worker.config import settings
from worker.contracts.editor_schemas import editor_schemas
from worker.errors import SettingsError
from worker.ordermesh.contract.toml_profile import profile_layer
from worker.sandbox.faults import FaultRuleError, parse_faults

PAGES = {
    "accounts": "docs/guide/accounts.md",
    "contract": "docs/guide/contract.md",
    "faults": "docs/reference/sandbox.md",
}
SCHEMAS = {name: jsonschema_rs.Draft202012Validator(schema) for name, schema in editor_schemas().items()}
LOGIN = 'client_id = "id"\nclient_secret = "made-up-secret"\n'


def _reads_accounts(text: str, folder: Path) -> bool:
    for name in ("acme", "globex"):
        (folder / name).write_text("made-up-secret")
    (folder / "accounts.toml").write_text(text.replace("/run/secrets/", ""))
    try:
        settings.load(accounts_file=folder / "accounts.toml").accounts()
    except SettingsError:
        return False
    return True


def _reads_contract(text: str, _folder: Path) -> bool:
    return not profile_layer(tomllib.loads(text), "contract.toml")[1]


def _reads_faults(text: str, _folder: Path) -> bool:
    try:
        parse_faults(tomllib.loads(text))
    except FaultRuleError:
        return False
    return True


READERS: dict[str, Callable[[str, Path], bool]] = {
    "accounts": _reads_accounts,
    "contract": _reads_contract,
    "faults": _reads_faults,
}


@pytest.mark.parametrize("kind", PAGES)
def test_the_examples_of_the_documentation(kind: str, tmp_path: Path) -> None:
    """Each names its schema in the first line, as editors want it, and is valid."""
    (text,) = [block.text for block in blocks(PAGES[kind]) if block.language == "toml"]
    assert text.startswith(f"#:schema {kind}.schema.json\n")
    assert list(SCHEMAS[kind].iter_errors(tomllib.loads(text))) == []
    assert READERS[kind](text, tmp_path)


@pytest.mark.parametrize(
    ("kind", "text", "valid"),
    [
        ("accounts", f"[accounts.a.api]\n{LOGIN}", True),
        ("accounts", f"[accounts.a.api]\n{LOGIN}requests_per_secnod = 5", False),
        ("accounts", f"[accounts.a.api]\n{LOGIN}page_size = 0", False),
        ("accounts", f"[accounts.a.api]\n{LOGIN}[accounts.a.poll]\nintervals = {{ parcels = 5 }}", False),
        ("accounts", f"[accounts.a.api]\n{LOGIN}[accounts.a.poll]\nintervals = {{ orders = 0.5 }}", False),
        ("accounts", f'[accounts.a.api]\n{LOGIN}[accounts.a.poll]\npreset = "everything"', False),
        ("accounts", f'[accounts."a b".api]\n{LOGIN}', False),
        ("accounts", f"[accounts.a.apis]\n{LOGIN}", False),
        ("accounts", f"[account.a.api]\n{LOGIN}", False),
        ("contract", '[operations."orders.search"]\npath = "/v1/orders"\nfirst_page = 0', True),
        ("contract", '[operations.orders.search]\nmethod = "post"', True),
        ("contract", '[operations."orders.serach"]\npath = "/v1/orders"', False),
        ("contract", '[operations."orders.get"]\nfirst_page = 0', False),
        ("contract", "[lists]\nfirst_page = -1", False),
        ("contract", '[lists]\ntotal = "maybe"', False),
        ("contract", '[prefixes]\norder = "order/"', False),
        ("contract", 'login_case = "kebab"', False),
        ("contract", "", True),
        ("faults", '[[rule]]\naction = "status"\ntimes = "unlimited"', True),
        ("faults", '[[rule]]\naction = "status"\nretry_after = 1.5\nprobability = 0.5', True),
        ("faults", '[[rule]]\naction = "statuss"', False),
        ("faults", '[[rule]]\naction = "status"\ncode = 99', False),
        ("faults", '[[rule]]\naction = "delay"\nseconds = -1', False),
        ("faults", '[[rule]]\naction = "delay"\nprobability = 0', False),
        ("faults", '[[rule]]\naction = "delay"\ntimes = 0', False),
        ("faults", '[[rule]]\noperation = "*"', False),
        ("faults", '[[rule]]\naction = "delay"\nsecnods = 1', False),
        ("faults", '[[fault]]\naction = "delay"', False),
    ],
)
def test_the_editor_and_the_program_agree(kind: str, text: str, valid: bool, tmp_path: Path) -> None:
    """A misspelt key, a wrong type and a number out of range are marked while they are written."""
    document: dict[str, Any] = tomllib.loads(text)
    assert (SCHEMAS[kind].is_valid(document), READERS[kind](text, tmp_path)) == (valid, valid)


@pytest.mark.parametrize("kind", PAGES)
def test_a_schema_has_no_null(kind: str) -> None:
    """TOML has none, so an editor must not offer it."""
    assert "'null'" not in repr(editor_schemas()[kind])
