"""The contract file that `ORDERSYNC_CONTRACT_FILE` names: a TOML profile, or an OpenAPI document.

Which of them a file is, its content says. A TOML profile may name an OpenAPI document as the layer under it:

    openapi = "vendor.json"            # relative to this file
    login_case = "snake"               # or "camel": how the fields of a client's login are spelled

    [prefixes]                         # of all paths of a service
    order = ""

    [lists]                            # how all lists are asked for: the fields of `Listing`
    page_parameter = "pageNumber"
    first_page = 0

    [operations."orders.search"]       # one operation: method, path, and for a list the fields of `Listing`
    method = "GET"
    path = "/v1/orders/search"
    wrapper = "data"

All that is wrong with a file is said at once.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any, get_args

from worker.errors import SettingsError
from worker.ordermesh.contract.layers import (
    BUILT_IN,
    LISTING_FIELDS,
    METHODS,
    ROUTE_FIELDS,
    Contract,
    Layer,
    built_in,
    check_method,
    fitted,
    nearest,
    stack,
)
from worker.ordermesh.contract.openapi_document import NotOpenApi
from worker.ordermesh.contract.openapi_import import Imported, import_document
from worker.ordermesh.contract.operations import OPERATIONS, SERVICES
from worker.ordermesh.contract.profile import Case
from worker.ordermesh.contract.yaml import load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

LARGEST_FILE = 32 * 1024 * 1024
"""Bytes. The vendor's document is a fraction of it."""
MAX_PROBLEMS = 20
"""Problems of one file that are told."""

_TOP = ("openapi", "login_case", "prefixes", "lists", "operations")
_GROUPS = {key.partition(".")[0] for key in OPERATIONS}
_OPENAPI_YAML = re.compile(r"""^["']?(openapi|swagger)["']?\s*:""", re.MULTILINE)
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def load(file: Path | None) -> Contract:
    """The contract that a file sets over the built-in table; without a file, that table.

    Raises:
        SettingsError: The file cannot be used. The message names the file, every place and what to do.

    """
    if file is None:
        return BUILT_IN
    contract = stack(_layers(file))
    for where, listing in (("lists", contract.profile.listing), *contract.profile.lists.items()):
        if listing.page_parameter == listing.size_parameter:
            raise SettingsError(
                f"{file}: {where}: page_parameter and size_parameter are both {listing.page_parameter!r}; "
                "set the other one too"
            )
    for key, route in contract.profile.routes.items():
        try:
            check_method(key, route.method, route.path)
        except ValueError as error:
            built_in = OPERATIONS[key].method
            raise SettingsError(f'{file}: operations."{key}".method: {error}. Built in: {built_in}') from None
    return contract


def import_file(file: Path, *, add_prefixes: bool = False) -> Imported:
    """What an OpenAPI document says of the operations; see `import_document`.

    Raises:
        SettingsError: It cannot be read, or is something else.

    """
    text = _text(file)
    if _is_profile(text):
        raise SettingsError(
            f"{file} is not an OpenAPI document: it is no JSON object, and has no line that begins with `openapi:` "
            f"or `swagger:`. A contract profile (TOML) is not imported; set ORDERSYNC_CONTRACT_FILE={file}"
        )
    return _imported(file, text, add_prefixes=add_prefixes)


def openapi_layer(file: Path, imported: Imported) -> Layer:
    """What was imported, as a layer.

    Raises:
        SettingsError: None of the operations is in it: it is the document of something else.

    """
    if not imported.matched:
        raise SettingsError(
            f"{file} describes none of the {len(OPERATIONS)} operations of OrderMesh: is it another API's? "
            f"What it describes: ordersync contract import {file}"
        )
    return Layer("OpenAPI document", str(file), operations=imported.operations)


def render(operations: Mapping[str, Mapping[str, Any]], header: str) -> str:
    """A TOML profile that sets these values of operations, with what each replaces as a comment."""
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    for key, values in operations.items():
        operation = OPERATIONS[key]
        lines += ["", f"# {operation.title}", f"[operations.{_quoted(key)}]"]
        for name, value in values.items():
            was = built_in(key, name)
            lines.append(f"{name} = {_toml(value)}" + ("" if was in (None, {}) else f"  # built in: {was}"))
    return "\n".join(lines) + "\n"


def _layers(file: Path) -> list[Layer]:
    text = _text(
        file, ". Set ORDERSYNC_CONTRACT_FILE (or contract_file in the accounts file) to one that is there"
    )
    if not _is_profile(text):
        return [openapi_layer(file, _imported(file, text))]
    profile = _profile(file, text)
    problems: list[str] = []
    layer = _Reader(profile, problems).layer(str(file))
    if problems:
        count = f", {len(problems)} problems" if len(problems) > 1 else ""
        more = ["..."] if len(problems) > MAX_PROBLEMS else []
        told = "".join(f"\n  {line}" for line in problems[:MAX_PROBLEMS] + more)
        raise SettingsError(f"{file} cannot be used{count}:{told}")
    if "openapi" not in profile:
        return [layer]
    below = file.parent / profile["openapi"]
    return [openapi_layer(below, import_file(below)), layer]


# --- reading ----------------------------------------------------------------------------------------------


def _text(file: Path, advice: str = "") -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}{advice}") from None
    except ValueError as error:  # a null character in the name
        raise SettingsError(f"{file!r} cannot be read: {error}") from None
    if len(content) > LARGEST_FILE:
        raise SettingsError(f"{file} is larger than {LARGEST_FILE // 1024**2} MiB: is it the right file?")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{file} is not UTF-8 text: save it as such") from None
    if not text.strip():
        raise SettingsError(f"{file} is empty: write a contract profile or an OpenAPI document into it")
    return text


def _is_profile(text: str) -> bool:
    """Whether a text is meant as TOML: no JSON object, and no YAML with the mark of an OpenAPI document."""
    return not text.lstrip().startswith("{") and not _OPENAPI_YAML.search(text)


def _profile(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also of a number that is too long
        raise SettingsError(
            f"{file} is neither a contract profile (as TOML: {error}) nor an OpenAPI document (it is no JSON "
            "object, and has no line that begins with `openapi:`)"
        ) from None


def _imported(file: Path, text: str, *, add_prefixes: bool = False) -> Imported:
    as_json = text.lstrip().startswith("{")
    try:
        document = json.loads(text) if as_json else load_yaml(text)
        return import_document(document, add_prefixes=add_prefixes)
    except NotOpenApi as error:
        raise SettingsError(f"{file}: {error}") from None
    except RecursionError:
        raise SettingsError(f"{file} is nested too deeply to be an OpenAPI document") from None
    except ValueError as error:
        kind = "JSON" if as_json else "YAML"
        raise SettingsError(f"{file} is no good {kind}: {' '.join(str(error).split())}") from None


# --- the TOML profile -------------------------------------------------------------------------------------


class _Reader:
    """Checks a decoded profile; what is wrong goes to `problems`, each with its place and what to do."""

    def __init__(self, profile: Mapping[str, Any], problems: list[str]) -> None:
        self._profile, self._problems = profile, problems

    def layer(self, file: str) -> Layer:
        """What is good in it."""
        for name in (name for name in self._profile if name not in _TOP):
            self._refuse(
                _quoted(name), f"is not known here; there is {', '.join(_TOP)}.{nearest(name, _TOP)}"
            )
        openapi = self._profile.get("openapi")
        if openapi is not None and (not isinstance(openapi, str) or not openapi.strip()):
            self._refuse("openapi", 'must be the name of a file, like "vendor.json"')
        case = self._profile.get("login_case")
        if case is not None and case not in get_args(Case):
            self._refuse("login_case", f"must be one of {', '.join(map(_toml, get_args(Case)))}")
            case = None
        return Layer(
            "set by hand",
            file,
            prefixes=self._prefixes(),
            lists=self._listing("lists", self._table("lists")),
            operations=self._operations(),
            login_case=case,
        )

    def _refuse(self, where: str, what: str) -> None:
        self._problems.append(f"{where} {what}")

    def _table(self, name: str) -> dict[str, Any]:
        table = self._profile.get(name, {})
        if isinstance(table, dict):
            return table
        self._refuse(name, f"must be a table: [{name}]")
        return {}

    def _prefixes(self) -> dict[str, str]:
        good = {}
        for service, prefix in self._table("prefixes").items():
            where = f"prefixes.{_quoted(service)}"
            if service not in SERVICES:
                known = f"there is {', '.join(SERVICES)}.{nearest(service, SERVICES)}"
                self._refuse(where, f"is no service; {known}")
            elif not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
                self._refuse(where, f'must be "" or a path like "/{service}", without a slash at its end')
            else:
                good[service] = prefix
        return good

    def _listing(self, where: str, table: Mapping[str, Any]) -> dict[str, Any]:
        """The good fields of `Listing` in a table."""
        good = {}
        for name, value in table.items():
            if name not in LISTING_FIELDS:
                self._refuse_name(where, name, LISTING_FIELDS)
            elif needs := _wrong(name, value):
                self._refuse(f"{where}.{name}", needs)
            else:
                good[name] = value
        return good

    def _refuse_name(self, where: str, name: str, known: Iterable[str]) -> None:
        if name in _TOP:
            advice = "stands at the top of the file: put it before the first [table]"
        else:
            advice = f"is not known here; there is {', '.join(known)}.{nearest(name, known)}"
        self._refuse(f"{where}.{_quoted(name)}", advice)

    def _operations(self) -> dict[str, dict[str, Any]]:
        good = {}
        for key, table in _named(self._table("operations")):
            where = f"operations.{_quoted(key)}"
            if key not in OPERATIONS:
                all_ = " All of them: ordersync contract show"
                self._refuse(where, f"is no operation.{nearest(key, OPERATIONS) or all_}")
            elif not isinstance(table, dict):
                self._refuse(where, f"must be a table: [{where}]")
            else:
                good[key] = self._route(where, key, table) | self._list(where, key, table)
        return good

    def _route(self, where: str, key: str, table: Mapping[str, Any]) -> dict[str, Any]:
        good = {}
        method, path = table.get("method"), table.get("path")
        if isinstance(method, str) and method.upper() in METHODS:
            good["method"] = method.upper()
        elif method is not None:
            self._refuse(f"{where}.method", f"must be one of {', '.join(METHODS)}")
        if isinstance(path, str):
            try:
                good["path"] = fitted(key, path)
            except ValueError as error:
                self._refuse(f"{where}.path:", f"{error}. Built in: {OPERATIONS[key].path}")
        elif path is not None:
            self._refuse(f"{where}.path", f'must be a path like "{OPERATIONS[key].path}"')
        return good

    def _list(self, where: str, key: str, table: Mapping[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in table.items() if name not in ROUTE_FIELDS}
        if OPERATIONS[key].records:
            return self._listing(where, rest)
        for name in rest:
            if name in LISTING_FIELDS:
                self._refuse(f"{where}.{name}", f"says how a list is asked for, and {key} is none: remove it")
            else:
                self._refuse_name(where, name, ROUTE_FIELDS)
        return {}


def _named(operations: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The tables of operations; `[operations.orders.search]` without quotes means the same."""
    for name, table in operations.items():
        if name in _GROUPS and isinstance(table, dict):
            yield from ((f"{name}.{inner}", below) for inner, below in table.items())
        else:
            yield name, table


def _wrong(name: str, value: Any) -> str:
    """What a field of `Listing` needs to be, if the value is not that; by the type that `Listing` gives it."""
    kind = LISTING_FIELDS[name]
    if kind.startswith("Mapping"):
        good = isinstance(value, dict) and all(_is_name(part) for pair in value.items() for part in pair)
        return "" if good else 'must be query parameters, like { sortBy = "updatedAt" }'
    if kind == "bool":
        return "" if isinstance(value, bool) else "must be true or false"
    if kind.startswith("int"):
        least = 0 if kind == "int" else 1
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= 1_000_000
        return "" if good else f"must be a whole number from {least}"
    return "" if _is_name(value) else "must be a name in quotes"


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()


def _quoted(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _toml(name)


def _toml(value: Any) -> str:
    """A value as TOML writes it. Its strings escape what JSON does, and the delete character."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_quoted(name)} = {_toml(inner)}" for name, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
