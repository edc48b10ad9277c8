"""Words of errors that others raise pass through the redaction before they are kept or shown."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ordersync_consumer import errors as kit_errors
from tests.support.paths import ROOT
from worker import errors

OWN = {name for module in (errors, kit_errors) for name in vars(module) if name[:1].isupper()}
"""Our own errors: what they say was redacted where they were made."""
_FILE = "about a file of the user, which is read before a secret is known: shown once, kept nowhere"
_TYPED = "about an argument as it was typed, shown to who typed it"
_ROW = "an error of our own, about a row that we wrote"
_SANDBOX = "errors of the sandbox, in its own words"
_COMPARED = "looked at, and raised again"
_SYSTEM = "the system says it, of a path or a program"
_FIXED = "one of a few sentences of a decoder, which quotes nothing"
ALLOWED: dict[str, str] = {
    "consumer/ordersync_consumer/envelope.py: zlib.error": _FIXED,
    "consumer/ordersync_consumer/scripts.py: NoPermissionError": _COMPARED,
    "consumer/ordersync_consumer/scripts.py: ResponseError": _COMPARED,
    "consumer/ordersync_consumer/servers/slots.py: redis.exceptions.ResponseError": _COMPARED,
    "worker/accounts/served.py: RowError": _ROW,
    "worker/accounts/store.py: RowError": _ROW,
    "worker/capture/records/fingerprint.py: ValueError": _FIXED,
    "worker/capture/state/cursor.py: (ValueError, *UNREADABLE)": "names a field of the cursor, which we write",
    "worker/cli/accounts.py: RowError": _ROW,
    "worker/cli/consume/process.py: OSError": _SYSTEM,
    "worker/cli/groups.py: ValueError": _TYPED,
    "worker/cli/sandbox.py: sandbox.ContractError": _SANDBOX,
    "worker/cli/sandbox.py: sandbox.FaultRuleError": _SANDBOX,
    "worker/cli/sandbox.py: sandbox.PermissionsError": _SANDBOX,
    "worker/cli/sandbox.py: sandbox.SandboxError": _SANDBOX,
    "worker/config/accounts_file.py: (tomllib.TOMLDecodeError, UnicodeDecodeError)": _FILE,
    "worker/config/settings.py: (SettingsError, ValueError)": _FILE,
    "worker/config/settings.py: ValueError": _FILE,
    "worker/ordermesh/contract/file.py: (ValueError, RecursionError)": _FILE,
    "worker/ordermesh/contract/file.py: NotOpenApi": _FILE,
    "worker/ordermesh/contract/file.py: ValueError": _FILE,
    "worker/ordermesh/contract/openapi_import.py: ValueError": _FILE,
    "worker/ordermesh/contract/yaml.py: yaml.YAMLError": _FILE,
    "worker/ordermesh/http/decoding.py: (BodyTooLarge, zlib.error)": _FIXED,
    "worker/redis/embedded/launch.py: OSError": _SYSTEM,
    "worker/redis/embedded/launch.py: ValkeyBinaryNotFoundError": _SYSTEM,
    "worker/surrogates.py: ValueError": _FIXED,
    "worker/web/routes.py: NoSuchOrder": "an error of our own, with what was typed",
    "worker/web/search.py: NoSuchOrder": "an error of our own, with what was typed",
}
"""What shows an error as it is, and why it may."""
SHOWING = {"str", "repr", "format"}


def found_in(path: Path) -> Iterator[str]:
    """The places of a module that turn a caught error of others into text, as `path: expression`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    private = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for handler in ast.walk(tree):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None or handler.type is None:
            continue
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        if all(ast.unparse(kind).rpartition(".")[2] in OWN | private for kind in kinds):
            continue
        for node in ast.walk(handler):
            if _shows(node, handler.name) and not _is_harmless(node, parents):
                yield f"{path.relative_to(ROOT)}: {ast.unparse(handler.type)}"


def _shows(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.FormattedValue):
        return isinstance(node.value, ast.Name) and node.value.id == name
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in SHOWING
        and any(isinstance(given, ast.Name) and given.id == name for given in node.args)
    )


def _is_harmless(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether the text is redacted, only compared, or a field of a line of the log, whose pipeline redacts it."""
    while (above := parents.get(node)) is not None and not isinstance(above, ast.stmt):
        if isinstance(above, ast.Compare):
            return True
        if isinstance(above, ast.Call) and ast.unparse(above.func) in {"words", "words_of"}:
            return True
        if isinstance(above, ast.Attribute) and above.attr in {"startswith", "partition"}:
            return True
        if isinstance(above, ast.keyword):
            call = parents[above]
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                return call.func.attr in {"debug", "info", "warning", "error", "exception", "critical"}
        node = above
    return False


def test_no_words_of_others_are_kept_or_shown_as_they_are() -> None:
    """`words_of` hides secrets before it cuts; what is here instead says why."""
    paths = [path for folder in ("worker", "jobs", "consumer") for path in (ROOT / folder).rglob("*.py")]
    found = {place for path in paths if "sandbox" not in path.parts for place in found_in(path)}
    assert found - set(ALLOWED) == set()
    assert set(ALLOWED) - found == set(), "no longer needed"
